"""Every command in a README, a card or the documentation exists and takes the options that it is shown with."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from multiway_core.app import installed_apps
from typer.main import get_command

from multiway.cli import cli

ROOT = Path(__file__).parent.parent
PAGES = [
    path for path in sorted(ROOT.rglob("*.md")) if not {".venv", "build", "runs", "results"} & set(path.parts)
]
FENCE = re.compile(r"^```(?:sh|bash|console|shell)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(multiway(?:-[a-z]+)* [^`]+)`")
COMMANDS = {"multiway": get_command(cli)} | {
    item.app.program: get_command(item.app.load("cli")) for item in installed_apps() if item.app is not None
}


def shown_commands(page: Path) -> Iterator[list[str]]:
    """The words of each command line that starts, or goes through ``uv run``, with one of ours."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in FENCE.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *(" ".join(shown.split()) for shown in INLINE.findall(text))]:
        for command in re.split(r"&&|\|\||[|;]", line):
            try:
                words = shlex.split(command.lstrip("$ "), comments=True)
            except ValueError:  # a quotation goes on in the next line, or prose
                words = command.split()
            start = next((i for i, word in enumerate(words) if word in COMMANDS), None)
            if start is not None and (start == 0 or "run" in words[:start]):
                yield words[start:]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_and_options_exist(page: Path) -> None:
    problems = [problem for words in shown_commands(page) if (problem := wrong(words))]
    assert not problems, "\n".join(problems)


def wrong(words: list[str]) -> str | None:
    """What a command line has that the program does not: an unknown verb or option; None when all is there."""
    command = COMMANDS[words[0]]
    path, rest = words[0], words[1:]
    while hasattr(command, "commands") and rest and re.fullmatch(r"[a-z][a-z-]*", rest[0]):
        if rest[0] not in command.commands:
            return f"{path}: there is no command {rest[0]!r}: {' '.join(words)}"
        command, path, rest = command.commands[rest[0]], f"{path} {rest[0]}", rest[1:]
    if command.context_settings.get("ignore_unknown_options"):
        return None
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in rest:
        name = re.match(r"\[?(--[a-z][a-z0-9-]*)", word)
        if name and name[1] not in known | {"--help"}:
            return f"{path} has no option {name[1]}: {' '.join(words)}"
    return None

"""The ``--context`` option: text, or a file of it."""

from __future__ import annotations

from pathlib import Path

from multiway_core.errors import InputError

_MAX_BYTES = 100_000  # more than the prompt takes in any script


def read_context(argument: str | None) -> str:
    """The text that ``"Anna Kovacs, Multiway"`` or ``@names.txt`` means; empty for None.

    Raises InputError: the file is not there, is no text, or there is more than the prompt takes.
    """
    if argument is None:
        return ""
    name = "--context"
    if argument.startswith("@"):
        name = f"--context {argument}"
        argument = _read(Path(argument.removeprefix("@")), name)
    return checked_context(argument, name)


def checked_context(text: str, name: str = "context") -> str:
    """``text`` without space around it. Raises InputError that begins with ``name``: empty, or too long."""
    from multiway_speech.vibevoice_asr.prompt import MAX_CONTEXT

    text = text.strip()
    if len(text) > MAX_CONTEXT:
        raise InputError(f"{name}: {len(text):,} characters; at most {MAX_CONTEXT:,} are taken")
    if not text:
        raise InputError(f"{name}: it is empty; leave it out, or name what is spoken of")
    return text


def _read(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{name}: cannot read the file: {reason.lower()}") from error
    if len(data) > _MAX_BYTES:
        raise InputError(f"{name}: the file is larger than {_MAX_BYTES // 1000} kB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not a text file (UTF-8)") from error
    if any(not c.isprintable() and not c.isspace() for c in text):
        raise InputError(f"{name}: not a text file, it holds control characters")
    return text

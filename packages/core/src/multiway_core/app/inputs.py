"""From PATH arguments (files, folders, globs) to inputs, and from inputs to one output file each."""

from __future__ import annotations

import atexit
import glob
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from multiway_core.errors import InputError

_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Input:
    """One file to work on; ``relative`` is its path below the folder argument that led to it, or its name."""

    path: Path
    relative: Path


STDIN = "-"


def stdin_file(argument: Any) -> Any:
    """An argument as it is, or where it is ``-`` (or a list holds that), a file with what standard input gives.

    A callback of Typer arguments that name files. The file lies in a folder of this user alone, until the process ends.
    """
    if isinstance(argument, list):
        return [stdin_file(item) for item in argument]
    if argument is None or str(argument) != STDIN:
        return argument
    return type(argument)(_standard_input())


@cache
def _standard_input() -> str:
    """Standard input as a file, read once. Raises InputError: it is a terminal, or gives nothing."""
    if sys.stdin.isatty():
        raise InputError("- is standard input, and that is a terminal; give it a file: < FILE")
    folder = tempfile.mkdtemp(prefix="multiway-stdin-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder, "stdin")
    with path.open("xb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
    if not path.stat().st_size:
        raise InputError("standard input gives nothing; expected a file's bytes")
    return str(path)


def find_inputs(
    arguments: Sequence[str], suffixes: Collection[str], *, exclude: Path | None = None
) -> tuple[list[Input], list[tuple[str, str]]]:
    """Expand files, folders (searched through, hidden ones left out) and globs, in order and without repeats.

    Args:
        arguments: what the user typed; a glob that the shell did not expand is expanded here (``**`` too).
            ``-`` is standard input.
        suffixes: endings with dot, lower case (``.warc.gz`` too), that a file in a folder or behind a glob must
            have; a file that is named outright is taken whatever its ending.
        exclude: a folder not to look into (the output folder).

    Returns:
        The inputs, and for each argument that led to nothing the argument and the reason.
    """
    found: list[Input] = []
    problems: list[tuple[str, str]] = []
    seen: set[str] = set()
    for argument in arguments:
        try:
            inputs = _expand(argument, suffixes, exclude)
        except InputError as error:
            problems.append((argument, str(error)))
            continue
        for item in inputs:
            real = os.path.realpath(item.path)
            if real not in seen:
                seen.add(real)
                found.append(item)
    return found, problems


def plan_outputs(inputs: Sequence[Input], folder: Path, suffix: str) -> list[Path]:
    """One output path an input below ``folder``, no two alike (also where case does not count).

    ``scan.png`` gives ``scan<suffix>``; inputs that would share it keep their ending (``scan.png<suffix>``,
    ``scan.jpg<suffix>``), and those still alike get a digest of their absolute path. The name of an input
    depends only on the set of inputs, so a second run finds what the first one wrote.

    Raises:
        InputError: an output would replace one of the inputs.
    """
    level = [0] * len(inputs)
    while True:
        outputs = [folder / _output_name(item, level[i], suffix) for i, item in enumerate(inputs)]
        counts = Counter(str(path).casefold() for path in outputs)
        alike = [i for i, path in enumerate(outputs) if counts[str(path).casefold()] > 1 and level[i] < 2]
        if not alike:
            break
        lowest = min(level[i] for i in alike)
        for i in alike:
            if level[i] == lowest:
                level[i] += 1
    sources = {os.path.realpath(item.path) for item in inputs}
    for path in outputs:
        if os.path.realpath(path) in sources:
            raise InputError(f"the output {path} would replace an input; give another output folder")
    return outputs


def is_done(source: Path, output: Path) -> bool:
    """Whether ``output`` exists, hence whole (writes are atomic), and is not older than ``source``."""
    try:
        return output.is_file() and output.stat().st_mtime_ns >= source.stat().st_mtime_ns
    except OSError:
        return False


def _expand(argument: str, suffixes: Collection[str], exclude: Path | None) -> list[Input]:
    argument = stdin_file(argument)
    path = Path(argument)
    if path.is_dir():
        inputs = _walk(path, suffixes, exclude)
        if not inputs:
            raise InputError(f"the folder holds no file of {', '.join(sorted(suffixes))}")
        return inputs
    if os.path.lexists(path):
        return [Input(path, Path(path.name))]
    if not _GLOB.search(argument):
        raise InputError("no such file or folder")
    matches = sorted(map(Path, glob.glob(argument, recursive=True)), key=_natural)  # noqa: PTH207 keeps "./"
    inputs = []
    for match in matches:
        if match.is_dir():
            inputs += _walk(match, suffixes, exclude)
        elif match.name.lower().endswith(tuple(suffixes)):
            inputs.append(Input(match, Path(match.name)))
    if not inputs:
        raise InputError(f"nothing of {', '.join(sorted(suffixes))} matches")
    return inputs


def _walk(folder: Path, suffixes: Collection[str], exclude: Path | None) -> list[Input]:
    excluded = os.path.realpath(exclude) if exclude is not None else None
    if excluded == os.path.realpath(folder):
        excluded = None  # results beside the inputs: look, and let plan_outputs refuse what would collide
    inputs = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(Path(parent, name)) != excluded
        ]
        for name in names:
            path = Path(parent, name)
            if not name.startswith(".") and name.lower().endswith(tuple(suffixes)):
                inputs.append(Input(path, path.relative_to(folder)))
    return sorted(inputs, key=lambda item: _natural(item.path))


def _natural(path: Path) -> list[list[tuple[bool, int, str]]]:
    """Sort key by path parts in which ``page2`` comes before ``page10``."""
    return [
        [(not piece.isdecimal(), int(piece) if piece.isdecimal() else 0, piece) for piece in _pieces(part)]
        for part in path.parts
    ]


def _pieces(part: str) -> list[str]:
    return [piece for piece in re.split(r"([0-9]+)", part) if piece]


def _output_name(item: Input, level: int, suffix: str) -> Path:
    relative = item.relative
    if level == 0:
        return relative.with_name(relative.stem + suffix)
    if level == 1:
        return relative.with_name(relative.name + suffix)
    digest = hashlib.sha256(os.fsencode(os.path.realpath(item.path))).hexdigest()[:8]
    return relative.with_name(f"{relative.name}-{digest}{suffix}")

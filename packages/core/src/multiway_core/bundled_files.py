"""The files of a bundled model are what was published: their SHA-256 sums lie beside them and are compared when loaded.

``python -m multiway_core.bundled_files`` writes the sums of every installed bundled model anew, or of the folders
that are named: a training that replaces a model ends with it. Sums find what a disk or a copy damaged; who can write
into an installation can write the sums too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from multiway_core.errors import CheckpointError
from multiway_core.files import sha256, write_text

SUMS = "sha256.json"
_FREE = {SUMS, "README.md"}  # a card may be corrected


@cache
def check(folder: Path) -> None:
    """Compare the files with the folder's sums, once a process; a folder without sums passes.

    Raises CheckpointError: one is absent or not as published. 70 MB take a tenth of a second.
    """
    try:
        sums = json.loads((folder / SUMS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise _damaged(folder / SUMS) from error
    if not isinstance(sums, dict):
        raise _damaged(folder / SUMS)
    for name, expected in sums.items():
        try:
            found = sha256(folder / name)
        except OSError as error:
            raise _damaged(folder / name, "missing") from error
        if found != expected:
            raise _damaged(folder / name)


def sums_of(folder: Path) -> dict[str, str]:
    """Name below ``folder`` -> SHA-256 of every file that is checked."""
    return {path.relative_to(folder).as_posix(): sha256(path) for path in _files(folder)}


def write(folder: Path) -> None:
    """Write the sums of a folder. Raises OutputError."""
    write_text(folder / SUMS, json.dumps(sums_of(folder), indent=1) + "\n")


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).as_posix() not in _FREE:
            yield path


def _damaged(path: Path, problem: str = "damaged") -> CheckpointError:
    return CheckpointError(f"{path}: {problem}, not as it was published; install its package again")


if __name__ == "__main__":
    from multiway_core import hub

    for each in [Path(name) for name in sys.argv[1:]] or list(hub.bundled().values()):
        write(each)
        print(each)

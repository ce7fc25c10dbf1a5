"""Where indexes are when nobody says: in the user's cache, one for each set of folders; and which was last."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from multiway_core import files
from multiway_core.errors import InputError, OutputError

_LAST = "last"


def default_folder(paths: Sequence[str]) -> Path:
    """For an index of these files and folders: the same each time. Raises OutputError.

    Not inside the folder that is indexed: that may be synchronised, read-only, or under version control.
    """
    roots = [os.path.realpath(Path(path).expanduser()) for path in paths]
    digest = hashlib.sha256("\n".join(roots).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    name = "".join(c for c in Path(roots[0]).name if c.isalnum() or c in "-_.").strip(".") or "index"
    return _cache() / f"{name[:40]}-{digest}"


def remember(folder: Path) -> None:
    """Make this the last index."""
    files.write_text(_cache() / _LAST, str(folder.resolve()))


def chosen(folder: Path | None) -> Path:
    """The folder that was given, or the last index. Raises InputError: there is none."""
    if folder is not None:
        return folder
    try:
        last = Path((_cache() / _LAST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("there is no index yet: multiway-search index FOLDER makes one") from None
    if not last.is_dir():
        raise InputError(
            f"the last index, {last}, is not there any more; give one with --index, or make it again"
        )
    return last


def _cache() -> Path:
    try:
        return files.private_cache_folder("search")
    except (OSError, RuntimeError) as error:
        raise OutputError(f"no folder for the index: {error}; give one (-o for index, --index)") from error

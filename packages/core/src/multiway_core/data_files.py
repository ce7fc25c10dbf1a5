"""Reading a data set's files strictly: whatever is wrong is a DataError that names the file and the place."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from multiway_core.errors import DataError
from multiway_core.json_fields import shown

__all__ = ["check_zip", "get", "get_items", "number", "read_json", "read_text", "shown"]

Kind = TypeVar("Kind")
MAX_UNPACKED_RATIO = 100  # of what a data set packs, 30 is much; deflate alone could make 1000 of 1
FREE_UNPACKED_BYTES = 256 << 20  # below this, any ratio passes

_KIND_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "a whole number",
}


def read_text(path: Path, *, fallback_encoding: str | None = None) -> str:
    """A text file in UTF-8 (or, if it is not, in ``fallback_encoding``), line ends as line feeds."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        try:
            text = data.decode(fallback_encoding or "utf-8")
        except UnicodeDecodeError:
            number = data.count(b"\n", 0, error.start) + 1
            raise DataError(f"{path}:{number}: not UTF-8 text") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def check_zip(path: Path) -> None:
    """Refuse an archive (zip, npz) that would unpack to far more than it holds.

    Raises DataError: it is such a bomb; OSError, ``zipfile.BadZipFile``: it cannot be read.
    """
    held = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > max(FREE_UNPACKED_BYTES, MAX_UNPACKED_RATIO * held):
        raise DataError(
            f"{path}: refused: {held} bytes would unpack to {unpacked}; {MAX_UNPACKED_RATIO} times is the most"
        )


def read_json(path: Path) -> Any:
    """A JSON file's content."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise DataError(f"{path}: not JSON: nested too deeply") from error


def get(data: Any, key: str, kind: type[Kind], where: str) -> Kind:
    """``data[key]``, which must be there and of its kind. ``where`` is the file and the path inside it."""
    if not isinstance(data, dict):
        raise DataError(f"{where}: expected an object, got {shown(data)}")
    if key not in data:
        raise DataError(f"{where}: missing key {key!r}")
    value = data[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        expected = _KIND_NAMES.get(kind, kind.__name__)
        raise DataError(f"{where}.{key}: expected {expected}, got {shown(value)}")
    return value


def get_items(data: Any, key: str, where: str) -> Iterator[tuple[Any, str]]:
    """The items of the list ``data[key]``, each with its own ``where``."""
    for i, item in enumerate(get(data, key, list, where)):
        yield item, f"{where}.{key}[{i}]"


def number(value: Any, where: str) -> float:
    """A finite number, or text that is one."""
    try:
        if not isinstance(value, bool) and math.isfinite(result := float(value)):
            return result
    except (TypeError, ValueError, OverflowError):
        pass
    raise DataError(f"{where}: expected a number, got {shown(value)}")

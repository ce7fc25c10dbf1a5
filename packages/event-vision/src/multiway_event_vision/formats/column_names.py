"""Column names in files with named columns."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from multiway_core.errors import DataError

COLUMN_NAMES = ("t", "x", "y", "p")
_OTHER_NAMES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps", "t_us", "time_us"),
    "x": ("x", "xs", "x_pos"),
    "y": ("y", "ys", "y_pos"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}


def column_of(name: str) -> str | None:
    """Which of t, x, y, p a column called `name` is."""
    lowered = name.strip().lower()
    return next((column for column, names in _OTHER_NAMES.items() if lowered in names), None)


def find_columns(path: Path | str, names: Iterable[str]) -> dict[str, str]:
    """t, x, y, p -> the name among `names`. Raises DataError where one is missing."""
    names = list(names)
    found: dict[str, str] = {}
    for name in names:
        column = column_of(name)
        if column is not None:
            found.setdefault(column, name)
    missing = [column for column in COLUMN_NAMES if column not in found]
    if missing:
        held = ", ".join(sorted(names)[:8]) or "nothing"
        raise DataError(f"{path}: no column {', '.join(missing)}; expected t, x, y and p, found {held}")
    return {column: found[column] for column in COLUMN_NAMES}

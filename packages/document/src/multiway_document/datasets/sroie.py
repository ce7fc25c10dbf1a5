"""SROIE (ICDAR 2019): scanned receipts, one text line a row: ``x1,y1,x2,y2,x3,y3,x4,y4,text``.

Three layouts are in use and all are read:
 * the challenge's own: ``NAME.jpg`` and ``NAME.txt`` in one folder;
 * pictures and rows apart: ``img/NAME.jpg``, ``box/NAME.txt`` or ``.csv``, facts in ``key/`` or
 ``entities/``;
 * all in one folder: ``NAME.jpg``, ``NAME.box.csv``, ``NAME.key.json``.
Text may hold commas and is never quoted. Rows stay in the file's order, which is the reading order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from multiway_core.data_files import get, read_json, read_text, shown
from multiway_core.errors import DataError

from multiway_document.datasets.files import image_of, points_to_box
from multiway_document.datasets.sample import OcrSample, sample_of_lines
from multiway_document.result import Line

_ROW = re.compile(rb"\s*(?:-?\d+\s*,\s*){8}")


def matches(folder: Path) -> bool:
    """Whether the folder holds receipts in one of the three layouts."""
    return any(_ROW.match(_start(path)) for path in _annotations(folder)[:3])


def read(folder: Path) -> Iterator[OcrSample]:
    """The receipts of one folder; ``fields`` has company, date, address and total where given."""
    images = folder / "img" if (folder / "img").is_dir() else folder
    for path in _annotations(folder):
        name = path.name.split(".")[0] if path.name.endswith(".box.csv") else path.stem
        image = image_of(images / name, path)
        yield sample_of_lines(name, image, list(read_rows(path)), fields=_fields(folder, name))


def read_rows(path: Path) -> Iterator[Line]:
    """The text lines of one file; rows without text are passed over."""
    # Not every copy of the set is UTF-8 throughout.
    for count, row in enumerate(read_text(path, fallback_encoding="cp1252").split("\n"), 1):
        if not row.strip():
            continue
        values = row.split(",", 8)
        where = f"{path}:{count}"
        if len(values) != 9:
            raise DataError(f"{where}: expected x1,y1,x2,y2,x3,y3,x4,y4,text, got {row[:60]!r}")
        text = values[8].strip()
        box = points_to_box(list(values[:8]), where)
        if text:
            yield Line(text, box, 1.0)


def _annotations(folder: Path) -> list[Path]:
    for place, pattern in ((folder, "*.box.csv"), (folder / "box", "*.csv"), (folder / "box", "*.txt")):
        if found := sorted(place.glob(pattern)):
            return found
    return sorted(folder.glob("*.txt"))


def _fields(folder: Path, name: str) -> dict[str, str]:
    places = (f"{name}.key.json", f"key/{name}.json", f"entities/{name}.txt", f"key/{name}.txt")
    for path in (folder / place for place in places):
        if path.is_file():
            data = read_json(path)
            if not isinstance(data, dict):
                raise DataError(f"{path}: expected an object, got {shown(data)}")
            return {key: get(data, key, str, str(path)) for key in data}
    return {}


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(200).removeprefix(b"\xef\xbb\xbf")
    except OSError:
        return b""

"""Ground truth in hOCR: its lines with their boxes. Read as HTML, since not every hOCR file is clean XML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from multiway_core.data_files import read_text
from multiway_core.errors import DataError

from multiway_document.datasets.files import points_to_box
from multiway_document.result import Line

_LINES = {"ocr_line", "ocrx_line", "ocr_header", "ocr_caption", "ocr_textfloat"}
_VOID = {"br", "img", "meta", "link", "hr", "input", "area", "base", "col", "embed", "wbr"}
_BBOX = re.compile(r"(?:^|;)\s*bbox((?:\s+[-\d.]+)+)")


def read_hocr(path: Path) -> list[Line]:
    """The lines of a one-page hOCR file. Raises DataError: a line without bbox, or not exactly one page."""
    parser = _Parser(path)
    parser.feed(read_text(path))
    parser.close()
    if parser.pages != 1:
        raise DataError(f"{path}: expected one ocr_page, got {parser.pages}")
    return parser.lines


class _Parser(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.pages, self.lines = path, 0, list[Line]()
        self._depth = 0  # of open elements inside the current line, the line's own included
        self._pieces: list[str] = []
        self._title: tuple[str, str] = ("", "")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        classes = set((attributes.get("class") or "").split())
        self.pages += "ocr_page" in classes
        if tag in _VOID:
            self._pieces.append(" ")
        elif self._depth:
            self._depth += 1
        elif classes & _LINES:
            self._depth, self._pieces = 1, []
            self._title = attributes.get("title") or "", f"{self.path}:{self.getpos()[0]}"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._pieces.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if not self._depth or tag in _VOID:
            return
        self._depth -= 1
        text = " ".join("".join(self._pieces).split())
        if self._depth or not text:
            return
        title, where = self._title
        found = _BBOX.search(title)
        if found is None:
            raise DataError(f"{where}: a line without bbox in its title")
        values = found[1].split()
        if len(values) != 4:
            raise DataError(f"{where}: expected bbox x0 y0 x1 y1, got {found[0].strip()!r}")
        self.lines.append(Line(text, points_to_box(list(values), where), 1.0))

    def handle_data(self, data: str) -> None:
        self._pieces.append(data)

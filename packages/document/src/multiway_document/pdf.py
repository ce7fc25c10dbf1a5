"""PDF pages as pictures and, where a page has text of its own, as lines of text with boxes."""

from __future__ import annotations

import ctypes
import math
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import pypdfium2
import pypdfium2.raw as pdfium_c
from multiway_core.errors import InputError
from PIL import Image

from multiway_document.result import Box, Line
from multiway_document.segmentation.reading_order import reading_order

TEXT_LAYER_FLAG = "text-layer"
"""Flag of a line that was not read from the picture but taken from the file."""

MAX_TEXT_CHARACTERS = 200_000  # a page of newspaper has 30 000; more is an attack or a drawing
MAX_SIDE = 32_000  # pixels; what a renderer and Pillow handle safely
_SCAN_SHARE = 0.6  # of the page; a picture so large with few letters beside it is a scan with a stamp
_SCAN_CHARACTERS = 100
_MIN_READABLE = 0.8  # share of letters that have a meaning; less comes from fonts without a character map
_SPLIT_GAP_EM = 1.3  # as in the line finder: wider gaps part table cells
_SUBPIXELS = 16
_lock = threading.RLock()  # PDFium is not thread-safe, not even over different documents


T = TypeVar("T")


class PdfFile:
    """One open PDF file; a context manager. Every failure is an InputError that names the file."""

    def __init__(self, path: Path, password: str | None = None) -> None:
        self._path = path
        # By file object and not by name: PDFium would take the name for UTF-8.
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
        try:
            self._document = self._run(lambda: pypdfium2.PdfDocument(self._file, password=password))
            self.page_count = self._run(lambda: len(self._document))
            if self.page_count < 1:
                raise InputError(f"{path}: the PDF file has no pages")
            if self._run(self._document.get_formtype):
                self._run(self._document.init_forms)  # or what was filled in would not be drawn
        except InputError:
            self._file.close()
            raise

    def __enter__(self) -> PdfFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _lock:
            self._document.close()
        self._file.close()

    def read(self, index: int, dpi: int, max_pixels: int) -> tuple[Image.Image, list[Line] | None]:
        """(RGB picture of a page at ``dpi`` but of at most ``max_pixels``, its text lines in pixels or
        None)."""
        return self._run(lambda: self._read(index, dpi, max_pixels), page=index + 1)

    def _read(self, index: int, dpi: int, max_pixels: int) -> tuple[Image.Image, list[Line] | None]:
        page = self._document[index]
        try:
            width, height = page.get_size()
            if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
                raise InputError(f"{self._path}: page {index + 1} has no size ({width} x {height} points)")
            scale = min(dpi / 72, math.sqrt(max_pixels / (width * height)), MAX_SIDE / max(width, height))
            bitmap = page.render(scale=scale, rev_byteorder=True, fill_color=(255, 255, 255, 255))
            try:
                image = bitmap.to_pil().convert("RGB")
                image.load()
            finally:
                bitmap.close()
            return image, _text_lines(page, image.size)
        finally:
            page.close()

    def _run(self, action: Callable[[], T], page: int | None = None) -> T:
        where = f"{self._path}: page {page}" if page else f"{self._path}"
        with _lock:
            try:
                return action()
            except InputError:
                raise
            except MemoryError:
                raise InputError(f"{where}: there is not enough memory for this page") from None
            except Exception as error:
                if "password" in str(error).lower():
                    raise InputError(f"{where}: is encrypted; give its password (--password)") from None
                raise InputError(f"{where}: the PDF file is damaged ({error})") from None


def _text_lines(page: pypdfium2.PdfPage, size: tuple[int, int]) -> list[Line] | None:
    """The text layer of a page as lines in reading order, None where it is missing, unreadable or beside
    the point."""
    text_page = page.get_textpage()
    try:
        count = text_page.count_chars()
        if not 0 < count <= MAX_TEXT_CHARACTERS:
            return None
        letters = _letters(page, text_page, count, size)
    finally:
        text_page.close()
    visible = [text for text, _ in letters if text.strip()]
    readable = sum(_has_meaning(text) for text in visible)
    if not visible or readable < _MIN_READABLE * len(visible):
        return None
    if len(visible) < _SCAN_CHARACTERS and _largest_picture(page) > _SCAN_SHARE:
        return None
    lines = _group(letters)
    if not any(character.isalnum() for line in lines for character in line.text):
        return None
    heights = [(line.box[3] - line.box[1]) / 2.3 for line in lines]
    order, _ = reading_order([line.box for line in lines], heights)
    return [lines[i] for i in order]


def _letters(
    page: pypdfium2.PdfPage, text_page: pypdfium2.PdfTextPage, count: int, size: tuple[int, int]
) -> list[tuple[str, Box | None]]:
    """Every character with its box in pixels (font ascent to descent); None for spaces and breaks put in
    by PDFium."""
    letters: list[tuple[str, Box | None]] = []
    pending = ""  # the first half of a character outside the basic plane
    for i in range(count):
        code = pdfium_c.FPDFText_GetUnicode(text_page, i)
        if 0xD800 <= code < 0xDC00:
            pending = chr(code)
            continue
        character = chr(code) if 0 < code <= 0x10FFFF else "\ufffd"
        if 0xDC00 <= code < 0xE000:
            pair = (pending + character).encode("utf-16-le", "surrogatepass")
            character = pair.decode("utf-16-le", "replace")
        pending = ""
        if character in "\r\n" or pdfium_c.FPDFText_IsGenerated(text_page, i) == 1:
            letters.append((character, None))
            continue
        if character in "\x02\xad\ufffe":  # PDFium's sign for a hyphen at the end of a line
            character = "-"
        left, bottom, right, top = text_page.get_charbox(i, loose=True)
        letters.append((character, _to_pixels(page, size, left, bottom, right, top)))
    return letters


def _to_pixels(
    page: pypdfium2.PdfPage, size: tuple[int, int], left: float, bottom: float, right: float, top: float
) -> Box:
    """A box of PDF user space in pixels of the rendered page, whatever its rotation and crop box."""
    xs, ys = [], []
    x, y = ctypes.c_int(), ctypes.c_int()
    for corner in ((left, bottom), (right, top)):
        pdfium_c.FPDF_PageToDevice(page, 0, 0, size[0] * _SUBPIXELS, size[1] * _SUBPIXELS, 0, *corner, x, y)
        xs.append(min(max(x.value / _SUBPIXELS, 0.0), float(size[0])))
        ys.append(min(max(y.value / _SUBPIXELS, 0.0), float(size[1])))
    return min(xs), min(ys), max(xs), max(ys)


def _group(letters: list[tuple[str, Box | None]]) -> list[Line]:
    """Lines from characters in the file's order: PDFium's own lines, parted at wide gaps and changes of
    level.

    The letters of a line may follow each other along x or, on a turned page, along y.
    """
    runs: list[list[tuple[str, Box | None]]] = [[]]
    for character, place in letters:
        if character in "\r\n":
            runs.append([])
        elif place is None or character.isprintable():
            runs[-1].append((character, place))
    return [line for run in runs for line in _split(run)]


def _split(run: list[tuple[str, Box | None]]) -> list[Line]:
    boxes = [place for _, place in run if place is not None]
    if not boxes:
        return []
    travel = [abs(boxes[-1][axis] - boxes[0][axis]) for axis in (0, 1)]
    along, across = (0, 1) if travel[0] >= travel[1] else (1, 0)
    lines: list[Line] = []
    text, box = "", None

    def close() -> None:
        clean = unicodedata.normalize("NFC", " ".join(text.split()))
        if clean and box is not None and box[2] > box[0] and box[3] > box[1]:
            lines.append(Line(clean, box, 1.0, (TEXT_LAYER_FLAG,)))

    previous: Box | None = None
    for character, place in run:
        if place is None or character.isspace():
            text += " "
            continue
        if box is not None and previous is not None:
            thickness = min(box[across + 2] - box[across], place[across + 2] - place[across])
            shared = min(box[across + 2], place[across + 2]) - max(box[across], place[across])
            gap = max(place[along] - previous[along + 2], previous[along] - place[along + 2])
            if gap > _SPLIT_GAP_EM * (box[across + 2] - box[across]) / 1.15 or shared < 0.3 * thickness:
                close()
                text, box = "", None
        text += character
        box = place if box is None else _around(box, place)
        previous = place
    close()
    return lines


def _around(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _has_meaning(character: str) -> bool:
    return character != "\ufffd" and unicodedata.category(character[0]) not in ("Co", "Cn", "Cc", "Cs")


def _largest_picture(page: pypdfium2.PdfPage) -> float:
    """Share of the page that its largest picture covers."""
    width, height = page.get_size()
    largest = 0.0
    for picture in page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_IMAGE], max_depth=3):
        left, bottom, right, top = picture.get_bounds()
        largest = max(largest, (right - left) * (top - bottom))
    return largest / (width * height)

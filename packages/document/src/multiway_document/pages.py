"""Files of pages -> RGB pictures, one at a time: PNG, JPEG, TIFF, WebP, BMP, GIF and PDF, known by their
content.

Memory stays bounded whatever the file claims: the header is read first, JPEG files are decoded at an eighth
to full size as needed, and a picture is handed out with at most ``MAX_PAGE_PIXELS``. What can only be decoded
whole and would take too much memory is refused (`multiway_core.pictures`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from multiway_core.errors import InputError
from multiway_core.pictures import guarded, open_header, to_upright_rgb, without_pixel_limit
from PIL import Image

from multiway_document.pdf import PdfFile
from multiway_document.result import Line

MAX_PAGE_PIXELS = 40_000_000
"""Larger pages are reduced to at most so many pixels (A4 at 600 dpi has 35 million)."""

DEFAULT_DPI = 150
MAX_DPI = 1200

_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
_SUPPORTED = "PNG, JPEG, TIFF, WebP, BMP, GIF or PDF"


@dataclass(frozen=True)
class SourcePage:
    """One page of a file: ``index`` counts the file's pages from 0; ``image`` is RGB.

    ``text_lines`` is the page's own text layer (PDF only) in pixels of ``image`` and in reading order; None
    where there is none worth using, as on a scan.
    """

    index: int
    image: Image.Image
    text_lines: list[Line] | None = None


def open_pages(
    path: Path, *, pages: str | None = None, dpi: int = DEFAULT_DPI, password: str | None = None
) -> Iterator[SourcePage]:
    """The pages of a file, decoded one by one as they are asked for.

    ``pages`` picks pages by number from 1, as in ``"1-3,5"`` or ``"7-"`` (default: all); ``dpi`` and
    ``password`` are for PDF only. Of an animation only the first frame is a page, of a TIFF file every frame.
    Pictures come out upright by their EXIF tag, transparent parts white, 16 bits scaled to 8.

    Raises InputError (at once for what the file's first bytes tell, else when the page is reached) for a file
    that is missing, empty, broken, encrypted, too large or of another kind, and for pages that it does not
    have.
    """
    path = Path(path)
    if not 10 <= dpi <= MAX_DPI:
        raise InputError(f"dpi must lie between 10 and {MAX_DPI}, got {dpi}")
    wanted = None if pages is None else parse_page_ranges(pages)
    kind = _require_kind(path)
    return _pdf_pages(path, wanted, dpi, password) if kind == "pdf" else _image_pages(path, wanted)


def count_pages(path: Path) -> int:
    """How many pages :func:`open_pages` would give. Raises InputError as that does."""
    path = Path(path)
    if _require_kind(path) == "pdf":
        with PdfFile(path) as pdf:
            return pdf.page_count
    with _open_image(path) as image:
        if image.format != "TIFF":
            return 1
        return _count_frames(path, image)


def sniff(path: Path) -> Literal["image", "pdf"] | None:
    """What a file is by its first bytes, None for anything else. Raises OSError if it cannot be read."""
    with Path(path).open("rb") as file:
        head = file.read(1024)
    if b"%PDF-" in head:  # the standard allows other bytes before it
        return "pdf"
    starts = (
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"II*\0",
        b"MM\0*",
        b"II+\0",
        b"MM\0+",
        b"BM",
        b"GIF87a",
        b"GIF89a",
    )
    if head.startswith(starts) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "image"
    return None


def parse_page_ranges(spec: str) -> list[range]:
    """``"1-3,5,9-"`` as ranges of page indices from 0; an open end runs to the largest page number there
    can be."""
    ranges = []
    for part in spec.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        numbers = [number for number in (first, last) if number]
        if not first or not all(
            n.isascii() and n.isdecimal() and len(n) <= 9 and int(n) > 0 for n in numbers
        ):
            raise InputError(f"pages {spec!r}: expected numbers from 1 and ranges such as 1-3,5,9-")
        start = int(first)
        stop = int(last) if last else (start if not dash else 10**9)
        if stop < start:
            raise InputError(f"pages {spec!r}: the range {part.strip()} runs backwards")
        ranges.append(range(start - 1, stop))
    return ranges


def _chosen(path: Path, wanted: list[range] | None, count: int) -> Iterator[int]:
    """The wanted indices of ``count`` pages in ascending order."""
    if wanted is None:
        yield from range(count)
        return
    for part in wanted:
        open_end = part.stop == 10**9
        if part.start >= count or (part.stop > count and not open_end):
            asked = part.start + 1 if part.start >= count else part.stop
            raise InputError(f"{path}: page {asked} was asked for, but there {_are(count)}")
    reached = 0
    for part in sorted(wanted, key=lambda part: part.start):
        yield from range(max(part.start, reached), min(part.stop, count))
        reached = max(reached, min(part.stop, count))


def _are(count: int) -> str:
    return "is only 1 page" if count == 1 else f"are only {count} pages"


def _require_kind(path: Path) -> Literal["image", "pdf"]:
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder, expected a file ({_SUPPORTED})")
        if not path.exists():
            raise InputError(f"{path}: no such file")
        if not path.is_file():
            raise InputError(f"{path}: is not a regular file")
        if path.stat().st_size == 0:
            raise InputError(f"{path}: is empty (0 bytes)")
        kind = sniff(path)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if kind is None:
        raise InputError(f"{path}: is no picture or document that can be read; expected {_SUPPORTED}")
    return kind


def _pdf_pages(
    path: Path, wanted: list[range] | None, dpi: int, password: str | None
) -> Iterator[SourcePage]:
    with PdfFile(path, password) as pdf:
        for index in _chosen(path, wanted, pdf.page_count):
            image, lines = pdf.read(index, dpi, MAX_PAGE_PIXELS)
            yield SourcePage(index, image, lines)


def _image_pages(path: Path, wanted: list[range] | None) -> Iterator[SourcePage]:
    with _open_image(path) as image:
        if image.format != "TIFF":
            for index in _chosen(path, wanted, 1):
                yield SourcePage(index, _to_page(path, image))
            return
        for index in _chosen(path, wanted, _count_frames(path, image)):
            _go_to_frame(path, image, index)
            yield SourcePage(index, _to_page(path, image))


def _open_image(path: Path) -> Image.Image:
    """Read the header only."""
    return open_header(path, str(path), _FORMATS)


def _count_frames(path: Path, image: Image.Image) -> int:
    with without_pixel_limit():
        return guarded(str(path), lambda: int(getattr(image, "n_frames", 1)))


def _go_to_frame(path: Path, image: Image.Image, index: int) -> None:
    with without_pixel_limit():
        guarded(str(path), lambda: image.seek(index))


def _to_page(path: Path, image: Image.Image) -> Image.Image:
    """The current frame as an upright RGB picture of at most MAX_PAGE_PIXELS."""
    return to_upright_rgb(image, str(path), max_pixels=MAX_PAGE_PIXELS)

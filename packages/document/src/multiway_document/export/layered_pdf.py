"""Searchable PDF out of a PDF: the original pages, untouched, with invisible text added where they had none."""

from __future__ import annotations

import io
from pathlib import Path

import pikepdf
from multiway_core.errors import InputError
from pikepdf import Name

from multiway_document.export.invisible_font import InvisibleFont
from multiway_document.export.markup import printable
from multiway_document.export.page_images import PageImages
from multiway_document.export.pdf import embed_font, line_operators
from multiway_document.export.word_boxes import PageInk, split_line
from multiway_document.result import FROM_TEXT_LAYER, Document, Page


def add_text_layer(
    path: Path, document: Document, *, images: PageImages, password: str | None = None
) -> bytes:
    """The pages of the PDF file that ``document`` was read from, each as it is; a page that was read by a model gets
    its words as invisible text, word on word.

    Pages that were not read are left out. Signatures of the file become invalid, as with any change.
    Raises InputError for a file that cannot be opened.
    """
    try:
        pdf = pikepdf.open(path, password=password or "")
    except pikepdf.PasswordError:
        raise InputError(f"{path}: is encrypted; give its password (--password)") from None
    except pikepdf.PdfError as error:
        raise InputError(f"{path}: the PDF file is damaged ({error})") from None
    with pdf:
        pages = {page.index: page for page in document.pages}
        read = [page for page in document.pages if FROM_TEXT_LAYER not in page.flags]
        font = InvisibleFont(" " + "".join(printable(line.text) for page in read for line in page.lines))
        if read:
            embedded = embed_font(pdf, font)
            for page in read:
                _add(pdf, pdf.pages[page.index], page, images, font, embedded)
        for index in reversed(range(len(pdf.pages))):
            if index not in pages:
                del pdf.pages[index]
        written = io.BytesIO()
        pdf.save(written, deterministic_id=not pdf.is_encrypted, encryption=False)
        return written.getvalue()


def _add(
    pdf: pikepdf.Pdf,
    target: pikepdf.Page,
    page: Page,
    images: PageImages,
    font: InvisibleFont,
    embedded: pikepdf.Object,
) -> None:
    """Add the text of a page, which was read from its picture, to its content."""
    x0, y0, x1, y1 = (float(value) for value in target.cropbox)
    x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    turned = _rotation(target)
    shown_width = (y1 - y0) if turned in (90, 270) else (x1 - x0)
    shown_height = (x1 - x0) if turned in (90, 270) else (y1 - y0)
    scale = shown_width / max(page.width, 1)
    # From the page as it is shown, in points from its lower left corner, to the page's own coordinates.
    matrix = {
        0: (1, 0, 0, 1, x0, y0),
        90: (0, 1, -1, 0, x1, y0),
        180: (-1, 0, 0, -1, x1, y1),
        270: (0, -1, 1, 0, x0, y1),
    }[turned]
    ink = PageInk(page, images(page.index))
    lines = [split_line(line, ink) for line in page.lines]
    text = "".join(line_operators(words, font, scale, shown_height) for words in lines if words)
    if not text:
        return
    name = target.add_resource(embedded, Name.Font, Name("/MultiwayInvisible"))
    text = text.replace("/Invisible ", f"{name} ")
    place = " ".join(f"{value:.4f}" for value in matrix)
    # The page's own operators may leave the state changed: they are put in brackets.
    target.contents_add(pdf.make_stream(b"q\n"), prepend=True)
    target.contents_add(pdf.make_stream(f"\nQ\nq {place} cm\nBT 3 Tr\n{text}ET\nQ\n".encode("ascii")))


def _rotation(page: pikepdf.Page) -> int:
    """The rotation of a page in degrees, which may stand at one of its parents."""
    node: pikepdf.Object | None = page.obj
    for _ in range(64):
        if node is None:
            break
        if "/Rotate" in node:
            return int(node["/Rotate"]) % 360
        node = node.get("/Parent")
    return 0

"""Tab-separated values with the columns of Tesseract's TSV: a row a page, block, paragraph, line and word."""

from __future__ import annotations

from multiway_document.export.markup import pixel_box
from multiway_document.export.page_images import PageImages
from multiway_document.export.word_boxes import page_words
from multiway_document.result import Box, Document, Page

COLUMNS = [
    "level",
    "page_num",
    "block_num",
    "par_num",
    "line_num",
    "word_num",
    "left",
    "top",
    "width",
    "height",
    "conf",
    "text",
]


def to_tsv(document: Document, images: PageImages | None = None) -> bytes:
    """The document as UTF-8 TSV; ``images``, if given, sharpen the word boxes.

    ``conf`` is 0 to 100 for words and -1 otherwise. A page with text is one block of one paragraph.
    """
    rows = ["\t".join(COLUMNS)]
    for number, page in enumerate(document.pages, 1):
        rows += _page(page, number, images)
    return ("\n".join(rows) + "\n").encode()


def _page(page: Page, number: int, images: PageImages | None) -> list[str]:
    rows = [_row(page, (1, number, 0, 0, 0, 0), (0, 0, page.width, page.height))]
    lines = page_words(page, images)
    if lines:
        x0, y0, x1, y1 = zip(*(line.box for line, _ in lines), strict=True)
        around = (min(x0), min(y0), max(x1), max(y1))
        rows += [_row(page, (2, number, 1, 0, 0, 0), around), _row(page, (3, number, 1, 1, 0, 0), around)]
    for i, (line, words) in enumerate(lines, 1):
        rows.append(_row(page, (4, number, 1, 1, i, 0), line.box))
        for j, word in enumerate(words, 1):
            rows.append(
                _row(page, (5, number, 1, 1, i, j), word.box, f"{100 * word.confidence:.2f}", word.text)
            )
    return rows


def _row(page: Page, numbers: tuple[int, ...], box: Box, conf: str = "-1", text: str = "") -> str:
    x0, y0, x1, y1 = pixel_box(box, page)
    return "\t".join([*map(str, (*numbers, x0, y0, x1 - x0, y1 - y0)), conf, text])

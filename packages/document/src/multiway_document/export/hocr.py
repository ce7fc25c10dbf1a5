"""hOCR 1.2: XHTML whose class and title attributes say what each piece is and where it stands."""

from __future__ import annotations

from multiway_document.export.direction import is_right_to_left
from multiway_document.export.markup import escape, pixel_box
from multiway_document.export.page_images import PageImages
from multiway_document.export.word_boxes import page_words
from multiway_document.result import Box, Document, Page


def to_hocr(document: Document, images: PageImages | None = None) -> bytes:
    """The document as hOCR (ocr_page, ocr_line, ocrx_word); ``images``, if given, sharpen the word boxes."""
    pages = "".join(_page(document, page, number, images) for number, page in enumerate(document.pages, 1))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        "<!DOCTYPE html>\n"
        '<html xmlns="http://www.w3.org/1999/xhtml">\n'
        f"<head>\n<title>{escape(document.source)}</title>\n"
        '<meta http-equiv="Content-Type" content="text/html; charset=utf-8"/>\n'
        f'<meta name="ocr-system" content="multiway {escape(document.model)}"/>\n'
        '<meta name="ocr-capabilities" content="ocr_page ocr_line ocrx_word"/>\n'
        f'<meta name="ocr-number-of-pages" content="{len(document.pages)}"/>\n'
        f"</head>\n<body>\n{pages}</body>\n</html>\n"
    ).encode()


def _page(document: Document, page: Page, number: int, images: PageImages | None) -> str:
    source = document.source.replace('"', "'")  # the property's own quotes
    title = escape(f'image "{source}"; bbox 0 0 {page.width} {page.height}; ppageno {page.index}')
    out = [f'<div class="ocr_page" id="page_{number}" title="{title}">\n']
    for index, (line, words) in enumerate(page_words(page, images), 1):
        way = ' dir="rtl"' if is_right_to_left(line.text) else ""
        out.append(f'<span class="ocr_line" id="line_{number}_{index}"{way} title="{_bbox(line.box, page)}">')
        spans = []
        for i, word in enumerate(words, 1):
            title = f"{_bbox(word.box, page)}; x_wconf {round(100 * word.confidence)}"
            spans.append(
                f'<span class="ocrx_word" id="word_{number}_{index}_{i}" title="{title}">'
                f"{escape(word.text)}</span>"
            )
        out.append(" ".join(spans) + "</span><br/>\n")
    return "".join([*out, "</div>\n"])


def _bbox(box: Box, page: Page) -> str:
    return "bbox {} {} {} {}".format(*pixel_box(box, page))

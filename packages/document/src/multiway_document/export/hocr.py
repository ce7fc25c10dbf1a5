"""hOCR 1.2: XHTML whose class and title attributes say what each piece is and where it stands."""

from __future__ import annotations

from multiway_document.export.blocks import around, blocks_of
from multiway_document.export.direction import is_right_to_left
from multiway_document.export.markup import escape, pixel_box
from multiway_document.export.page_images import PageImages
from multiway_document.export.word_boxes import page_words
from multiway_document.result import Box, Document, Line, Page, Word

DESCENT_SHARE = 0.2


def to_hocr(document: Document, images: PageImages | None = None) -> bytes:
    """The document as hOCR: pages, areas, paragraphs, lines, words; ``images``, if given, sharpen the word boxes."""
    pages = "".join(_page(document, page, number, images) for number, page in enumerate(document.pages, 1))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        "<!DOCTYPE html>\n"
        '<html xmlns="http://www.w3.org/1999/xhtml">\n'
        f"<head>\n<title>{escape(document.source)}</title>\n"
        '<meta http-equiv="Content-Type" content="text/html; charset=utf-8"/>\n'
        f'<meta name="ocr-system" content="multiway {escape(document.model)}"/>\n'
        '<meta name="ocr-capabilities" content="ocr_page ocr_carea ocr_par ocr_line ocrx_word"/>\n'
        f'<meta name="ocr-number-of-pages" content="{len(document.pages)}"/>\n'
        f"</head>\n<body>\n{pages}</body>\n</html>\n"
    ).encode()


def _page(document: Document, page: Page, number: int, images: PageImages | None) -> str:
    source = document.source.replace('"', "'")  # the property's own quotes
    title = escape(f'image "{source}"; bbox 0 0 {page.width} {page.height}; ppageno {page.index}')
    out = [f'<div class="ocr_page" id="page_{number}" title="{title}">\n']
    index = 0
    for block, lines in enumerate(blocks_of(page_words(page, images)), 1):
        place = _bbox(around([line.box for line, _ in lines]), page)
        out.append(f'<div class="ocr_carea" id="block_{number}_{block}" title="{place}">\n')
        out.append(f'<p class="ocr_par" id="par_{number}_{block}" title="{place}">\n')
        for line, words in lines:
            index += 1
            out.append(_line(line, words, page, f"{number}_{index}"))
        out.append("</p>\n</div>\n")
    return "".join([*out, "</div>\n"])


def _line(line: Line, words: list[Word], page: Page, name: str) -> str:
    way = ' dir="rtl"' if is_right_to_left(line.text) else ""
    # A line's box reaches from font ascent to descent: the base line lies a fifth of its height above the bottom.
    base = -round(DESCENT_SHARE * (line.box[3] - line.box[1]))
    title = f"{_bbox(line.box, page)}; baseline 0 {base}"
    spans = [
        f'<span class="ocrx_word" id="word_{name}_{i}" '
        f'title="{_bbox(word.box, page)}; x_wconf {round(100 * word.confidence)}">{escape(word.text)}</span>'
        for i, word in enumerate(words, 1)
    ]
    return (
        f'<span class="ocr_line" id="line_{name}"{way} title="{title}">' + " ".join(spans) + "</span><br/>\n"
    )


def _bbox(box: Box, page: Page) -> str:
    return "bbox {} {} {} {}".format(*pixel_box(box, page))

"""ALTO 4 (Library of Congress): pages, one text block a page, lines, strings and the spaces between them."""

from __future__ import annotations

from multiway_document.export.direction import is_right_to_left
from multiway_document.export.markup import escape, pixel_box
from multiway_document.export.page_images import PageImages
from multiway_document.export.word_boxes import page_words
from multiway_document.result import Box, Document, Line, Page, Word

NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
_SCHEMA = "http://www.loc.gov/standards/alto/v4/alto-4-4.xsd"


def to_alto(document: Document, images: PageImages | None = None) -> bytes:
    """The document as ALTO XML in whole pixels; ``images``, if given, sharpen the word boxes."""
    pages = "".join(_page(page, number, images) for number, page in enumerate(document.pages, 1))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<alto xmlns="{NAMESPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xsi:schemaLocation="{NAMESPACE} {_SCHEMA}" SCHEMAVERSION="4.4">\n'
        "<Description>\n<MeasurementUnit>pixel</MeasurementUnit>\n"
        f"<sourceImageInformation><fileName>{escape(document.source)}</fileName></sourceImageInformation>\n"
        '<Processing ID="processing_1"><processingCategory>contentGeneration</processingCategory>'
        "<processingSoftware><softwareName>multiway</softwareName>"
        f"<applicationDescription>{escape(document.model)}</applicationDescription></processingSoftware>"
        "</Processing>\n</Description>\n"
        f"<Layout>\n{pages}</Layout>\n</alto>\n"
    ).encode()


def _page(page: Page, number: int, images: PageImages | None) -> str:
    whole = _place((0, 0, page.width, page.height), page)
    out = [
        f'<Page ID="page_{number}" PHYSICAL_IMG_NR="{page.index + 1}" WIDTH="{page.width}"'
        f' HEIGHT="{page.height}" PROCESSINGREFS="processing_1">\n<PrintSpace {whole}>\n'
    ]
    lines = page_words(page, images)
    if lines:
        boxes = [pixel_box(line.box, page) for line, _ in lines]
        x0, y0, x1, y1 = zip(*boxes, strict=True)
        around = _place((min(x0), min(y0), max(x1), max(y1)), page)
        out.append(f'<TextBlock ID="block_{number}" {around}>\n')
        out += [_line(line, words, page, f"{number}_{i}") for i, (line, words) in enumerate(lines, 1)]
        out.append("</TextBlock>\n")
    out.append("</PrintSpace>\n</Page>\n")
    return "".join(out)


def _line(line: Line, words: list[Word], page: Page, name: str) -> str:
    way = ' BASEDIRECTION="rtl"' if is_right_to_left(line.text) else ""
    out = [f'<TextLine ID="line_{name}" {_place(line.box, page)}{way}>']
    for i, word in enumerate(words):
        if i:
            before, here = sorted([words[i - 1].box, word.box])
            gap = pixel_box((before[2], before[1], max(here[0], before[2]), before[3]), page)
            out.append(f'<SP HPOS="{gap[0]}" VPOS="{gap[1]}" WIDTH="{gap[2] - gap[0]}"/>')
        out.append(
            f'<String ID="string_{name}_{i + 1}" {_place(word.box, page)}'
            f' WC="{word.confidence:.4f}" CONTENT="{escape(word.text)}"/>'
        )
    return "".join([*out, "</TextLine>\n"])


def _place(box: Box, page: Page) -> str:
    x0, y0, x1, y1 = pixel_box(box, page)
    return f'HPOS="{x0}" VPOS="{y0}" WIDTH="{x1 - x0}" HEIGHT="{y1 - y0}"'

"""Searchable PDF: the picture of each page with its text laid over it, invisible, word on word.

Text is drawn in render mode 3 (neither filled nor stroked). A word is set as high as its line's box and
stretched to the width of its own; the space after it fills the gap to the next word, so that copied text has
its spaces.
"""

from __future__ import annotations

import io

import pikepdf
from multiway_core.errors import InputError
from pikepdf import Array, Dictionary, Name, Object, Stream, String
from PIL import Image

from multiway_document.export.direction import visual_text
from multiway_document.export.invisible_font import ASCENT, DESCENT, UNITS_PER_EM, InvisibleFont
from multiway_document.export.markup import printable
from multiway_document.export.page_images import PageImages
from multiway_document.export.reference_font import advance, text_width
from multiway_document.export.word_boxes import PageInk, split_line
from multiway_document.result import Document, Page, Word

_POINTS_PER_INCH = 72
_DEFAULT_DPI = 150
_LARGEST_SIDE = 14_400  # points; the format's limit
_JPEG_QUALITY = 85
_GREATEST_STRETCH = 3.0  # of a glyph, compared with the reference font as high as the line


def to_pdf(document: Document, images: PageImages | None = None) -> bytes:
    """The document as a searchable PDF; a page is as large as its picture's resolution says (else 150 dpi).

    Raises InputError without page pictures: a searchable PDF is made of them.
    """
    if images is None:
        raise InputError("export to pdf needs the pictures of the pages: give images=")
    pdf = pikepdf.new()
    font = InvisibleFont(
        " " + "".join(printable(line.text) for page in document.pages for line in page.lines)
    )
    embedded = embed_font(pdf, font)
    for page in document.pages:
        _add_page(pdf, page, images(page.index), font, embedded)
    pdf.docinfo[Name.Title] = String(printable(document.source))
    pdf.docinfo[Name.Producer] = String(f"multiway {document.model}")
    written = io.BytesIO()
    pdf.save(written, deterministic_id=True)  # the same document gives the same bytes
    return written.getvalue()


def _add_page(
    pdf: pikepdf.Pdf, page: Page, image: Image.Image, font: InvisibleFont, embedded: Object
) -> None:
    scale = _POINTS_PER_INCH / _dpi(image, page)
    width, height = max(page.width, 1) * scale, max(page.height, 1) * scale
    ink = PageInk(page, image)
    lines = [split_line(line, ink) for line in page.lines]
    content = f"q {width:.3f} 0 0 {height:.3f} 0 0 cm /Page Do Q\nBT 3 Tr\n"
    content += "".join(line_operators(words, font, scale, height) for words in lines if words) + "ET"
    resources = Dictionary(XObject=Dictionary(Page=_picture(pdf, image)), Font=Dictionary(Invisible=embedded))
    made = Dictionary(
        Type=Name.Page, MediaBox=Array([0, 0, width, height]), Resources=resources,
        Contents=pdf.make_stream(content.encode("ascii")),
    )  # fmt: skip
    pdf.pages.append(pikepdf.Page(pdf.make_indirect(made)))


def line_operators(words: list[Word], font: InvisibleFont, scale: float, page_height: float) -> str:
    """The operators that write a line: one text object, since readers may reorder the parts of several.

    The line is stretched as its words ask; between glyphs (TJ) the pen is moved to where each should begin. A
    glyph wider than the lines are apart makes readers mix up the lines, so a rule read as one dash is not
    stretched to its end.
    """
    _, top, _, bottom = words[0].box
    size = max(bottom - top, 1) * scale * UNITS_PER_EM / (ASCENT - DESCENT)
    baseline = page_height - bottom * scale - DESCENT / UNITS_PER_EM * size
    starts: list[tuple[str, float]] = []  # every glyph and its x in pixels
    widest = _GREATEST_STRETCH * max(bottom - top, 1) / UNITS_PER_EM
    placed = sorted(words, key=lambda word: word.box[0])
    for index, word in enumerate(placed):
        # Readers expect glyphs as they stand on the page and turn right-to-left text round themselves.
        text, (left, _, right, _) = visual_text(word.text), word.box
        unit = min((right - left) / max(text_width(text), 1), widest)
        for character in text:
            starts.append((character, left))
            left += advance(character) * unit
        if index + 1 < len(placed):
            starts.append((" ", right))
    # Pixels a thousandth of the stretched font size: that of the words, whatever the gaps between them.
    natural = sum(text_width(word.text) for word in words) or UNITS_PER_EM
    unit = min(max(sum(word.box[2] - word.box[0] for word in words), 0.01) / natural, widest)
    left = placed[0].box[0]
    pieces, pen = [], left
    for character, start in starts:
        move = round((pen - start) / unit)  # towards the left, in thousandths
        if move:
            pieces.append(f"> {move} <")
        pieces.append(font.encode(character))
        pen += (advance(character) - move) * unit
    stretch = 100 * unit * scale * UNITS_PER_EM / size
    glyphs = "".join(pieces)
    return (
        f"/Invisible {size:.3f} Tf {stretch:.3f} Tz 1 0 0 1 {left * scale:.3f} {baseline:.3f} Tm"
        f" [<{glyphs}>] TJ\n"
    )


def embed_font(pdf: pikepdf.Pdf, font: InvisibleFont) -> Object:
    """The font as an object of a PDF file."""
    name = Name("/AAAAAA+Invisible")
    program = font.true_type()
    descriptor = Dictionary(
        Type=Name.FontDescriptor, FontName=name, Flags=4, ItalicAngle=0, StemV=0,
        FontBBox=Array([0, DESCENT, UNITS_PER_EM, ASCENT]), Ascent=ASCENT, Descent=DESCENT, CapHeight=ASCENT,
        FontFile2=pdf.make_stream(program, Length1=len(program)),
    )  # fmt: skip
    descendant = Dictionary(
        Type=Name.Font, Subtype=Name.CIDFontType2, BaseFont=name, CIDToGIDMap=Name.Identity,
        CIDSystemInfo=Dictionary(Registry=String("Adobe"), Ordering=String("Identity"), Supplement=0),
        FontDescriptor=pdf.make_indirect(descriptor), DW=0, W=Array([0, Array(font.advances)]),
    )  # fmt: skip
    composite = Dictionary(
        Type=Name.Font, Subtype=Name.Type0, BaseFont=name, Encoding=Name("/Identity-H"),
        DescendantFonts=Array([pdf.make_indirect(descendant)]), ToUnicode=pdf.make_stream(font.to_unicode()),
    )  # fmt: skip
    return pdf.make_indirect(composite)


def _picture(pdf: pikepdf.Pdf, image: Image.Image) -> Stream:
    """The page's picture as an image object: grey or colour JPEG, and black-and-white pages without loss."""
    if image.mode == "1":
        data, space, bits, coding = image.tobytes(), Name.DeviceGray, 1, {}
    else:
        grey = image.mode in ("L", "LA", "I", "I;16", "F")
        buffer = io.BytesIO()
        image.convert("L" if grey else "RGB").save(buffer, "JPEG", quality=_JPEG_QUALITY)
        data, space, bits = buffer.getvalue(), Name.DeviceGray if grey else Name.DeviceRGB, 8
        coding = {"Filter": Name.DCTDecode}
    return pdf.make_stream(
        data, Type=Name.XObject, Subtype=Name.Image, Width=image.width, Height=image.height,
        ColorSpace=space, BitsPerComponent=bits, **coding,
    )  # fmt: skip


def _dpi(image: Image.Image, page: Page) -> float:
    """Pixels an inch of the page: the picture's own statement if it is believable."""
    stated = image.info.get("dpi", (_DEFAULT_DPI,))
    try:
        dpi = float(stated[0])
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        dpi = _DEFAULT_DPI
    if not 50 <= dpi <= 2400:
        dpi = _DEFAULT_DPI
    dpi *= max(page.width, 1) / max(image.width, 1)
    return max(dpi, max(page.width, page.height) * _POINTS_PER_INCH / _LARGEST_SIDE)

"""An invisible font, generated for one PDF, for the text layer.

Every distinct character of the document is one glyph without area, whose advance is the reference font's.
That carries any character of Unicode (up to 65,534 different ones a document), needs no font file, and is a
few hundred bytes once compressed. A ToUnicode map gives the characters back to whoever copies or searches.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib.tables._g_l_y_f import Glyph

from multiway_document.export.reference_font import advance

UNITS_PER_EM = 1000
ASCENT = 800
DESCENT = -200
MAX_GLYPHS = 65_535


class InvisibleFont:
    """Glyph numbers of the characters of one document; glyph 0 is the one for no character."""

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = sorted(set(characters))[: MAX_GLYPHS - 1]
        self._glyphs = {character: i + 1 for i, character in enumerate(self.characters)}
        self.advances = [0, *map(advance, self.characters)]

    def encode(self, text: str) -> str:
        """The text as hexadecimal two-byte glyph numbers."""
        return "".join(f"{self._glyphs.get(character, 0):04X}" for character in text)

    def true_type(self) -> bytes:
        """The font program: the tables that PDF asks of an embedded TrueType font, outlines without area."""
        names = [".notdef", *(f"g{i}" for i in range(1, len(self.advances)))]
        font = FontBuilder(UNITS_PER_EM, isTTF=True)
        font.setupGlyphOrder(names)
        font.setupGlyf(dict(zip(names, map(_outline, self.advances), strict=True)))
        font.setupHorizontalMetrics({n: (width, 0) for n, width in zip(names, self.advances, strict=True)})
        font.setupHorizontalHeader(ascent=ASCENT, descent=DESCENT)
        font.updateHead(created=0, modified=0)
        font.font.recalcTimestamp = False  # the same document gives the same bytes
        program = io.BytesIO()
        font.save(program)
        return program.getvalue()

    def to_unicode(self) -> bytes:
        """The CMap from glyph numbers to UTF-16."""
        rows = [
            f"<{i:04X}> <{character.encode('utf-16-be', 'replace').hex().upper()}>"
            for i, character in enumerate(self.characters, 1)
        ]
        blocks = [rows[i : i + 100] for i in range(0, len(rows), 100)]  # the format's limit
        ranges = "\n".join(
            f"{len(block)} beginbfchar\n" + "\n".join(block) + "\nendbfchar" for block in blocks
        )
        return (
            "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n"
            "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def\n"
            "/CMapName /Adobe-Identity-UCS def\n/CMapType 2 def\n"
            f"1 begincodespacerange\n<0000> <FFFF>\nendcodespacerange\n{ranges}\n"
            "endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend\n"
        ).encode("ascii")


def _outline(width: int) -> Glyph:
    """One contour along the diagonal and back: no area, but a bounding box, by which readers measure."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, DESCENT))
    pen.lineTo((width, ASCENT))
    pen.lineTo((0, DESCENT))
    pen.closePath()
    return pen.glyph(dropImpliedOnCurves=False)

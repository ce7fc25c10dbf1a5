"""A font without ink, made to measure for one PDF: it gives text a place without drawing anything.

Every distinct character of the document is one glyph without area, whose advance is the reference font's.
That carries any character of Unicode (up to 65,534 different ones a document), needs no font file, and is a
few hundred bytes once compressed. A ToUnicode map gives the characters back to whoever copies or searches.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable

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
        count = len(self.advances)
        outlines = [_outline(width) for width in self.advances]
        ends = list(itertools.accumulate(map(len, outlines), initial=0))
        tables = {
            b"glyf": b"".join(outlines),
            b"head": struct.pack(
                ">IIIIHHQQhhhhHHhhh",
                *(0x00010000, 0x00010000, 0, 0x5F0F3CF5, 0x000B, UNITS_PER_EM, 0, 0),
                *(0, DESCENT, UNITS_PER_EM, ASCENT, 0, 8, 2, 1, 0),
            ),
            b"hhea": struct.pack(
                ">IhhhHhhhhhhhhhhhH",
                *(
                    0x00010000,
                    ASCENT,
                    DESCENT,
                    0,
                    max(self.advances),
                    0,
                    0,
                    UNITS_PER_EM,
                    1,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                ),
                *(0, count),
            ),
            b"hmtx": b"".join(struct.pack(">Hh", width, 0) for width in self.advances),
            b"loca": struct.pack(f">{count + 1}I", *ends),
            b"maxp": struct.pack(
                ">IHHHHHHHHHHHHHH", 0x00010000, count, 3, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0
            ),
        }
        return _sfnt(tables)

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


def _outline(width: int) -> bytes:
    """One contour along the diagonal and back: no area, but a bounding box, by which readers measure."""
    box = struct.pack(">hhhhh", 1, 0, DESCENT, width, ASCENT)
    points = struct.pack(">HHBBB", 2, 0, 1, 1, 1)  # last point, no instructions, three points on the curve
    xs = struct.pack(">hhh", 0, width, -width)
    ys = struct.pack(">hhh", DESCENT, ASCENT - DESCENT, DESCENT - ASCENT)
    return (box + points + xs + ys).ljust(32, b"\0")


def _sfnt(tables: dict[bytes, bytes]) -> bytes:
    """TrueType tables with their directory and checksums."""
    power = len(tables).bit_length() - 1
    header = struct.pack(
        ">IHHHH", 0x00010000, len(tables), 16 << power, power, 16 * len(tables) - (16 << power)
    )
    directory, body = b"", b""
    start = len(header) + 16 * len(tables)
    for tag, data in sorted(tables.items()):
        padded = data + bytes(-len(data) % 4)
        directory += struct.pack(">4sIII", tag, _checksum(padded), start + len(body), len(data))
        body += padded
    font = bytearray(header + directory + body)
    head = font.index(tables[b"head"])
    struct.pack_into(">I", font, head + 8, (0xB1B0AFBA - _checksum(font)) % 2**32)
    return bytes(font)


def _checksum(data: bytes | bytearray) -> int:
    return sum(struct.unpack(f">{len(data) // 4}I", data)) % 2**32

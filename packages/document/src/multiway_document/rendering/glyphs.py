"""Text set from large cached glyphs and scaled down: fast, and unhinted as print and PDF renderers are.

FreeType spends most of its time on hinting, again for every glyph and size. A page printed and scanned shows
no hinting, so each glyph is drawn once per face at a large size; a line is put together from those and
reduced by area.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, features

from multiway_document.rendering.fonts import FontFace

ATLAS_X_HEIGHT = 24.0
_KERNED = frozenset(
    string.ascii_letters + ".,-'’“”"
)  # pairs of others are rare and would only fill the cache
LIGATURES = ("ffi", "ffl", "ff", "fi", "fl")


@lru_cache(maxsize=1)
def can_shape() -> bool:
    """Whether Pillow was built with Raqm, which sets ligatures and full kerning."""
    return bool(features.check("raqm"))


@dataclass(frozen=True)
class Glyph:
    """``ink`` uint8 (height, width), 255 is ink; its corner lies at ``x``, ``y`` from the pen (y down)."""

    ink: np.ndarray
    x: int
    y: int
    advance: float


@dataclass(frozen=True)
class SetLine:
    """A line set at the scale of the atlas: ``ink`` 255 is ink; the pen starts at ``x``, ends at ``x +
    width``.
    """

    ink: np.ndarray
    baseline: int
    x: int
    width: float


class GlyphAtlas:
    """Glyphs and kerning of one face at an x-height of 24 pixels, drawn when first asked for."""

    def __init__(self, face: FontFace):
        self.size = ATLAS_X_HEIGHT / face.x_height
        self.font = face.at(self.size, shaped=can_shape())
        ascent, descent = self.font.getmetrics()
        self.pad = int(self.size * 0.4)
        self.ascent, self.descent = ascent + self.pad, descent + self.pad
        self._glyphs: dict[str, Glyph] = {}
        self._kerning: dict[tuple[str, str], float] = {}

    def glyph(self, piece: str) -> Glyph:
        """A character, or a ligature drawn as one."""
        found = self._glyphs.get(piece)
        if found is None:
            x0, y0, x1, y1 = (int(v) for v in self.font.getbbox(piece, anchor="ls"))
            image = Image.new("L", (max(1, x1 - x0), max(1, y1 - y0)))
            ImageDraw.Draw(image).text((-x0, -y0), piece, fill=255, font=self.font, anchor="ls")
            found = self._glyphs[piece] = Glyph(np.asarray(image), x0, y0, self.font.getlength(piece))
        return found

    def kerning(self, left: str, right: str) -> float:
        """What is added to the advance of ``left`` before ``right``."""
        if left not in _KERNED or right not in _KERNED:
            return 0.0
        found = self._kerning.get((left, right))
        if found is None:
            together = self.font.getlength(left + right)
            found = together - self.glyph(left).advance - self.glyph(right).advance
            self._kerning[left, right] = found if abs(found) < 0.3 * self.size else 0.0
        return self._kerning[left, right]

    def set_line(
        self, text: str, *, letter_spacing: float = 0.0, word_spacing: float = 0.0, ligatures: bool = True
    ) -> SetLine:
        """Set ``text``; spacings are added after every letter and every blank, in em."""
        pieces = split_ligatures(text) if ligatures and not letter_spacing else list(text)
        pen, previous = float(self.pad), ""
        placed: list[tuple[Glyph, float]] = []
        for piece in pieces:
            glyph = self.glyph(piece)
            if previous:
                pen += self.kerning(previous[-1], piece[0])
            placed.append((glyph, pen))
            pen += (
                glyph.advance
                + letter_spacing * self.size
                + (word_spacing * self.size if piece == " " else 0.0)
            )
            previous = piece
        height, width = self.ascent + self.descent, int(pen) + self.pad + 1
        ink = np.zeros((height, width), np.uint8)
        for glyph, x in placed:
            left, top = int(x + 0.5) + glyph.x, self.ascent + glyph.y
            part = glyph.ink
            if left < 0 or top < 0:
                part = part[max(0, -top) :, max(0, -left) :]
                left, top = max(0, left), max(0, top)
            view = ink[top : top + part.shape[0], left : left + part.shape[1]]
            np.maximum(view, part[: view.shape[0], : view.shape[1]], out=view)
        return SetLine(ink, self.ascent, self.pad, pen - self.pad)

    def measure(self, text: str) -> float:
        """Width of ``text`` in em, with kerning."""
        total, previous = 0.0, ""
        for piece in split_ligatures(text):
            if previous:
                total += self.kerning(previous[-1], piece[0])
            total += self.glyph(piece).advance
            previous = piece
        return total / self.size


@lru_cache(maxsize=512)
def atlas(face: FontFace) -> GlyphAtlas:
    """The atlas of a face (kept: that is its point)."""
    return GlyphAtlas(face)


def split_ligatures(text: str) -> list[str]:
    """Characters, with ff, fi, fl, ffi, ffl as one piece each if Pillow can set ligatures."""
    if "f" not in text or not can_shape():
        return list(text)
    pieces, i = [], 0
    while i < len(text):
        piece = (
            next((lig for lig in LIGATURES if text.startswith(lig, i)), text[i])
            if text[i] == "f"
            else text[i]
        )
        pieces.append(piece)
        i += len(piece)
    return pieces


def scale_ink(line: SetLine, scale: float) -> tuple[np.ndarray, float, float]:
    """``(ink, baseline, x)`` of a set line reduced (or enlarged) by ``scale``."""
    height, width = line.ink.shape
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    ink = cv2.resize(line.ink, size, interpolation=method)
    return ink, line.baseline * size[1] / height, line.x * size[0] / width


def place(image: np.ndarray, line: SetLine, scale: float, x: float, baseline: float) -> float:
    """Print a set line black on ``image`` in place, pen at ``x``; what lies outside is cut. The base line
    drawn on.
    """
    ink, own_baseline, own_x = scale_ink(line, scale)
    left, top = round(x - own_x), round(baseline - own_baseline)
    y0, x0 = max(0, top), max(0, left)
    view = image[y0 : max(y0, top + ink.shape[0]), x0 : max(x0, left + ink.shape[1])]
    part = ink[y0 - top :, x0 - left :][: view.shape[0], : view.shape[1]]
    np.minimum(view, 255 - part, out=view)
    return top + own_baseline

"""Synthetic text lines as the reader crops them from a page: 32 pixels high, x-height about 10 pixels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw

from multiway_document.rendering.degrade import degrade
from multiway_document.rendering.fonts import FontFace, FontLibrary
from multiway_document.rendering.glyphs import ATLAS_X_HEIGHT, atlas, can_shape, place
from multiway_document.rendering.text import TextSource

LINE_HEIGHT = 32
X_HEIGHT = 10.0
BASELINE_ROW = 23  # as the crops of `multiway_document.segmentation` have it
HINTED_SHARE = (
    0.12  # drawn by FreeType at the size itself, as on screens; the rest from large glyphs, as in print
)


@dataclass(frozen=True)
class RenderedLine:
    """``image`` uint8 (32, width), dark on white; ``text`` in the alphabet."""

    image: np.ndarray
    text: str


@lru_cache(maxsize=2048)
def _vertical_extent(face: FontFace) -> tuple[float, float]:
    """Ink height of ascenders and capitals above the base line, and of descenders below it, in em."""
    font = face.at(100)
    return -font.getbbox("bdfhklABH", anchor="ls")[1] / 100, font.getbbox("gjpqy", anchor="ls")[3] / 100


@dataclass
class _Drawing:
    """A strip of page around one line. All in its own pixels."""

    image: np.ndarray
    baseline: float
    left: float
    right: float


class LineSampler:
    """Draws random lines of ``texts`` in random faces of ``fonts``."""

    def __init__(self, fonts: FontLibrary, texts: TextSource):
        self.fonts, self.texts = fonts, texts

    def __call__(
        self, rng: np.random.Generator, max_characters: int, *, min_characters: int = 1, degraded: bool
    ) -> RenderedLine:
        """One line of ``min_characters`` to ``max_characters`` characters.

        Scale, place and margins jitter as real crops do. ``degraded`` adds :func:`degrade` before the crop,
        with the flattening and contrast stretch that page preparation applies, in most cases.
        """
        face, text = self._face_and_text(rng, max_characters, min_characters)
        x_height = self._source_x_height(rng, len(text), degraded)
        drawing = self._draw(rng, face, text, x_height)
        image = drawing.image
        if degraded:
            image = degrade(image, rng, x_height=x_height)
            image = flatten(image, rng) if rng.random() < 0.85 else _dark_on_white(image)
        return RenderedLine(_crop(rng, face, text, drawing, image, x_height), text)

    def _face_and_text(self, rng: np.random.Generator, high: int, low: int) -> tuple[FontFace, str]:
        for _ in range(20):
            face = self.fonts.draw(rng)
            text = face.restrict(self.texts.line(rng, high, low))
            if len(text) >= low:
                return face, text
        # A face of few characters met exotic text twenty times over: plain words are in every face.
        return face, face.restrict(self.texts.word_salad(rng, high + 20).encode("ascii", "ignore").decode())[
            :high
        ].strip() or "a"

    @staticmethod
    def _source_x_height(rng: np.random.Generator, characters: int, degraded: bool) -> float:
        """Pixels of x-height on the page that the line is cut from: 60 to 300 dpi; long lines cost more."""
        high = 20.0 if characters < 25 else 15.0
        low = 4.2 if degraded and rng.random() < 0.25 else 7.5
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    def _draw(self, rng: np.random.Generator, face: FontFace, text: str, x_height: float) -> _Drawing:
        """The line with 3.4 x-heights of paper above the base line, 2.6 below and 3.5 on each side."""
        pad, baseline = int(3.5 * x_height), 3.4 * x_height
        letter_spacing = rng.uniform(-0.04, 0.14) if rng.random() < 0.10 else 0.0
        if rng.random() < 0.03:  # headings and tills
            letter_spacing = rng.uniform(0.14, 0.4)
        word_spacing = rng.uniform(-0.08, 0.7) if rng.random() < 0.30 else 0.0
        if rng.random() < HINTED_SHARE:
            size = round(x_height / face.x_height * 4) / 4
            font = face.at(size, shaped=can_shape() and rng.random() < 0.5)
            right = pad + font.getlength(text)
            canvas = Image.new("L", (int(right) + pad + 1, int(6 * x_height)), 255)
            ImageDraw.Draw(canvas).text((pad, baseline), text, fill=0, font=font, anchor="ls")
        else:
            glyphs = atlas(face)
            line = glyphs.set_line(
                text, letter_spacing=letter_spacing, word_spacing=word_spacing, ligatures=rng.random() < 0.5
            )
            right = pad + line.width * x_height / ATLAS_X_HEIGHT
            image = np.full((int(6 * x_height), int(right) + pad + 1), 255, np.uint8)
            baseline = place(image, line, x_height / ATLAS_X_HEIGHT, pad, baseline)
            canvas = Image.fromarray(image)
        draw = ImageDraw.Draw(canvas)
        if rng.random() < 0.08:
            self._rule(rng, draw, pad, right, baseline, x_height)
        image = np.array(canvas)
        if rng.random() < 0.18:
            self._neighbours(rng, image, face, text, pad, baseline, x_height)
        return _Drawing(image, baseline, float(pad), right)

    @staticmethod
    def _rule(
        rng: np.random.Generator,
        draw: ImageDraw.ImageDraw,
        left: float,
        right: float,
        baseline: float,
        x_height: float,
    ) -> None:
        """A rule under the line or above it, full or dashed, or now and then a strike through it."""
        choice = rng.random()
        if choice < 0.6:
            y = baseline + rng.uniform(0.12, 0.7) * x_height
        elif choice < 0.9:
            y = baseline - rng.uniform(1.55, 2.1) * x_height
        else:
            y = baseline - 0.5 * x_height
        ink, width = int(rng.integers(0, 120)), max(1, round(0.1 * x_height))
        dash = rng.uniform(0.3, 0.8) * x_height if rng.random() < 0.35 else right - left
        x = left
        while x < right:
            draw.line([(x, y), (min(x + dash, right), y)], fill=ink, width=width)
            x += 1.8 * dash

    def _neighbours(
        self, rng: np.random.Generator, image: np.ndarray, face: FontFace, text: str,
        left: float, baseline: float, x_height: float,
    ) -> None:  # fmt: skip
        """What a crop keeps of the lines above and below: their lowest or highest 0-15 %, or nothing."""
        size = x_height / face.x_height
        above, below = (extent * size for extent in _vertical_extent(face))
        height = above + below
        half_window = LINE_HEIGHT / X_HEIGHT / 2 * x_height
        middle = baseline - (above - below) / 2
        for side in (-1, 1):
            if rng.random() < 0.3:
                continue
            other = face.restrict(self.texts.passage(rng, len(text) + 3))[: len(text) + 3]
            cut = half_window + rng.uniform(-0.15, 0.1) * height
            y = middle - cut - below if side < 0 else middle + cut + above
            place(
                image,
                atlas(face).set_line(other),
                x_height / ATLAS_X_HEIGHT,
                left + rng.uniform(-1, 1) * size,
                y,
            )


def _dark_on_white(image: np.ndarray) -> np.ndarray:
    return cv2.bitwise_not(image) if np.median(image[::3, ::3]) < 110 else image


def flatten(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Dark on white, even light, full contrast: as page preparation leaves a page, with some slack.

    Lone black and white pixels are taken out by a median where there are many, the light is divided out, and
    contrast is stretched from the darkest ink to the paper less one standard deviation of its noise.
    """
    image = _dark_on_white(image)
    if rng.random() < 0.9 and _has_impulses(image):
        image = cv2.medianBlur(image, 3)
    height, width = image.shape
    small = cv2.resize(image, (max(1, width // 8), max(1, height // 8)), interpolation=cv2.INTER_AREA)
    background = cv2.blur(
        cv2.dilate(small, np.ones((3, 5), np.uint8)), (9, 5), borderType=cv2.BORDER_REPLICATE
    )
    background = cv2.resize(np.maximum(background, 1), (width, height), interpolation=cv2.INTER_LINEAR)
    image = cv2.divide(image, background, scale=200)
    sample = image[::2, ::3]
    dark, paper = (float(v) for v in np.percentile(sample, [rng.uniform(0.1, 3), 60]))
    above = sample[sample > paper]
    noise = float(np.sqrt(np.mean((above - paper) ** 2))) if above.size else 0.0
    light = paper - min(rng.uniform(0.6, 1.3) * noise, 0.35 * (paper - dark))
    dark -= rng.uniform(0, 0.2) * max(light - dark, 0)
    gain = min(255 / max(light - dark, 1), 15.0)
    table = np.clip(255 + (np.arange(256) - light) * gain, 0, 255).astype(np.uint8)
    return cv2.LUT(image, table)


def _has_impulses(image: np.ndarray) -> bool:
    """Whether more than 0.4 % of the pixels stand out from all their neighbours, as strokes never do."""
    ring = np.ones((3, 3), np.uint8)
    ring[1, 1] = 0
    pepper = np.count_nonzero(cv2.subtract(cv2.erode(image, ring), image) > 60)
    salt = np.count_nonzero(cv2.subtract(image, cv2.dilate(image, ring)) > 60)
    return bool(max(pepper, salt) > 0.004 * image.size)


def _scale_error(rng: np.random.Generator, face: FontFace, text: str) -> float:
    """By what factor a crop's x-height differs from the 10 pixels meant.

    Segmentation may take capitals or figures for small letters where a line has nothing else to compare with.
    """
    if rng.random() < (0.06 if any(map(str.islower, text)) else 0.35):
        capital = -face.at(100).getbbox("H", anchor="ls")[1] / 100
        return float(face.x_height / capital * np.exp(rng.normal(0, 0.06)))
    return float(np.exp(rng.normal(0, 0.13)).clip(0.75, 1.35))


def _crop(
    rng: np.random.Generator, face: FontFace, text: str, drawing: _Drawing, image: np.ndarray, x_height: float
) -> np.ndarray:
    """Scale to an x-height of about 10 pixels and cut 32 rows, the base line near row 23 or the letters centred."""
    above, below = (extent / face.x_height for extent in _vertical_extent(face))  # in x-heights
    scale = X_HEIGHT / x_height * _scale_error(rng, face, text)
    scale = min(scale, (LINE_HEIGHT - 1) / ((above + below) * x_height))
    stretch = float(np.clip(rng.normal(1, 0.06), 0.85, 1.15))
    if rng.random() < 0.2:  # tills print narrow letters, and headings of twice the width
        stretch = float(np.exp(rng.normal(-0.05, 0.25)).clip(0.6, 1.8))
    unit = x_height * scale
    if rng.random() < 0.7:
        row = BASELINE_ROW + rng.normal(-0.3, 0.9)
    else:
        row = (LINE_HEIGHT + (above - below) * unit) / 2 + rng.normal(0, 1.2)
    row = float(np.clip(row, above * unit - 0.5, LINE_HEIGHT + 0.5 - below * unit))
    margins = rng.uniform(2, 16, 2) if rng.random() < 0.6 else rng.uniform(3, 6, 2)
    # CTC needs one frame of 4 pixels for each character, and one more between equal ones.
    frames = len(text) + sum(a == b for a, b in itertools.pairwise(text)) + 1
    stretch = max(stretch, (4 * frames - margins.sum()) / ((drawing.right - drawing.left) * scale))
    size = (max(1, round(image.shape[1] * scale * stretch)), max(1, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 0.8 else (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.random() < 0.6)]
    scaled = cv2.resize(image, size, interpolation=method)
    y = round(drawing.baseline * scale - row)
    x0 = max(0, round(drawing.left * scale * stretch - margins[0]))
    x1 = min(size[0], round(drawing.right * scale * stretch + margins[1]))
    window = scaled[max(0, y) : y + LINE_HEIGHT, x0:x1]
    missing_top = max(0, -y)
    missing_bottom = LINE_HEIGHT - window.shape[0] - missing_top
    if missing_top or missing_bottom:
        window = cv2.copyMakeBorder(window, missing_top, missing_bottom, 0, 0, cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(window)

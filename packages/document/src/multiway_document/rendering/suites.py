"""Held-out pages under the conditions in which readers are compared (clean, 60 dpi, uneven light, and so on).

Fonts are whole families never trained on, texts are documents never trained on, and everything follows from a
seed. The conditions are those of published comparisons of engines on one kind of page: continuous text on A4
or Letter. Where only a name was given, its strength was chosen so that it is plainly hard and plainly
legible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from multiway_document.rendering.degrade import add_normal_noise, add_salt_and_pepper
from multiway_document.rendering.fonts import FontLibrary
from multiway_document.rendering.layout import Box
from multiway_document.rendering.pages import Kind, PageSampler, RenderedPage
from multiway_document.rendering.text import TextSource

Change = Callable[[RenderedPage, np.random.Generator], RenderedPage]


def as_it_is(page: RenderedPage, rng: np.random.Generator) -> RenderedPage:
    """No change."""
    return page


def uneven_light(page: RenderedPage, rng: np.random.Generator) -> RenderedPage:
    """Light falls from 1 to 0.3 across the page in a random direction; Gaussian noise of 12 grey levels."""
    height, width = page.image.shape
    angle = rng.uniform(0, 2 * np.pi)
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    ramp = np.cos(angle) * x + np.sin(angle) * y
    ramp = (ramp - ramp.min()) / (ramp.max() - ramp.min())
    lit = (page.image * (0.3 + 0.7 * ramp)).astype(np.uint8)
    return replace(page, image=add_normal_noise(lit, rng, 12))


def low_contrast_noise(page: RenderedPage, rng: np.random.Generator) -> RenderedPage:
    """Contrast of 15 % (38 grey levels between ink and paper), then Gaussian noise of 8 grey levels."""
    faint = cv2.convertScaleAbs(page.image, alpha=0.15, beta=float(rng.uniform(90, 170)))
    return replace(page, image=add_normal_noise(faint, rng, 8))


def salt_pepper(page: RenderedPage, rng: np.random.Generator) -> RenderedPage:
    """8 % of the pixels become black or white."""
    return replace(page, image=add_salt_and_pepper(page.image, rng, 0.08))


def skew(degrees: float) -> Change:
    """A change that rotates the page, either way, on a larger canvas; boxes become the hulls of theirs."""

    def change(page: RenderedPage, rng: np.random.Generator) -> RenderedPage:
        angle = degrees if rng.random() < 0.5 else -degrees
        height, width = page.image.shape
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
        cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
        new_width, new_height = round(width * cos + height * sin), round(width * sin + height * cos)
        matrix[:, 2] += (new_width - width) / 2, (new_height - height) / 2
        image = cv2.warpAffine(
            page.image, matrix, (new_width, new_height), flags=cv2.INTER_CUBIC, borderValue=255
        )
        lines = [(text, transform_box(box, matrix)) for text, box in page.lines]
        return replace(page, image=image, lines=lines)

    return change


def transform_box(box: Box, matrix: np.ndarray) -> Box:
    """The upright hull of a box under an affine map, float (2, 3)."""
    x0, y0, x1, y1 = box
    corners = np.array([[x0, y0, 1], [x1, y0, 1], [x1, y1, 1], [x0, y1, 1]]) @ matrix.T
    (left, top), (right, bottom) = corners.min(0), corners.max(0)
    return float(left), float(top), float(right), float(bottom)


@dataclass(frozen=True)
class Condition:
    """A resolution at which pages are drawn, and a change made to them."""

    dpi: float
    change: Change


CONDITIONS: dict[str, Condition] = {
    "clean_150": Condition(150, as_it_is),
    "dpi_60": Condition(60, as_it_is),
    "uneven_light": Condition(150, uneven_light),
    "low_contrast_noise": Condition(150, low_contrast_noise),
    "salt_pepper": Condition(150, salt_pepper),
    "skew_8": Condition(150, skew(8.0)),
}


@lru_cache(maxsize=1)
def held_out_sampler() -> PageSampler:
    """Pages in held-out families with held-out texts of this machine."""
    return PageSampler(FontLibrary.discover().split("held_out"), TextSource.discover(split="held_out"))


def suite(
    condition: str, count: int, *, seed: int = 0, kind: Kind = "text", sampler: PageSampler | None = None
) -> Iterator[RenderedPage]:
    """``count`` pages under a condition of :data:`CONDITIONS`; page ``i`` has the same font and text in each.

    Raises:
        KeyError: there is no such condition.
    """
    chosen = CONDITIONS[condition]
    sampler = sampler or held_out_sampler()
    for i in range(count):
        page = sampler(np.random.default_rng([seed, i]), chosen.dpi, kind)
        yield chosen.change(page, np.random.default_rng([seed, i, 1]))

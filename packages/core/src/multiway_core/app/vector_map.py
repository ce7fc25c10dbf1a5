"""A map of texts around a search, for demos: vectors on their two principal axes, drawn as SVG."""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

WIDTH, HEIGHT = 400, 250
_LETTER, _LINE, _DOT = 7.0, 11.0, 4.0  # sizes on a telephone, where they are largest beside the picture
Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""
CSS = """
.map svg { width: 100%; max-height: 420px; display: block; border: 1px solid var(--border-color-primary);
  border-radius: 8px; background: var(--background-fill-primary); }
.map circle { fill: var(--body-text-color-subdued); opacity: 0.55; }
.map circle.near { fill: #2563eb; opacity: 1; }
.map line { stroke: #2563eb; stroke-width: 1; opacity: 0.6; }
.map path { fill: #d97706; }
.map text { fill: var(--body-text-color); font-size: 12px; }
@media (min-width: 700px) { .map text { font-size: 9px; } }
.map text.query { font-weight: 600; }
"""
"""Colours are the page's own, light or dark."""


def vector_map(
    vectors_NE: Any, names: Sequence[str], titles: Sequence[str], near: Collection[int], label: str
) -> tuple[str, float]:
    """An SVG of named points, with lines from the search to the nearest, and how much of the whole it shows.

    Args:
        vectors_NE: row 0 is the search, the others are the texts, in the order of ``names``.
        names: written beside the points; an empty one is left out.
        titles: shown when a pointer rests on a point.
        near: numbers of the texts that the search found.
        label: of the picture, for those who do not see it.

    Returns:
        The picture, and the share of the variance that its two axes show, 0..1. All that was given is escaped.
    """
    lengths_N1 = np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    places, share = _plane(vectors_NE / np.maximum(lengths_N1, 1e-12))
    (x0, y0), *others = places
    parts = [
        f"<line x1='{x0:.1f}' y1='{y0:.1f}' x2='{others[n][0]:.1f}' y2='{others[n][1]:.1f}'/>" for n in near
    ]
    words = ["search", *names]
    for number, ((x, y), word, (place, anchor)) in enumerate(
        zip(places, words, label_places(places, words), strict=True)
    ):
        if number == 0:
            mark = f"<path d='M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z'/>"
        else:
            kind = " class='near'" if number - 1 in near else ""
            title = html.escape(titles[number - 1])
            mark = f"<circle{kind} cx='{x:.1f}' cy='{y:.1f}' r='{_DOT:g}'><title>{title}</title></circle>"
        parts.append(mark)
        if word:
            kind = "" if number else " class='query'"
            x, y = place
            parts.append(
                f"<text{kind} x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>{html.escape(word)}</text>"
            )
    label = html.escape(label, quote=True)
    picture = f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{label}'>{''.join(parts)}</svg>"
    return picture, share


def label_places(
    places: Sequence[tuple[float, float]], words: Sequence[str]
) -> list[tuple[tuple[float, float], str]]:
    """Where each label's text begins, ends or has its middle, and which of these (SVG's ``text-anchor``): beside its
    point, over no other point or earlier label where that is possible.
    """
    taken: list[Box] = [(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y in places]
    found = []
    for (x, y), word in zip(places, words, strict=True):
        wide = _LETTER * len(word)
        near, low = _DOT + 3, 0.4 * _LINE
        sides = (
            ((x + near, y + low), "start", (x + near, y - low, x + near + wide, y + low)),
            ((x - near, y + low), "end", (x - near - wide, y - low, x - near, y + low)),
            ((x, y - near), "middle", (x - wide / 2, y - near - 2 * low, x + wide / 2, y - near)),
            ((x, y + near + 2 * low), "middle", (x - wide / 2, y + near, x + wide / 2, y + near + 2 * low)),
        )
        place, anchor, box = min(sides, key=lambda side: _covered(side[2], taken))
        taken.append(box)
        found.append((place, anchor))
    return found


def _plane(unit_NE: Any) -> tuple[list[tuple[float, float]], float]:
    """Places on the picture by the first two principal axes, and the share of the variance that they show."""
    centred_NE = unit_NE - unit_NE.mean(0)
    left, values, _ = np.linalg.svd(centred_NE, full_matrices=False)
    flat_N2 = np.zeros((len(unit_NE), 2))
    axes = min(2, len(values))
    flat_N2[:, :axes] = left[:, :axes] * values[:axes]
    share = float((values[:axes] ** 2).sum() / max((values**2).sum(), 1e-12))
    low, high = flat_N2.min(0), flat_N2.max(0)
    scaled_N2 = (flat_N2 - low) / np.maximum(high - low, 1e-9)
    across, down = 20, 14  # margins
    return [
        (across + x * (WIDTH - 2 * across), down + y * (HEIGHT - 2 * down)) for x, y in scaled_N2.tolist()
    ], share


def _covered(box: Box, taken: Sequence[Box]) -> float:
    """The area that a box shares with others or has outside of the picture."""
    left, top, right, bottom = box
    inside = max(0.0, min(right, WIDTH) - max(left, 0.0)) * max(0.0, min(bottom, HEIGHT) - max(top, 0.0))
    shared = sum(
        max(0.0, min(right, other[2]) - max(left, other[0]))
        * max(0.0, min(bottom, other[3]) - max(top, other[1]))
        for other in taken
    )
    return shared + (right - left) * (bottom - top) - inside

"""The demo's pictures as SVG and HTML; all that a visitor or a model wrote is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from multiway_text.encoder.relations import Relations

WIDTH, HEIGHT = 400, 250
NEAREST = 3
_DIGIT, _LINE, _DOT = 7.0, 11.0, 4.0  # sizes on a telephone, where they are largest beside the picture
Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""
CSS = """
.map, .pair { color: var(--body-text-color); font-size: 14px; }
.note { color: var(--body-text-color-subdued); padding: 8px 0; }
.map svg { width: 100%; max-height: 420px; display: block; border: 1px solid var(--border-color-primary);
  border-radius: 8px; background: var(--background-fill-primary); }
.map circle { fill: var(--body-text-color-subdued); opacity: 0.55; }
.map circle.near { fill: #2563eb; opacity: 1; }
.map line { stroke: #2563eb; stroke-width: 1; opacity: 0.6; }
.map path { fill: #d97706; }
.map text { fill: var(--body-text-color); font-size: 12px; }
@media (min-width: 700px) { .map text { font-size: 9px; } }
.map text.query { font-weight: 600; }
.map ol { list-style: none; margin: 10px 0 0; padding: 0; }
.map li { display: grid; grid-template-columns: 26px minmax(0, 1fr) 52px; gap: 8px; padding: 4px 0;
  border-bottom: 1px solid var(--border-color-primary); overflow-wrap: anywhere; }
.map li b, .map li i { font-style: normal; font-variant-numeric: tabular-nums; }
.map li i { text-align: right; }
.map li.far { color: var(--body-text-color-subdued); }
.pair .maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); gap: 16px; }
.pair h3 { font-size: 14px; margin: 0 0 4px; font-weight: 600; overflow-wrap: anywhere; }
.pair svg { width: 100%; display: block; }
.pair rect { fill: #2563eb; }
.pair rect.frame { fill: none; stroke: var(--border-color-primary); }
.pair text { fill: var(--body-text-color); font-size: 9px; }
"""
"""Of both pictures; colours are the page's own, light or dark."""


def text_map(query: str, texts: Sequence[str], vectors_NE: Any, seconds: float) -> str:
    """Texts as numbered points on their two principal axes, lines from the query (row 0) to its nearest, and a list."""
    lengths_N1 = np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    unit_NE = vectors_NE / np.maximum(lengths_N1, 1e-12)
    cosines = unit_NE[1:] @ unit_NE[0]
    order = np.argsort(-cosines, kind="stable")
    near = set(order[:NEAREST].tolist())
    places, share = _plane(unit_NE)
    x0, y0 = places[0]
    parts = [
        f"<line x1='{x0:.1f}' y1='{y0:.1f}' x2='{places[n + 1][0]:.1f}' y2='{places[n + 1][1]:.1f}'/>"
        for n in near
    ]
    labels = _labels(places)
    for number, text in enumerate(texts):
        x, y = places[number + 1]
        name = " class='near'" if number in near else ""
        place, anchor = labels[number + 1]
        parts.append(
            f"<circle{name} cx='{x:.1f}' cy='{y:.1f}' r='{_DOT:g}'><title>{html.escape(text)}</title></circle>"
            f"<text x='{place[0]:.1f}' y='{place[1]:.1f}' text-anchor='{anchor}'>{number + 1}</text>"
        )
    (x, y), anchor = labels[0]
    parts.append(
        f"<path d='M{x0:.1f} {y0 - 5:.1f}l5 5l-5 5l-5 -5z'/>"
        f"<text class='query' x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>search</text>"
    )
    rows = "".join(
        f"<li class='{'near' if n in near else 'far'}'><b>{n + 1}</b><span>{html.escape(texts[n])}</span>"
        f"<i>{cosines[n]:.3f}</i></li>"
        for n in order.tolist()
    )
    label = html.escape(f"Map of {len(texts)} texts around the search {query}", quote=True)
    return (
        f"<div class='map'><svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{label}'>"
        f"{''.join(parts)}</svg>"
        f"<div class='note'>{len(texts) + 1} texts in {1000 * seconds:.0f} ms. The picture shows {share:.0%} of how "
        f"they differ; the cosines on the right of the list are of the whole vectors.</div><ol>{rows}</ol></div>"
    )


def heat_maps(found: Sequence[tuple[str, Relations]], note: str) -> str:
    """Relations of one or two models: a row a token, the darker a cell the larger its share of the row."""
    maps = "".join(f"<div><h3>{html.escape(name)}</h3>{_heat_map(one, name)}</div>" for name, one in found)
    about = "Each row is a token; its cells say how it relates to the tokens of the columns. "
    return f"<div class='pair'><div class='maps'>{maps}</div><div class='note'>{about}{html.escape(note)}</div></div>"


def _heat_map(found: Relations, name: str) -> str:
    count, cell, left = len(found.tokens), 14, 74
    side = left + count * cell
    strongest = max(float(found.probabilities_TT.max()), 1e-12)
    parts = []
    for row, token in enumerate(found.tokens):
        said = html.escape(token[:11])
        y = left + row * cell
        parts.append(f"<text x='{left - 4}' y='{y + 10}' text-anchor='end'>{said}</text>")
        parts.append(f"<text transform='translate({y + 10} {left - 4}) rotate(-90)'>{said}</text>")
        for column, value in enumerate(found.probabilities_TT[row].tolist()):
            title = html.escape(f"{token} to {found.tokens[column]}: {value:.3f}")
            parts.append(
                f"<rect x='{left + column * cell}' y='{y}' width='{cell - 1}' height='{cell - 1}' "
                f"opacity='{(value / strongest) ** 0.5:.2f}'><title>{title}</title></rect>"
            )
    size = count * cell
    frame = f"<rect class='frame' x='{left - 1}' y='{left - 1}' width='{size + 1}' height='{size + 1}'/>"
    label = html.escape(f"Relations of {count} tokens in {name}", quote=True)
    return f"<svg viewBox='0 0 {side + 2} {side + 2}' role='img' aria-label='{label}'>{''.join(parts)}{frame}</svg>"


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


def _labels(places: Sequence[tuple[float, float]]) -> list[tuple[tuple[float, float], str]]:
    """Where each label's text begins, ends or has its middle, and which of these: beside its point, over no other
    point or earlier label where that is possible. Row 0 is the search, the others are numbers from 1.
    """
    taken: list[Box] = [(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y in places]
    found = []
    for number, (x, y) in enumerate(places):
        wide = _DIGIT * (len(str(number)) if number else len("search"))
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

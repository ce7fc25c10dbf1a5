"""The demo's pictures as SVG and HTML; all that a visitor or a model wrote is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from multiway_core.app import vector_map

if TYPE_CHECKING:
    from multiway_text.encoder.relations import Relations

NEAREST = 3
CSS = (
    vector_map.CSS
    + """
.map, .pair { color: var(--body-text-color); font-size: 14px; }
.note { color: var(--body-text-color-subdued); padding: 8px 0; }
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
)
"""Of both pictures; colours are the page's own, light or dark."""


def text_map(query: str, texts: Sequence[str], vectors_NE: Any, seconds: float) -> str:
    """Texts as numbered points on their two principal axes, lines from the query (row 0) to its nearest, and a list."""
    lengths_N1 = np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    unit_NE = vectors_NE / np.maximum(lengths_N1, 1e-12)
    cosines = unit_NE[1:] @ unit_NE[0]
    order = np.argsort(-cosines, kind="stable")
    near = order[:NEAREST].tolist()
    picture, share = vector_map.vector_map(
        vectors_NE,
        [str(number) for number in range(1, len(texts) + 1)],
        texts,
        near,
        f"Map of {len(texts)} texts around the search {query}",
    )
    rows = "".join(
        f"<li class='{'near' if n in near else 'far'}'><b>{n + 1}</b><span>{html.escape(texts[n])}</span>"
        f"<i>{cosines[n]:.3f}</i></li>"
        for n in order.tolist()
    )
    return (
        f"<div class='map'>{picture}"
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

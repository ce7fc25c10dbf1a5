"""The demo's pictures as HTML and SVG; all that a visitor or a file wrote is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from multiway_text.search.result import Hit, Results

WIDTH, HEIGHT = 576, 300
NAMED = 40  # documents whose names can still be read
CSS = """
.search { color: var(--body-text-color); font-size: 14px; }
.search .note { color: var(--body-text-color-subdued); padding: 8px 0; }
.search svg { width: 100%; display: block; border: 1px solid var(--border-color-primary); border-radius: 8px;
  background: var(--background-fill-primary); margin-bottom: 12px; }
.search circle { fill: var(--body-text-color-subdued); opacity: 0.5; }
.search circle.near { fill: #2563eb; opacity: 1; }
.search line { stroke: #2563eb; stroke-width: 1; opacity: 0.5; }
.search path { fill: #d97706; }
.search text { fill: var(--body-text-color); font-size: 12px; }
.search text.far { fill: var(--body-text-color-subdued); }
.search text.query { font-weight: 600; }
.search .hit { border-top: 1px solid var(--border-color-primary); padding: 10px 0; overflow-wrap: anywhere; }
.search .hit p { margin: 4px 0 0; white-space: pre-line; line-height: 1.5; }
.search .head { display: flex; gap: 8px; justify-content: space-between; }
.search .head span { color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; white-space: nowrap; }
.search mark { background: #fde68a; color: #1c1917; border-radius: 3px; padding: 0 2px; }
.search b.term { text-decoration: underline; text-underline-offset: 3px; }
.search .columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); gap: 20px; }
.search h3 { font-size: 14px; font-weight: 600; margin: 0 0 4px; }
"""


def results_page(found: Results, paths: Sequence[str], vectors_NE: Any, query_E: Any) -> str:
    """A map of the documents around the query, and the passages with what answers marked."""
    about = f"{len(found.hits)} of {found.passages:,} passages in {1000 * found.seconds:.0f} ms. "
    about += "Marked: the sentence nearest in meaning; underlined: words of the search."
    warned = "".join(f"<div class='note'>{html.escape(note)}</div>" for note in found.notes)
    hits = "".join(_hit(hit) for hit in found.hits) or "<div class='note'>Nothing found.</div>"
    picture = _map(found, paths, vectors_NE, query_E) if len(paths) > 2 else ""
    return f"<div class='search'>{picture}{warned}{hits}<div class='note'>{about}</div></div>"


def languages_page(found: Mapping[str, Results]) -> str:
    """A column for each language."""
    columns = "".join(
        f"<div><h3>{html.escape(name)}</h3>{''.join(_hit(hit) for hit in results.hits)}</div>"
        for name, results in found.items()
    )
    about = "The number is the cosine of the passage and the search. A model of one language finds little in others."
    return f"<div class='search'><div class='columns'>{columns}</div><div class='note'>{about}</div></div>"


def _hit(hit: Hit) -> str:
    parts = [f"cosine {hit.cosine:.2f}" if hit.cosine is not None else ""]
    parts.append(f"BM25 {hit.bm25:.1f}" if hit.bm25 is not None else "")
    name = Path(hit.passage.path)
    where = " ".join(filter(None, [f"{name.parent.name}/{name.name}", hit.passage.place]))
    return (
        f"<div class='hit'><div class='head'><b>{html.escape(where)}</b><span>{' · '.join(filter(None, parts))}"
        f"</span></div><p>{_marked(hit)}</p></div>"
    )


def _marked(hit: Hit) -> str:
    """The passage with its best sentence and the query's words marked."""
    text = hit.passage.text
    low, high = hit.highlight or (0, 0)
    cuts = sorted({0, low, high, len(text), *(place for span in hit.terms for place in span)})
    pieces = []
    for start, end in pairwise(cuts):
        piece = html.escape(text[start:end])
        if any(a <= start < b for a, b in hit.terms):
            piece = f"<b class='term'>{piece}</b>"
        pieces.append(f"<mark>{piece}</mark>" if low <= start < high else piece)
    return "".join(pieces)


def _map(found: Results, paths: Sequence[str], vectors_NE: Any, query_E: Any) -> str:
    """Documents on their two principal axes, with lines from the query to those that were found."""
    near = list(dict.fromkeys(hit.passage.path for hit in found.hits))[:3]
    both_NE = np.vstack([query_E[None], vectors_NE])
    centred_NE = both_NE - vectors_NE.mean(0)
    _, _, axes = np.linalg.svd(centred_NE[1:], full_matrices=False)
    flat_N2 = centred_NE @ axes[:2].T
    low, high = flat_N2.min(0), flat_N2.max(0)
    scaled_N2 = (flat_N2 - low) / np.maximum(high - low, 1e-9) * [WIDTH - 150, HEIGHT - 60] + [30, 30]
    x0, y0 = scaled_N2[0]
    lines, points = [], []
    for path, (x, y) in zip(paths, scaled_N2[1:].tolist(), strict=True):
        kind = "near" if path in near else "far"
        name = html.escape(Path(path).stem[:24])
        if kind == "near":
            lines.append(f"<line x1='{x0:.1f}' y1='{y0:.1f}' x2='{x:.1f}' y2='{y:.1f}'/>")
        label = f"<text class='{kind}' x='{x + 8:.1f}' y='{y + 4:.1f}'>{name}</text>"
        points.append(
            f"<circle class='{kind}' cx='{x:.1f}' cy='{y:.1f}' r='5'><title>{html.escape(path)}</title></circle>"
            + (label if len(paths) <= NAMED or kind == "near" else "")
        )
    query = (
        f"<path d='M{x0:.1f} {y0 - 7:.1f}l7 7l-7 7l-7 -7z'/>"
        f"<text class='query' x='{x0 + 10:.1f}' y='{y0 - 8:.1f}'>search</text>"
    )
    label = html.escape(f"Map of {len(paths)} documents around the search {found.query[:80]}", quote=True)
    return (
        f"<svg class='map' viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{label}'>"
        f"{''.join(lines)}{''.join(points)}{query}</svg>"
    )

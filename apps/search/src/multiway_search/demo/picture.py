"""The demo's pictures as HTML and SVG; all that a visitor or a file wrote is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from multiway_core.app import vector_map

if TYPE_CHECKING:
    from multiway_text.search.result import Hit, Results

NAMED = 40  # documents whose names can still be read
CSS = (
    vector_map.CSS
    + """
.search { color: var(--body-text-color); font-size: 14px; }
.search .note { color: var(--body-text-color-subdued); padding: 8px 0; }
.search .map { margin-bottom: 12px; }
.search .hit { border-top: 1px solid var(--border-color-primary); padding: 10px 0; overflow-wrap: anywhere; }
.search .hit p { margin: 4px 0 0; white-space: pre-line; line-height: 1.5; }
.search .head { display: flex; gap: 8px; justify-content: space-between; }
.search .head span { color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; white-space: nowrap; }
.search mark { background: #fde68a; color: #1c1917; }
.search b, .search h3 { font-weight: 600; }
.search b.term { text-decoration: underline; text-underline-offset: 3px; }
.search .columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); gap: 20px; }
.search h3 { font-size: 14px; margin: 0 0 4px; }
"""
)
# Captions in full below the pictures, where Gradio cuts them; two columns on a phone.
GALLERY_CSS = """
#search-gallery .grid-wrap { max-height: none; overflow: visible; }
#search-gallery .caption-label { position: static; max-width: none; white-space: normal; border: 0; text-align: left; }
#search-gallery .preview .caption { white-space: normal; overflow: visible; text-align: center; }
#search-gallery .thumbnail-item { aspect-ratio: auto; height: auto; }
#search-gallery .thumbnail-item img { aspect-ratio: 4 / 3; height: auto; }
@media (max-width: 700px) {
  #search-gallery .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
"""


def results_page(
    found: Results, listed: Sequence[Hit], paths: Sequence[str], vectors_NE: Any, query_E: Any
) -> str:
    """A map of the documents around the query, and those hits that are ``listed`` with what answers marked."""
    kind = "passages and pictures" if len(listed) < len(found.hits) else "passages"
    about = f"{len(found.hits)} of {found.passages:,} {kind} in {1000 * found.seconds:.0f} ms. "
    if listed:
        about += "Marked: the sentence nearest in meaning; underlined: words of the search."
    warned = "".join(f"<div class='note'>{html.escape(note)}</div>" for note in found.notes)
    hits = "".join(_hit(hit) for hit in listed)
    if not found.hits:
        hits = "<div class='note'>Nothing found.</div>"
    picture = _map(found, paths, vectors_NE, query_E) if len(paths) > 2 else ""
    return f"<div class='search'>{picture}{warned}{hits}<div class='note'>{about}</div></div>"


def languages_page(found: Mapping[str, Results], model: str) -> str:
    """A column for each language; ``model`` found what is in them."""
    columns = "".join(
        f"<div><h3>{html.escape(name)}</h3>{''.join(_hit(hit) for hit in results.hits)}</div>"
        for name, results in found.items()
    )
    about = f"By {html.escape(model)}. The number is the cosine of the passage and the search."
    return f"<div class='search'><div class='columns'>{columns}</div><div class='note'>{about}</div></div>"


def picture_caption(hit: Hit) -> str:
    """Of a picture in the gallery: its file, how near it is, and day and place where they are known."""
    return " · ".join([Path(hit.passage.path).name, *_scores(hit), *filter(None, [hit.passage.place])])


def _hit(hit: Hit) -> str:
    name = Path(hit.passage.path)
    where = " ".join(filter(None, [f"{name.parent.name}/{name.name}", hit.passage.place]))
    return (
        f"<div class='hit'><div class='head'><b>{html.escape(where)}</b><span>{' · '.join(_scores(hit))}"
        f"</span></div><p>{_marked(hit)}</p></div>"
    )


def _scores(hit: Hit) -> list[str]:
    parts = [] if hit.cosine is None else [f"cosine {hit.cosine:.2f}"]
    return parts if hit.bm25 is None else [*parts, f"BM25 {hit.bm25:.1f}"]


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
    """Documents around the query, with lines from it to those that were found."""
    best = list(dict.fromkeys(hit.passage.path for hit in found.hits))[:3]
    near = [number for number, path in enumerate(paths) if path in best]
    names = [
        Path(path).stem[:18] if len(paths) <= NAMED or number in near else ""
        for number, path in enumerate(paths)
    ]
    label = f"Map of {len(paths)} documents around the search {found.query[:80]}"
    picture, _ = vector_map.vector_map(np.vstack([query_E[None], vectors_NE]), names, paths, near, label)
    return f"<div class='map'>{picture}</div>"

"""Grounded image-text pairs from captioned pictures (arXiv 2306.14824, section 2: how GrIT was made).

1. noun chunks of the caption, without abstract ones;
2. boxes for them from a proposer (the paper's is GLIP), thinned by non-maximum suppression over all chunks together,
   those above a score kept; a pair without any box is discarded;
3. chunks grown to referring expressions along the dependency tree, which inherit the chunk's boxes; of these only
   the ones that lie in no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import torch

from multiway_vision_language.grit.chunks import Span, noun_chunks, outermost
from multiway_vision_language.grit.records import MIN_SCORE, GritRecord, ScoredBox

if TYPE_CHECKING:
    from spacy.language import Language

MAX_OVERLAP = 0.6
"""IoU above which the weaker of two boxes goes. The paper gives no number; this one is ours."""


class Proposer(Protocol):
    """Any open-vocabulary detector."""

    def __call__(self, picture: Any, caption: str, spans: Sequence[Span]) -> Sequence[ScoredBox]:
        """Boxes for some of the spans of the caption, as shares of the picture's sides, with scores from 0 to 1."""
        ...


def construct(
    picture: Any,
    caption: str,
    size: tuple[int, int],
    proposer: Proposer,
    language: Language,
    *,
    id: str = "",
    url: str = "",
    min_score: float = MIN_SCORE,
    max_overlap: float = MAX_OVERLAP,
) -> GritRecord | None:
    """One record, or None where no chunk has a box.

    Args:
        picture: whatever the proposer takes.
        caption: text of the picture; its characters are what spans count.
        size: width and height in pixels, for the record.
        proposer: finds boxes for noun chunks.
        language: a spaCy model, such as :func:`load_language` gives.
        min_score: a box must score higher.
        max_overlap: IoU above which the weaker of two boxes goes, whichever chunks they belong to.
    """
    chunks = noun_chunks(language(caption))
    if not chunks:
        return None
    proposals = proposer(picture, caption, [chunk for chunk, _ in chunks])
    rows = [row for row in suppress(proposals, max_overlap) if row.score > min_score]
    expressions = dict(chunks)
    rows = sorted((row for row in rows if row.span in expressions), key=lambda row: row.span)
    if not rows:
        return None
    grown = [replace(row, span=expressions[row.span]) for row in rows]
    kept = set(outermost(row.span for row in grown))
    return GritRecord(
        id=id,
        url=url,
        caption=caption,
        width=size[0],
        height=size[1],
        noun_chunks=tuple(rows),
        ref_exps=tuple(row for row in grown if row.span in kept),
    )


def suppress(rows: Sequence[ScoredBox], max_overlap: float = MAX_OVERLAP) -> list[ScoredBox]:
    """Non-maximum suppression, the best score first: a box goes that overlaps with a better one more than that."""
    from torchvision import ops  # imports torch._dynamo: seconds

    if not rows:
        return []
    boxes = torch.tensor([row.box for row in rows], dtype=torch.float64)
    scores = torch.tensor([row.score for row in rows], dtype=torch.float64)
    return [rows[index] for index in ops.nms(boxes, scores, max_overlap).tolist()]

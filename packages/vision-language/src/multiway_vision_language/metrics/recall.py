"""Recall of phrase grounding on Flickr30k Entities, R@1, R@5 and R@10 (arXiv 2306.14824, section 4.1.1).

ANY-BOX is the protocol of Kosmos-2: a hit if one of the first k boxes overlaps with one true box by at least
0.5 (its code; the paper says more than 0.5). Boxes keep the order in which they were generated, and a phrase
without any counts as one box of no area. MERGED-BOXES, the older protocol, compares with the smallest box around
the true ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from multiway_core.evaluation import Interval, mean_interval

from multiway_vision_language.metrics.boxes import ZERO_BOX, enclosing_box, pairwise_iou
from multiway_vision_language.result import XYXY

Protocol = Literal["any", "merged"]
KS = (1, 5, 10)
THRESHOLD = 0.5
ALL = "all"


@dataclass(frozen=True)
class PhraseRecord:
    """What was found for one phrase, in the order of generation, and where it is; boxes of one unit.

    ``categories`` are the phrase's types, such as people or clothing; it may have several.
    """

    found: Sequence[XYXY]
    truths: Sequence[XYXY]
    categories: Sequence[str] = ()


def is_recalled(found: Sequence[XYXY], truths: Sequence[XYXY], k: int, *, protocol: Protocol = "any") -> bool:
    """Whether one of the first ``k`` boxes hits. Raises ValueError: no true box, or ``k`` below 1."""
    if not truths or k < 1:
        raise ValueError(f"need at least one true box and k >= 1, not {len(truths)} and {k}")
    if protocol == "merged":
        truths = [enclosing_box(truths)]
    return bool(pairwise_iou(list(found[:k]) or [ZERO_BOX], truths).max() >= THRESHOLD)


def recall_table(
    records: Iterable[PhraseRecord], *, ks: Sequence[int] = KS, protocol: Protocol = "any", seed: int = 0
) -> dict[str, dict[int, Interval]]:
    """Share of phrases recalled, by category (``"all"`` first, then by name) and k, with bootstrap intervals."""
    hits: dict[str, dict[int, list[bool]]] = {ALL: {k: [] for k in ks}}
    for record in records:
        for k in ks:
            hit = is_recalled(record.found, record.truths, k, protocol=protocol)
            for category in (ALL, *record.categories):
                hits.setdefault(category, {k: [] for k in ks})[k].append(hit)
    if not hits[ALL][ks[0]]:
        return {}
    names = [ALL, *sorted(hits.keys() - {ALL})]
    return {name: {k: mean_interval(hits[name][k], seed=seed) for k in ks} for name in names}

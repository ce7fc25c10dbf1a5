"""The scores of OCREval and MarkdownEval (KOSMOS-2.5 paper, appendix A), and the usual error rates.

Each metric of one sample takes (prediction, reference); ``corpus_...`` combines the samples of one category
in the way its file states. All similarities and shares lie in 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping

from multiway_document.metrics.boxes import box_iou_matched, box_iou_union, mean_box_iou
from multiway_document.metrics.edit_distance import (
    anls,
    cer,
    character_edits,
    corpus_anls,
    corpus_cer,
    corpus_ned,
    corpus_wer,
    ned,
    wer,
    word_edits,
)
from multiway_document.metrics.nted import corpus_nted, nted
from multiway_document.metrics.parsable import parsable_share
from multiway_document.metrics.words import WordCounts, corpus_word_f1, count_words, word_f1


def overall(categories: Mapping[str, float]) -> float:
    """The paper's "Overall": the unweighted mean of the categories' scores. Raises ValueError without any."""
    if not categories:
        raise ValueError("overall needs at least one category")
    return sum(categories.values()) / len(categories)


__all__ = [
    "WordCounts",
    "anls",
    "box_iou_matched",
    "box_iou_union",
    "cer",
    "character_edits",
    "corpus_anls",
    "corpus_cer",
    "corpus_ned",
    "corpus_nted",
    "corpus_wer",
    "corpus_word_f1",
    "count_words",
    "mean_box_iou",
    "ned",
    "nted",
    "overall",
    "parsable_share",
    "wer",
    "word_edits",
    "word_f1",
]

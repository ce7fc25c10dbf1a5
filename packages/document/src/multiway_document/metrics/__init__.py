"""The scores of OCREval and MarkdownEval (KOSMOS-2.5 paper, appendix A), and the usual error rates.

Each metric of one sample takes (prediction, reference); ``corpus_...`` combines the samples of one category
in the way its file states. All similarities and shares lie in 0..1.
"""

from __future__ import annotations

from multiway_document.metrics.boxes import box_iou_matched, box_iou_union
from multiway_document.metrics.edit_distance import (
    cer,
    character_edits,
    corpus_cer,
    ned,
    wer,
    word_edits,
)
from multiway_document.metrics.nted import nted
from multiway_document.metrics.word_f1 import WordCounts, count_words, word_f1

__all__ = [
    "WordCounts",
    "box_iou_matched",
    "box_iou_union",
    "cer",
    "character_edits",
    "corpus_cer",
    "count_words",
    "ned",
    "nted",
    "wer",
    "word_edits",
    "word_f1",
]

"""How well a model grounds, describes and answers, by the protocols that papers report.

Boxes are (left, top, right, bottom) in one unit of the caller's choice. Scores lie in 0..1 (CIDEr in 0..10).
"""

from __future__ import annotations

from multiway_vision_language.metrics.boxes import ZERO_BOX, box_iou, enclosing_box, pairwise_iou
from multiway_vision_language.metrics.caption import bleu, cider_d, has_meteor, meteor
from multiway_vision_language.metrics.caption_tokens import caption_tokens
from multiway_vision_language.metrics.presence import PresenceScores, auc, best_threshold, presence_scores
from multiway_vision_language.metrics.recall import PhraseRecord, is_recalled, recall_table
from multiway_vision_language.metrics.referring import (
    THRESHOLD,
    ReferringRecord,
    ReferringRow,
    ceiling_iou,
    centre_box,
    first_box_iou,
    largest_object,
    random_object,
    referring_table,
    size_group,
)
from multiway_vision_language.metrics.vqa import normalise, vqa_accuracy

__all__ = [
    "THRESHOLD",
    "ZERO_BOX",
    "PhraseRecord",
    "PresenceScores",
    "ReferringRecord",
    "ReferringRow",
    "auc",
    "best_threshold",
    "bleu",
    "box_iou",
    "caption_tokens",
    "ceiling_iou",
    "centre_box",
    "cider_d",
    "enclosing_box",
    "first_box_iou",
    "has_meteor",
    "is_recalled",
    "largest_object",
    "meteor",
    "normalise",
    "pairwise_iou",
    "presence_scores",
    "random_object",
    "recall_table",
    "referring_table",
    "size_group",
    "vqa_accuracy",
]

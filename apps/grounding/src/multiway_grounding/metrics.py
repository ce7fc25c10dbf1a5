"""The numbers of one case: how well the phrase was found, beside what is blind and what a grid can say at best."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from multiway_core.errors import InputError
from multiway_core.evaluation import Interval, Metric, Report

from multiway_grounding.phrase_samples import PhraseSample

if TYPE_CHECKING:
    from multiway_vision_language.locations import LocationGrid
    from multiway_vision_language.result import Entity

Metrics = Mapping[str, Callable[["Entity", PhraseSample], float | None]]
_ARTICLE = re.compile(r"(?:the|an?) ")
SHOWN, ABSENT = "present, shown", "present, absent"


def referring_metrics(grid: LocationGrid) -> Metrics:
    """Acc@0.5 and IoU of the first box (with the nearest true box where there are several), and the reference columns.

    "ceiling": the true box said and read back in location tokens. "random object" is exact: the expected hit of a true
    box of an object drawn at random.
    """
    from multiway_vision_language import metrics

    def found(entity: Entity, case: PhraseSample) -> float:
        return _best([entity.boxes[0].xyxy], case) if entity.boxes else 0.0

    def ceiling(case: PhraseSample) -> float:
        try:
            return metrics.ceiling_iou(
                case.truths[0], case.width, case.height, lambda box: grid.decode(grid.encode(box))
            )
        except InputError:  # data sets have boxes outside their pictures
            return 0.0

    def largest(case: PhraseSample) -> float | None:
        box = metrics.largest_object(case.objects)
        return None if box is None else float(_best([box], case) >= metrics.THRESHOLD)

    def random_object(case: PhraseSample) -> float | None:
        hits = [_best([box], case) >= metrics.THRESHOLD for box in case.objects]
        return sum(hits) / len(hits) if hits else None

    def centre(case: PhraseSample) -> float:
        return float(_best([metrics.centre_box(case.width, case.height)], case) >= metrics.THRESHOLD)

    return {
        "acc@0.5": _shown(lambda entity, case: float(found(entity, case) >= metrics.THRESHOLD)),
        "iou": _shown(found),
        "ceiling acc@0.5": _shown(lambda entity, case: float(ceiling(case) >= metrics.THRESHOLD)),
        "ceiling iou": _shown(lambda entity, case: ceiling(case)),
        "random object": _shown(lambda entity, case: random_object(case)),
        "largest object": _shown(lambda entity, case: largest(case)),
        "centre box": _shown(lambda entity, case: centre(case)),
    }


def recall_metrics() -> Metrics:
    """R@1, R@5 and R@10 by the ANY-BOX protocol, and R@1 by MERGED-BOXES."""
    from multiway_vision_language.metrics import is_recalled

    def recall(k: int, protocol: Any) -> Callable[[Entity, PhraseSample], float]:
        return lambda entity, case: float(
            is_recalled([box.xyxy for box in entity.boxes], case.truths, k, protocol=protocol)
        )

    return {
        **{f"R@{k}": _shown(recall(k, "any")) for k in (1, 5, 10)},
        "R@1 merged": _shown(recall(1, "merged")),
    }


def presence_metrics() -> Metrics:
    """``present`` itself, of phrases that the picture shows and of ones that it does not."""
    return {
        SHOWN: lambda entity, case: entity.present if case.truths else None,
        ABSENT: lambda entity, case: None if case.truths else entity.present,
    }


def with_presence(report: Report, phrases: Mapping[str, str]) -> Report:
    """The report with "present AUC" over all phrases, and shares of both kinds told right.

    The threshold comes from every other picture and the shares from the rest. "words alone" is blind: a phrase scores
    by how often it is shown in the pictures of the other half. Without both kinds of phrases in both halves the report
    stays as it is. ``phrases``: the phrase of each row, by the row's name.
    """
    from multiway_vision_language.metrics import auc, best_threshold, presence_scores

    pictures: dict[str, int] = {}
    scores: tuple[list[float], list[float]] = ([], [])
    kinds: tuple[list[bool], list[bool]] = ([], [])
    words: tuple[list[str], list[str]] = ([], [])
    for row in report.rows:
        values = row.get("metrics", {})
        present = next((values[key] for key in (SHOWN, ABSENT) if values.get(key) is not None), None)
        if present is not None:
            half = pictures.setdefault(row["name"].rpartition("/")[0], len(pictures)) % 2
            scores[half].append(present)
            kinds[half].append(values[SHOWN] is not None)
            words[half].append(_ARTICLE.sub("", phrases[row["name"]].lower()))
    if any(set(half) != {True, False} for half in kinds):
        return report
    fitted = best_threshold(scores[0], kinds[0])
    judged = presence_scores(scores[1], kinds[1], fitted, seed=report.seed)
    shown, count = sum(kinds[1]), len(scores[0]) + len(scores[1])
    every = [*kinds[0], *kinds[1]]
    blind = [*_shares(words[1], kinds[1], words[0]), *_shares(words[0], kinds[0], words[1])]
    added = {
        "present AUC": _metric(auc([*scores[0], *scores[1]], every), count),
        "AUC of the words alone": _metric(auc(blind, every), count),
        "threshold of the other half": Metric(fitted, None, None, len(scores[0])),
        "shown ones kept": _metric(judged.shown_found, shown),
        "absent ones refused": _metric(judged.absent_refused, len(kinds[1]) - shown),
    }
    return replace(report, metrics=report.metrics | added)


def _shares(known: list[str], kinds: list[bool], asked: list[str]) -> list[float]:
    """How often each asked phrase is shown among the known ones; a half of unknown ones."""
    total = Counter(known)
    shown = Counter(word for word, kind in zip(known, kinds, strict=True) if kind)
    return [(shown[word] + 1) / (total[word] + 2) for word in asked]


def _metric(interval: Interval, count: int) -> Metric:
    return Metric(*interval, n=count)


def _best(boxes: list[Any], case: PhraseSample) -> float:
    from multiway_vision_language.metrics import pairwise_iou

    return float(pairwise_iou(boxes, case.truths).max())


def _shown(
    metric: Callable[[Entity, PhraseSample], float | None],
) -> Callable[[Entity, PhraseSample], float | None]:
    """The metric where the picture shows the phrase; None where it does not."""
    return lambda entity, case: metric(entity, case) if case.truths else None

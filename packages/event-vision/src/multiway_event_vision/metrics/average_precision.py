"""Average precision as COCO defines it, for boxes: the numbers of its evaluation script, from arrays.

Detections of a class claim, from the best score down, the free object of their image that they overlap most, if by at
least the threshold. Precision is made to fall along recall, and read at 101 recalls. AP is the mean over thresholds
0.50, 0.55, ... 0.95 and over the classes that have objects.

Boxes are (x1, y1, x2, y2) in pixels. Legend: G objects, M detections, T thresholds, R recalls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Square pixels, both ends included."""
MOST_DETECTIONS = 100
"""Of one class in one image."""


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image: objects, or detections with scores."""

    boxes: Floats
    """(N, 4)"""
    label: NDArray[np.int64]
    """(N,)"""
    score: Floats | None = None
    """(N,), of detections."""

    @property
    def area(self) -> Floats:
        """(N,) square pixels."""
        return (self.boxes[:, 2] - self.boxes[:, 0]) * (self.boxes[:, 3] - self.boxes[:, 1])


@dataclass(frozen=True)
class CocoScores:
    """In [0, 1]; NaN where no object counts."""

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    recall: float
    """Mean of the highest recall over thresholds and classes."""
    per_class: tuple[float, ...]
    """AP of each class."""
    images: int
    objects: int
    detections: int


def coco_scores(objects: Sequence[Boxes], detections: Sequence[Boxes], *, num_classes: int) -> CocoScores:
    """Score detections of as many images as there are objects.

    Raises InputError: another number of images, detections without scores, shapes or labels that do not fit.
    """
    if len(objects) != len(detections):
        raise InputError(f"{len(detections)} images with detections for {len(objects)} with objects")
    for kind, images in (("objects", objects), ("detections", detections)):
        for number, image in enumerate(images):
            _check(image, f"{kind} of image {number}", num_classes, with_score=kind == "detections")
    precision: dict[str, list[Floats]] = {}
    recall: list[Floats] = []
    for area, limits in AREAS.items():
        precision[area] = []
        for label in range(num_classes):
            result = _of_class(objects, detections, label, limits)
            precision[area].append(np.full(len(THRESHOLDS), np.nan) if result is None else result[0])
            if area == "all" and result is not None:
                recall.append(result[1])
    ap_CT = np.stack(precision["all"])
    return CocoScores(
        ap=_mean(ap_CT),
        ap50=_mean(ap_CT[:, 0]),
        ap75=_mean(ap_CT[:, 5]),
        ap_small=_mean(np.stack(precision["small"])),
        ap_medium=_mean(np.stack(precision["medium"])),
        ap_large=_mean(np.stack(precision["large"])),
        recall=_mean(np.stack(recall)) if recall else float("nan"),
        per_class=tuple(_mean(row) for row in ap_CT),
        images=len(objects),
        objects=sum(len(image.label) for image in objects),
        detections=sum(len(image.label) for image in detections),
    )


def _check(image: Boxes, where: str, num_classes: int, *, with_score: bool) -> None:
    count = len(image.label)
    if image.boxes.shape != (count, 4) or image.label.shape != (count,):
        raise InputError(f"{where}: boxes {image.boxes.shape} and labels {image.label.shape} do not fit")
    if with_score and (image.score is None or image.score.shape != (count,) or np.isnan(image.score).any()):
        raise InputError(f"{where}: each needs a score that is a number")
    if not np.isfinite(image.boxes).all():
        raise InputError(f"{where}: a box is not finite")
    if count and not (image.label.min() >= 0 and image.label.max() < num_classes):
        raise InputError(f"{where}: labels reach from {image.label.min()} to {image.label.max()}, "
                         f"expected 0 to {num_classes - 1}")  # fmt: skip


def _mean(values: Floats) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _of_class(
    objects: Sequence[Boxes], detections: Sequence[Boxes], label: int, limits: tuple[float, float]
) -> tuple[Floats, Floats] | None:
    """(AP_T, highest recall_T) of one class and range of areas; None if no object counts."""
    scores, right, void = [], [], []
    count = 0
    for truth, found in zip(objects, detections, strict=True):
        assert found.score is not None
        mine_G = np.flatnonzero(truth.label == label)
        mine_M = np.flatnonzero(found.label == label)
        mine_M = mine_M[np.argsort(-found.score[mine_M], kind="stable")][:MOST_DETECTIONS]
        area_G, area_M = truth.area[mine_G], found.area[mine_M]
        outside_G = (area_G < limits[0]) | (area_G > limits[1])
        outside_M = (area_M < limits[0]) | (area_M > limits[1])
        count += int((~outside_G).sum())
        if len(mine_M):
            hit_TM, void_TM = _match(
                pairwise_iou(found.boxes[mine_M], truth.boxes[mine_G]), outside_G, outside_M
            )
            scores.append(found.score[mine_M])
            right.append(hit_TM)
            void.append(void_TM)
    if count == 0:
        return None
    if not scores:
        return np.zeros(len(THRESHOLDS)), np.zeros(len(THRESHOLDS))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hit_TM, void_TM = np.concatenate(right, axis=1)[:, order], np.concatenate(void, axis=1)[:, order]
    true_TM = (hit_TM & ~void_TM).cumsum(axis=1)
    false_TM = (~hit_TM & ~void_TM).cumsum(axis=1)
    recall_TM = true_TM / count
    precision_TM = true_TM / np.maximum(true_TM + false_TM, 1)
    precision_TM = np.maximum.accumulate(precision_TM[:, ::-1], axis=1)[:, ::-1]
    ap_T = np.zeros(len(THRESHOLDS))
    for t, (recall, precision) in enumerate(zip(recall_TM, precision_TM, strict=True)):
        at = np.searchsorted(recall, RECALLS, side="left")
        reached = at < len(recall)
        ap_T[t] = precision[at[reached]].sum() / len(RECALLS)
    return ap_T, recall_TM[:, -1]


def _match(iou_MG: Floats, outside_G: Bools, outside_M: Bools) -> tuple[Bools, Bools]:
    """(hit_TM, void_TM) of one image's detections, best first; void ones count neither as right nor as wrong.

    Objects outside of the range of areas may be claimed when no other fits; the claim is void.
    """
    T, (M, G) = len(THRESHOLDS), iou_MG.shape
    hit_TM, void_TM = np.zeros((T, M), bool), np.zeros((T, M), bool)
    void_TM[:] = outside_M
    order = np.argsort(outside_G, kind="stable")
    inside = int((~outside_G).sum())
    iou_MG = iou_MG[:, order]
    for t, threshold in enumerate(THRESHOLDS):
        free_G = np.ones(G, bool)
        for m in range(M):
            for start, end in ((0, inside), (inside, G)):
                overlap = np.where(free_G[start:end], iou_MG[m, start:end], -1.0)
                if len(overlap) == 0 or overlap.max() < min(threshold, 1 - 1e-10):
                    continue
                chosen = (
                    end - 1 - int(np.argmax(overlap[::-1]))
                )  # of equal overlaps the script takes the last
                free_G[chosen] = False
                hit_TM[t, m], void_TM[t, m] = True, start == inside
                break
    return hit_TM, void_TM


def pairwise_iou(a: Floats, b: Floats) -> Floats:
    """(len(a), len(b)) intersections over unions of boxes."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clip(min=0).prod(axis=2)
    sizes = [(x[:, 2:] - x[:, :2]).prod(axis=1) for x in (a, b)]
    union = sizes[0][:, None] + sizes[1][None] - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)

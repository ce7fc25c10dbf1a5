"""COCO's average precision of boxes, from arrays; the evaluation is that of pycocotools.

AP is the mean over the IoU thresholds 0.50, 0.55, ... 0.95 and over the classes that have objects. Boxes are
(x1, y1, x2, y2) in pixels. Shape letters: T thresholds, R recalls, K classes, A ranges of areas.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Floats = NDArray[np.float64]

MAX_DETECTIONS = 100
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
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        evaluation = COCOeval(_annotations(objects), _annotations(detections), "bbox")
        evaluation.params.imgIds = list(range(len(objects)))
        evaluation.params.catIds = list(range(num_classes))
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    precision_TRKA = evaluation.eval["precision"][..., 0]
    return CocoScores(
        ap=_mean(precision_TRKA[..., 0]),
        ap50=_mean(precision_TRKA[0, ..., 0]),
        ap75=_mean(precision_TRKA[5, ..., 0]),
        ap_small=_mean(precision_TRKA[..., 1]),
        ap_medium=_mean(precision_TRKA[..., 2]),
        ap_large=_mean(precision_TRKA[..., 3]),
        recall=_mean(evaluation.eval["recall"][:, :, 0, 0]),
        per_class=tuple(_mean(precision_TRKA[:, :, label, 0]) for label in range(num_classes)),
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


def _annotations(images: Sequence[Boxes]) -> COCO:
    rows: list[dict[str, object]] = []
    for number, image in enumerate(images):
        scores = np.ones(len(image.label)) if image.score is None else image.score
        for (x1, y1, x2, y2), label, score in zip(
            image.boxes.tolist(), image.label.tolist(), scores.tolist(), strict=True
        ):
            box = [x1, y1, x2 - x1, y2 - y1]
            area = box[2] * box[3]
            rows.append(
                {"id": len(rows) + 1, "image_id": number, "category_id": label, "bbox": box, "area": area,
                 "score": score, "iscrowd": 0}
            )  # fmt: skip
    annotations = COCO()
    annotations.dataset = {
        "images": [{"id": number} for number in range(len(images))],
        "categories": [],
        "annotations": rows,
    }
    annotations.createIndex()
    return annotations


def _mean(values: Floats) -> float:
    values = values[values > -1]  # -1 stands where no object counts
    return float(values.mean()) if len(values) else float("nan")

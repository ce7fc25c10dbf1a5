"""Referring expression comprehension: Acc@0.5 and mean IoU of the first box, beside what is blind or perfect.

A number says little without its floor and its ceiling, so each is here: *ceiling* is the IoU of the true box with
its own round trip through the location grid, the best any model of that grid can do; the *blind baselines* do
not look for the expression at all. The size of an object is the smaller of width and height as a share of the
picture's; below 6 % of it a grid of 32 cells a side cannot say the box to IoU 0.5 half of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from multiway_core.evaluation import Interval, mean_interval

from multiway_vision_language.metrics.boxes import ZERO_BOX, box_iou
from multiway_vision_language.result import XYXY

THRESHOLD = 0.5
BELOW_GRID = 0.06
SIZES: dict[str, tuple[float, float]] = {
    "below the grid (< 6 %)": (0.0, BELOW_GRID),
    "6 to 10 %": (BELOW_GRID, 0.1),
    "10 to 20 %": (0.1, 0.2),
    "20 to 50 %": (0.2, 0.5),
    "50 % and more": (0.5, float("inf")),
}
CENTRE_SHARE = 0.8
"""The tenth of the sides with which a central box hits most objects of COCO's photographs."""

RoundTrip = Callable[[XYXY], XYXY]
"""A box as shares of the picture -> the same box said and read in location tokens."""


@dataclass(frozen=True)
class ReferringRecord:
    """One expression: the first box found for it (None: there was none), the true box, the picture's size.

    ``objects``: all known objects of the picture, the true one included, for the baselines that choose one.
    """

    found: XYXY | None
    truth: XYXY
    width: int
    height: int
    objects: Sequence[XYXY] = ()


@dataclass(frozen=True)
class ReferringRow:
    """One line of a table: Acc@0.5 and mean IoU of ``n`` expressions."""

    n: int
    accuracy: Interval
    mean_iou: Interval


def first_box_iou(found: XYXY | None, truth: XYXY) -> float:
    """IoU of the first box with the true one; 0 without a box."""
    return box_iou(ZERO_BOX if found is None else found, truth)


def size_of(box: XYXY, width: int, height: int) -> float:
    """The smaller side of a box as a share of the picture's: 0 to 1 inside it."""
    return min((box[2] - box[0]) / width, (box[3] - box[1]) / height)


def size_group(box: XYXY, width: int, height: int) -> str:
    """The name of the box's group among ``SIZES``."""
    size = size_of(box, width, height)
    return next(name for name, (_, limit) in SIZES.items() if size < limit)


def ceiling_iou(truth: XYXY, width: int, height: int, round_trip: RoundTrip) -> float:
    """IoU of a true box with its own round trip through the location grid; 0 for a box without area."""
    if truth[2] <= truth[0] or truth[3] <= truth[1]:
        return 0.0
    shares = (truth[0] / width, truth[1] / height, truth[2] / width, truth[3] / height)
    return box_iou(shares, round_trip(shares))


def centre_box(width: int, height: int, share: float = CENTRE_SHARE) -> XYXY:
    """The box in the middle of the picture with ``share`` of its width and height."""
    x, y = width * (1 - share) / 2, height * (1 - share) / 2
    return x, y, width - x, height - y


def largest_object(objects: Sequence[XYXY]) -> XYXY | None:
    """The object with the largest area; None without objects."""
    return max(objects, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]), default=None)


def random_object(truth: XYXY, objects: Sequence[XYXY]) -> tuple[float, float]:
    """Expected (hit, IoU) of a true box of an object drawn at random; exact, so that no seed enters."""
    ious = [box_iou(box, truth) for box in objects] or [0.0]
    return sum(iou >= THRESHOLD for iou in ious) / len(ious), sum(ious) / len(ious)


def referring_table(
    records: Sequence[ReferringRecord],
    *,
    round_trip: RoundTrip | None = None,
    centre_share: float = CENTRE_SHARE,
    seed: int = 0,
) -> dict[str, ReferringRow]:
    """The model's row, the ceiling's, the baselines', and the model's by size of the object.

    Rows without any record (a size that does not occur, baselines without ``objects``) are left out.
    """
    scored: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        truth, size = record.truth, (record.width, record.height)
        model = _scores(first_box_iou(record.found, truth))
        scored.setdefault("model", []).append(model)
        if round_trip is not None:
            scored.setdefault("ceiling of the grid", []).append(
                _scores(ceiling_iou(truth, *size, round_trip))
            )
        scored.setdefault("centre box", []).append(_scores(box_iou(centre_box(*size, centre_share), truth)))
        if record.objects:
            largest = _scores(first_box_iou(largest_object(record.objects), truth))
            scored.setdefault("largest object", []).append(largest)
            scored.setdefault("random object", []).append(random_object(truth, record.objects))
    for group in SIZES:
        of_group = [
            pair
            for pair, record in zip(scored.get("model", ()), records, strict=True)
            if size_group(record.truth, record.width, record.height) == group
        ]
        if of_group:
            scored[f"model, {group}"] = of_group
    return {
        name: ReferringRow(
            len(pairs),
            mean_interval([hit for hit, _ in pairs], seed=seed),
            mean_interval([iou for _, iou in pairs], seed=seed),
        )
        for name, pairs in scored.items()
    }


def _scores(iou: float) -> tuple[float, float]:
    return float(iou >= THRESHOLD), iou

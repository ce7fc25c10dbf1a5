"""Both IOUs: hand-computed cases, brute-force rasters, brute-force matchings."""

from __future__ import annotations

import itertools
import random
import time

import numpy as np
import pytest
from multiway_document.metrics import box_iou_matched, box_iou_union
from multiway_document.metrics.boxes import pairwise_iou

Box = tuple[float, float, float, float]


def random_boxes(rng: random.Random, most: int, size: int = 40) -> list[Box]:
    boxes = []
    for _ in range(rng.randint(0, most)):
        x0, y0 = rng.randint(0, size - 1), rng.randint(0, size - 1)
        boxes.append((x0, y0, rng.randint(x0, size), rng.randint(y0, size)))
    return boxes


def raster(boxes: list[Box], size: int = 40) -> np.ndarray:
    covered = np.zeros((size, size), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        covered[int(y0) : int(y1), int(x0) : int(x1)] = True
    return covered


def test_union_iou_equals_a_raster() -> None:
    rng = random.Random(1)
    for _ in range(300):
        first, second = random_boxes(rng, 8), random_boxes(rng, 8)
        a, b = raster(first), raster(second)
        expected = (a & b).sum() / (a | b).sum() if (a | b).any() else 1.0
        assert box_iou_union(first, second) == pytest.approx(expected)
        # any scale and offset, without a raster to fit
        moved = [[tuple(v * 0.37 - 5.1 for v in box) for box in boxes] for boxes in (first, second)]
        assert box_iou_union(*moved) == pytest.approx(expected)


def test_matched_iou_equals_the_best_of_all_matchings() -> None:
    rng = random.Random(2)
    for _ in range(150):
        first, second = random_boxes(rng, 5), random_boxes(rng, 5)
        iou = pairwise_iou(first, second)
        if len(first) > len(second):
            iou = iou.T
        best = max(
            sum(iou[i, j] for i, j in enumerate(choice))
            for choice in itertools.permutations(range(iou.shape[1]), iou.shape[0])
        )
        count = max(len(first), len(second))
        assert box_iou_matched(first, second) == pytest.approx(best / count if count else 1.0)


def test_by_hand() -> None:
    page = [(0.0, 0.0, 10.0, 10.0)]
    assert box_iou_union(page, [(5.0, 0.0, 15.0, 10.0)]) == pytest.approx(50 / 150)
    assert box_iou_matched(page, [(5.0, 0.0, 15.0, 10.0)]) == pytest.approx(50 / 150)
    # one line read as two halves: the covered area is the same, the pairing is not
    halves = [(0.0, 0.0, 5.0, 10.0), (5.0, 0.0, 10.0, 10.0)]
    assert box_iou_union(page, halves) == 1.0
    assert box_iou_matched(page, halves) == pytest.approx(0.5 / 2)
    # the same box twice covers nothing more, but is one box too many
    assert box_iou_union(page, page * 2) == 1.0
    assert box_iou_matched(page, page * 2) == 0.5
    assert (box_iou_union([], []), box_iou_matched([], [])) == (1.0, 1.0)
    assert (box_iou_union(page, []), box_iou_matched([], page)) == (0.0, 0.0)
    assert box_iou_union([(3.0, 3.0, 3.0, 9.0)], [(1.0, 1.0, 0.0, 0.0)]) == 1.0  # no area on either side


def test_two_thousand_lines_take_moments() -> None:
    rng = random.Random(3)
    boxes = [
        (x, y, x + rng.uniform(20, 300), y + 12)
        for x, y in ((rng.uniform(0, 2000), rng.uniform(0, 3000)) for _ in range(2000))
    ]
    shifted = [(x0 + 1, y0 + 1, x1 + 1, y1 + 1) for x0, y0, x1, y1 in boxes]
    started = time.process_time()
    assert 0.8 < box_iou_union(shifted, boxes) < 1
    assert 0.7 < box_iou_matched(shifted, boxes) < 1
    assert time.process_time() - started < 10

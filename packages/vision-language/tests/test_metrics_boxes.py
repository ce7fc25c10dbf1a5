"""Recall, referring accuracy and presence on fixtures worked out by hand."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from multiway_vision_language.metrics import (
    PhraseRecord,
    ReferringRecord,
    auc,
    best_threshold,
    box_iou,
    centre_box,
    enclosing_box,
    is_recalled,
    largest_object,
    pairwise_iou,
    presence_scores,
    random_object,
    recall_table,
    referring_table,
    size_group,
)
from multiway_vision_language.metrics.referring import SIZES


def box(x: float, y: float, width: float = 10, height: float = 10) -> tuple[float, float, float, float]:
    return x, y, x + width, y + height


def test_iou_by_hand() -> None:
    assert box_iou(box(0, 0), box(0, 0)) == 1.0
    assert box_iou(box(0, 0), box(5, 0)) == pytest.approx(50 / 150)
    assert box_iou(box(0, 0), box(10, 0)) == 0.0
    assert box_iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0.0
    assert box_iou((5, 5, 1, 1), box(0, 0)) == 0.0
    assert pairwise_iou([], [box(0, 0)]).shape == (0, 1)
    assert enclosing_box([box(0, 5), box(20, 0)]) == (0, 0, 30, 15)


def test_iou_equals_counting_pixels() -> None:
    generator = random.Random(0)
    for _ in range(200):
        masks, boxes = [], []
        for _ in range(2):
            x0, x1 = sorted(generator.sample(range(13), 2))
            y0, y1 = sorted(generator.sample(range(13), 2))
            mask = np.zeros((12, 12), bool)
            mask[y0:y1, x0:x1] = True
            masks.append(mask)
            boxes.append((x0, y0, x1, y1))
        assert box_iou(*boxes) == pytest.approx((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())


HALF = box(0, 0, 10, 5)  # IoU with box(0, 0) is exactly 0.5: a hit
LESS = box(0, 0, 10, 4.99)
FAR = box(80, 80)
TEN = [
    # found, truths, categories                                           R@1 R@5 R@10 (any box)
    PhraseRecord([box(0, 0)], [box(0, 0)], ("people",)),  # 1 1 1
    PhraseRecord([HALF], [box(0, 0)], ("people", "clothing")),  # 1 1 1
    PhraseRecord([LESS], [box(0, 0)], ("people",)),  # 0 0 0
    PhraseRecord([FAR, box(0, 0)], [box(0, 0)], ("animals",)),  # 0 1 1
    PhraseRecord([FAR] * 5 + [box(0, 0)], [box(0, 0)], ("animals",)),  # 0 0 1
    PhraseRecord([FAR] * 10 + [box(0, 0)], [box(0, 0)], ()),  # 0 0 0
    PhraseRecord([], [box(0, 0)], ("other",)),  # 0 0 0
    PhraseRecord([box(30, 0)], [box(0, 0), box(30, 0)], ("people",)),  # 1 1 1; merged: 0 0 0
    PhraseRecord([(0, 0, 40, 10)], [box(0, 0), box(30, 0)], ("people",)),  # 0 0 0; merged: 1 1 1
    PhraseRecord([box(0, 0), box(5, 5)], [box(5, 5)], ("scene",)),  # 0 1 1
]


def test_recall_of_ten_phrases_by_hand() -> None:
    table = recall_table(TEN)
    assert {k: interval.mean for k, interval in table["all"].items()} == {1: 0.3, 5: 0.5, 10: 0.6}
    assert list(table) == ["all", "animals", "clothing", "other", "people", "scene"]
    assert table["people"][1].mean == pytest.approx(3 / 5)
    assert table["clothing"][1].mean == 1.0
    assert [table["animals"][k].mean for k in (1, 5, 10)] == [0.0, 0.5, 1.0]
    low, high = table["all"][1].low, table["all"][1].high
    assert low is not None
    assert high is not None
    assert low < 0.3 < high


def test_merged_boxes_differ_only_where_there_are_several() -> None:
    any_box = [is_recalled(record.found, record.truths, 1) for record in TEN]
    merged = [is_recalled(record.found, record.truths, 1, protocol="merged") for record in TEN]
    assert [i for i, (one, other) in enumerate(zip(any_box, merged, strict=True)) if one != other] == [7, 8]
    assert merged[8]


def test_recall_needs_truth() -> None:
    with pytest.raises(ValueError, match="at least one true box"):
        is_recalled([box(0, 0)], [], 1)
    assert recall_table([]) == {}


def snapped(shares: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Corners to a grid of ten."""
    x0, y0, x1, y1 = (round(share * 10) / 10 for share in shares)
    return x0, y0, x1, y1


def test_referring_table_of_ten_expressions_by_hand() -> None:
    small, large = box(2, 2, 4, 40), (10.0, 10.0, 90.0, 90.0)
    objects = [small, large]
    records = [
        ReferringRecord(large, large, 100, 100, objects),  # IoU 1
        ReferringRecord((10, 10, 90, 50), large, 100, 100, objects),  # 0.5
        ReferringRecord((10, 10, 90, 49), large, 100, 100, objects),  # 39/80
        ReferringRecord(None, large, 100, 100, objects),  # 0
        ReferringRecord(small, small, 100, 100, objects),  # 1
        ReferringRecord(large, small, 100, 100, objects),  # 0
        *[ReferringRecord(large, large, 100, 100, objects)] * 4,  # 1
    ]
    table = referring_table(records, round_trip=snapped, centre_share=0.6)
    assert table["model"].n == 10
    assert table["model"].accuracy.mean == pytest.approx(7 / 10)
    assert table["model"].mean_iou.mean == pytest.approx((6 + 0.5 + 39 / 80) / 10)
    # small is snapped to (0, 0, 10, 40): 4 * 38 of 400 pixels; large lies on the grid
    assert table["ceiling of the grid"].accuracy.mean == pytest.approx(8 / 10)
    assert table["ceiling of the grid"].mean_iou.mean == pytest.approx((8 + 2 * 152 / 408) / 10)
    # (20, 20, 80, 80) in large: 3600 / 6400 is a hit; small lies outside
    assert table["centre box"].accuracy.mean == pytest.approx(8 / 10)
    assert table["largest object"].accuracy.mean == pytest.approx(8 / 10)
    assert table["random object"].accuracy.mean == pytest.approx(0.5)
    assert table["model, side 0.00 to 0.06 (below the grid)"].n == 2
    assert table["model, side 0.00 to 0.06 (below the grid)"].accuracy.mean == pytest.approx(0.5)
    assert table["model, side 0.50 to 1.00"].n == 8
    assert "model, side 0.10 to 0.20" not in table


def test_baselines_need_objects() -> None:
    table = referring_table([ReferringRecord(None, box(0, 0), 100, 100)])
    assert set(table) == {"model", "centre box", "model, side 0.10 to 0.20"}
    assert largest_object([]) is None
    assert random_object(box(0, 0), []) == (0.0, 0.0)
    assert referring_table([]) == {}


def test_sizes_take_the_smaller_side() -> None:
    assert size_group(box(0, 0, 5.9, 100), 100, 100) == "side 0.00 to 0.06 (below the grid)"
    assert size_group(box(0, 0, 50, 24), 100, 400) == "side 0.06 to 0.10"
    assert size_group((0, 0, 300, 300), 100, 100) == "side 0.50 to 1.00"
    assert set(SIZES) == {size_group(box(0, 0, side, side), 100, 100) for side in range(1, 100)}
    assert centre_box(100, 50, 0.5) == (25, 12.5, 75, 37.5)


def test_auc_counts_pairs() -> None:
    generator = random.Random(1)
    for _ in range(20):
        scores = [generator.randrange(6) / 5 for _ in range(30)]
        shown = [generator.random() < 0.4 for _ in range(30)]
        pairs = [
            (one > other) + 0.5 * (one == other)
            for (one, kind), (other, other_kind) in itertools.product(
                zip(scores, shown, strict=True), repeat=2
            )
            if kind and not other_kind
        ]
        assert auc(scores, shown).mean == pytest.approx(sum(pairs) / len(pairs))
    assert auc([0.9, 0.8, 0.1, 0.2], [True, True, False, False]) == (1.0, 1.0, 1.0)
    assert auc([1.0, 0.0], [True, False]) == (1.0, None, None)


def test_auc_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random_state = np.random.default_rng(1)
    truth = 0.7602  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt(2))
    covered = 0
    for _ in range(1000):
        scores = np.concatenate([random_state.normal(1, 1, 60), random_state.normal(0, 1, 60)])
        interval = auc(scores.tolist(), [True] * 60 + [False] * 60)
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= truth <= interval.high
    assert 0.93 <= covered / 1000 <= 0.97


def test_threshold_from_one_set_serves_another() -> None:
    threshold = best_threshold([0.9, 0.6, 0.4, 0.3, 0.1], [True, True, False, True, False])
    # 2/3 found and all refused at 0.5; at 0.2 all found and half refused
    assert threshold == pytest.approx(0.5)
    scores = presence_scores([0.7, 0.4, 0.6, 0.2], [True, True, False, False], threshold)
    assert (scores.shown_found.mean, scores.absent_refused.mean) == (0.5, 0.5)
    assert scores.auc.mean == pytest.approx(0.75)
    assert best_threshold([0.5, 0.5], [True, False]) == 0.5


@pytest.mark.parametrize("shown", [[True, True], [False, False], [True]])
def test_presence_needs_both_kinds(shown: list[bool]) -> None:
    with pytest.raises(ValueError, match="shown and absent phrases"):
        auc([0.1, 0.2], shown)

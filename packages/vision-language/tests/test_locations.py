"""The location grid: corners to cells and back, against `transformers` and by its own rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiway_core.errors import InputError
from multiway_vision_language.locations import LocationGrid

GRID = LocationGrid()


def random_boxes(count: int, seed: int = 0) -> list[tuple[float, float, float, float]]:
    """Boxes of all sizes; a third of them with corners on the edges of cells."""
    rng = np.random.default_rng(seed)
    corners = rng.random((count, 2, 2))
    aligned = rng.random(count) < 0.33
    corners[aligned] = np.round(corners[aligned] * 32) / 32
    low, high = corners.min(axis=1), corners.max(axis=1)
    boxes = np.concatenate([low, high], axis=1)
    return [tuple(box) for box in boxes.tolist() if box[0] < box[2] and box[1] < box[3]]


@pytest.mark.peer
def test_codec_equals_the_peer_on_10000_boxes() -> None:
    peer = pytest.importorskip("transformers.models.kosmos2.processing_kosmos2")
    boxes = random_boxes(10_400)
    assert len(boxes) >= 10_000
    for box in boxes:
        cells = GRID.encode(box)
        assert cells == peer.coordinate_to_patch_index(box, 32)
        assert GRID.decode(cells) == peer.patch_index_to_coordinate(*cells, 32)
    for size in (1, 7, 10):
        grid = LocationGrid(size)
        for first in range(0, size**2, 3):
            for last in range(0, size**2, 2):
                assert grid.decode((first, last)) == peer.patch_index_to_coordinate(first, last, size)


def test_golden_boxes() -> None:
    assert GRID.decode((44, 863)) == (0.390625, 0.046875, 0.984375, 0.828125)
    assert GRID.decode((5, 911)) == (0.171875, 0.015625, 0.484375, 0.890625)


def test_a_side_on_the_edge_of_two_cells() -> None:
    assert GRID.encode((0, 0, 1 / 32, 1 / 32)) == (0, 0)
    assert GRID.encode((0, 0, 1 / 32, 1 / 32), edge="legacy") == (0, 33)
    assert GRID.encode((0.5, 0.5, 1, 1)) == GRID.encode((0.5, 0.5, 1, 1), edge="legacy") == (528, 1023)


def test_the_two_rules_differ_on_edges_only() -> None:
    for box in random_boxes(3000, seed=1):
        on_edge = any(float(32 * end).is_integer() and end < 1 for end in box[2:])
        assert (GRID.encode(box) != GRID.encode(box, edge="legacy")) == on_edge


def test_boxes_are_clipped_to_the_picture() -> None:
    assert GRID.encode((-3, -0.1, 0.5, 7)) == GRID.encode((0, 0, 0.5, 1))


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((0.5, 0.1, 0.5, 0.9), "no area"),
        ((0.9, 0.1, 0.5, 0.9), "no area"),
        ((1.0, 0.1, 1.5, 0.9), "outside the picture"),
        ((-2, 0.1, -1, 0.9), "outside the picture"),
        ((0, 0, math.nan, 1), "four finite numbers"),
        ((0, 0, math.inf, 1), "four finite numbers"),
        ((0, 0, 1), "four finite numbers"),
    ],
)
def test_what_is_no_box_is_refused(box, message: str) -> None:
    with pytest.raises(InputError, match=message):
        GRID.encode(box)


@pytest.mark.parametrize("cells", [(-1, 5), (0, 1024)])
def test_cells_outside_the_grid_are_refused(cells) -> None:
    with pytest.raises(InputError, match="outside the grid"):
        GRID.decode(cells)


@given(
    size=st.integers(1, 40),
    corners=st.tuples(*[st.floats(-0.5, 1.5)] * 4),
    edge=st.sampled_from(["half_open", "legacy"]),
)
def test_any_box_is_refused_or_gives_ordered_cells_around_it(size: int, corners, edge) -> None:
    grid = LocationGrid(size)
    try:
        cells = grid.encode(corners, edge=edge)
    except InputError:
        return
    assert grid.in_order(cells)
    assert grid.ordered(cells) == cells
    left, top, right, bottom = grid.decode(cells)
    assert 0 <= left < right <= 1 + 1e-9
    assert 0 <= top < bottom <= 1 + 1e-9
    clipped = [min(max(corner, 0.0), 1.0) for corner in corners]
    for found, given_ in zip((left, top, right, bottom), clipped, strict=True):
        assert abs(found - given_) <= 1.001 / size  # within one cell


@given(st.integers(0, 1023), st.integers(0, 1023))
def test_exchanged_corners_span_the_same_rectangle(first: int, last: int) -> None:
    cells = GRID.ordered((first, last))
    assert GRID.in_order(cells)
    for part in (lambda cell: cell % 32, lambda cell: cell // 32):
        assert sorted(map(part, cells)) == sorted(map(part, (first, last)))


def test_quantisation_of_small_boxes() -> None:
    """The ceiling of the grid: boxes below about 6 % of a side are not found again."""
    rng = np.random.default_rng(0)

    def mean_overlap(low: float, high: float) -> float:
        overlaps = []
        for _ in range(400):
            width, height = rng.uniform(low, high, 2)
            left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
            box = (left, top, left + width, top + height)
            other = GRID.decode(GRID.encode(box))
            sides = [min(box[i + 2], other[i + 2]) - max(box[i], other[i]) for i in (0, 1)]
            shared = max(sides[0], 0) * max(sides[1], 0)
            area = (other[2] - other[0]) * (other[3] - other[1])
            overlaps.append(shared / (width * height + area - shared))
        return float(np.mean(overlaps))

    ceilings = {(0.01, 0.03): 0.27, (0.03, 0.06): 0.51, (0.06, 0.1): 0.68, (0.1, 0.2): 0.81, (0.2, 0.5): 0.91}
    for sides, ceiling in ceilings.items():
        assert mean_overlap(*sides) == pytest.approx(ceiling, abs=0.02)

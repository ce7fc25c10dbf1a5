"""Operations an event: the published table, a count by hand, and what engines report."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from multiway_event_vision.ssla_det.config import PRESETS, SslaDetConfig
from multiway_event_vision.ssla_det.cost import cost_of, head_flops, layer_flops, level_flops, thinned_flops
from multiway_event_vision.ssla_det.engines.engine import Work
from multiway_event_vision.ssla_det.engines.event import EventEngine
from multiway_event_vision.ssla_det.model import build

streams = importlib.import_module("packages.event-vision.tests.ssla_streams")

# Millions of operations: mean and worst event by the released formula, and the same folded.
TABLE = {
    "ssla-s": (0.109, 2.58, 0.064, 1.49),
    "ssla-b": (0.193, 4.58, 0.113, 2.65),
    "ssla-m": (0.432, 10.3, 0.253, 5.9),
    "ssla-l": (0.767, 18.3, 0.447, 10.5),
}


@pytest.mark.parametrize("preset", TABLE)
def test_published_counts(preset: str) -> None:
    config = PRESETS[preset]
    found = []
    for folded in (False, True):
        found += [
            thinned_flops(config, folded=folded),
            level_flops(config, folded=folded).sum() + head_flops(config.widths[-1], config.num_classes),
        ]
    assert [float(f"{x / 1e6:.3g}") for x in found] == pytest.approx(TABLE[preset], rel=0.01)


def test_a_layer_by_hand() -> None:
    # c = 1, d = 2, one position. Folded: A (6 x 1): 6; sigmoid 8, scan 4, product 2, sum 2; B (2 x 2): 6;
    # residual (2 x 1): 2, its sum 2; LayerNorm 17.
    assert layer_flops(1, 2, 1) == 6 + 8 + 4 + 2 + 2 + 6 + 2 + 2 + 17
    # Plain: S (2 x 1): 2; q, v, g: 18; o: 6 more.
    assert layer_flops(1, 2, 1, folded=False) == layer_flops(1, 2, 1) - 6 + 2 + 18 + 6


def test_percentiles_come_from_the_levels_reached() -> None:
    config = SslaDetConfig((4, 6, 8))
    levels = level_flops(config)
    work = Work(np.array([970, 25, 5]), np.array([0, 3, 2]), predicted=10)
    cost = cost_of(config, work)
    each = np.repeat(levels.cumsum(), work.updated)
    assert cost.events == 1000
    assert cost.mean == pytest.approx(each.mean())
    assert (cost.p50, cost.p99) == tuple(np.percentile(each, (50, 99), method="inverted_cdf"))
    assert cost.max == each.max()
    assert cost.peeks == pytest.approx((3 * (levels[1] + levels[2]) + 2 * levels[2]) / 1000)
    assert cost.head == pytest.approx(10 * head_flops(config.widths[-1], config.num_classes) / 1000)
    assert cost.worst == levels.sum() + head_flops(config.widths[-1], config.num_classes)
    assert np.isnan(cost_of(config, Work.none(3)).mean)
    assert cost_of(config, Work(np.array([5, 0, 0]), np.zeros(3, np.int64))).max == levels[0]


def test_engines_count_their_work() -> None:
    config = PRESETS["ssla-tiny"]
    engine = EventEngine(build(config), 40, 50)
    stream = streams.random_stream(2000, 40, 50, seed=0)
    engine.push(*stream)
    grid, _ = engine.predict()
    cost = cost_of(config, engine.work)
    assert cost.events == 2000
    assert cost.p50 == level_flops(config)[0]
    assert thinned_flops(config) * 0.8 < cost.mean < thinned_flops(config) * 2
    waiting = int(((engine.state.depth_G > 0) & (engine.state.depth_G < 4)).sum())
    assert engine.work.peeked.sum() == waiting
    assert engine.work.predicted == int(grid.active_G.sum())

"""Policies: each forgets exactly when it says, and a detector reads them as it reads an engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from multiway_core.errors import InputError
from multiway_event_vision.events import Events
from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.detections import DetectionConfig, detect
from multiway_event_vision.ssla_det.engines.micro_batch import MicroBatchEngine
from multiway_event_vision.ssla_det.model import build
from multiway_event_vision.ssla_det.policies import Policy, PolicyName

HEIGHT, WIDTH = 16, 24
HORIZON = 1000
MODEL = build(SslaDetConfig((6, 8), num_classes=2), seed=0).double()


def engine() -> MicroBatchEngine:
    return MicroBatchEngine(MODEL, height=HEIGHT, width=WIDTH)


def events(seed: int = 0, count: int = 400, end: int = 3 * HORIZON) -> Events:
    generator = np.random.default_rng(seed)
    t = np.sort(generator.integers(50, end, count))
    t[0] = 50
    x, y = generator.integers(0, WIDTH, count), generator.integers(0, HEIGHT, count)
    return Events.from_arrays(t, x, y, generator.integers(0, 2, count), WIDTH, HEIGHT)


def remembered_from(name: str, t: int) -> int:
    """Where the memory of a policy begins that is read at `t`, window after window from the first event (50)."""
    since = t - 50
    if name == "continuous":
        return 0
    if name == "window":
        return 50 + since // HORIZON * HORIZON
    return 50 + max(0, since // (HORIZON // 2) - 1) * (HORIZON // 2)


@pytest.mark.parametrize("name", ["continuous", "window", "sliding"])
@pytest.mark.parametrize("slice_us", [333, 5000])
def test_a_policy_reads_what_an_engine_reads_that_saw_its_memory_alone(
    name: PolicyName, slice_us: int
) -> None:
    stream = events()
    policy = Policy(engine, name, HORIZON)
    for start in range(0, 3 * HORIZON, slice_us):
        policy.push_events(stream.between(start, start + slice_us))
        seen = stream.between(0, start + slice_us)
        if not len(seen):
            continue
        alone = engine()
        alone.push_events(seen.between(remembered_from(name, int(seen.t[-1])), 10**9))
        expected, grid = alone.read(), policy.read()
        assert torch.equal(grid.active_G, expected.active_G)
        torch.testing.assert_close(grid.feature_GD, expected.feature_GD, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("name", "end", "forgets_at"), [("window", 900, 1050), ("sliding", 900, 1550)])
def test_windows_end_in_silence_too(name: PolicyName, end: int, forgets_at: int) -> None:
    policy = Policy(engine, name, HORIZON)
    policy.push_events(events(end=end))
    policy.advance(forgets_at - 1)
    assert policy.read().active_G.any()
    policy.advance(forgets_at)
    assert not policy.read().active_G.any()
    policy.advance(50 + 100 * HORIZON)
    policy.push(*(np.array([value]) for value in (200_000, 1, 1, 1)))
    assert int(policy.read().active_G.sum()) == 1


def test_detect_takes_a_policy_and_reset_forgets_its_start() -> None:
    everything = DetectionConfig(score=0)
    policy = Policy(engine, "sliding", HORIZON)
    policy.push_events(events())
    assert len(detect(policy, everything).score_M) > 0
    policy.reset()
    assert len(detect(policy, everything).score_M) == 0
    policy.push_events(events())  # from the beginning again
    assert len(detect(policy, everything).score_M) > 0


def test_what_cannot_be_is_refused_before_anything_is_taken() -> None:
    with pytest.raises(InputError, match="no policy 'never'; expected one of continuous, window, sliding"):
        Policy(engine, "never")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a window of 1 us"):
        Policy(engine, "window", 1)
    policy = Policy(engine, "window", HORIZON)
    policy.push_events(events())
    grid = policy.read()
    with pytest.raises(InputError, match="time runs backwards, to 50 us behind"):
        policy.push_events(events())
    with pytest.raises(InputError, match="time runs backwards, to 3 us"):
        policy.advance(3)
    late = np.array([5000, 6000])
    with pytest.raises(InputError, match="x reaches from 0 to 99"):
        policy.push(late, np.array([0, 99]), np.array([0, 0]), np.array([0, 1]))
    with pytest.raises(InputError, match="sensor of 5x5"):
        policy.push_events(Events.empty(5, 5))
    assert torch.equal(policy.read().feature_GD, grid.feature_GD)

"""The filter against a loop over events, and in front of an engine."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from multiway_core.errors import InputError
from multiway_event_vision.events import Events
from multiway_event_vision.ssla_det.hot_pixels import HotPixelFilter

HEIGHT, WIDTH = 4, 6


def made(seed: int, count: int = 3000) -> Events:
    """A third of all events from one pixel, a fifth of all from another."""
    generator = np.random.default_rng(seed)
    t = np.cumsum(generator.choice([0, 1, 30, 400], count))
    pixel = generator.integers(0, HEIGHT * WIDTH, count)
    chance = generator.random(count)
    pixel[chance < 0.33] = 7
    pixel[chance > 0.8] = 20
    return Events.from_arrays(
        t, pixel % WIDTH, pixel // WIDTH, generator.integers(0, 2, count), WIDTH, HEIGHT
    )


def by_hand(events: Events, most: int, period: int) -> list[int]:
    tokens: dict[int, float] = {}
    seen: dict[int, int] = {}
    passed = []
    for number, (t, x, y) in enumerate(zip(events.t.tolist(), events.x, events.y, strict=True)):
        pixel = int(y) * WIDTH + int(x)
        level = min(tokens.get(pixel, most * period) + (t - seen.get(pixel, 0)) * most, most * period)
        if level >= period:
            passed.append(number)
            level -= period
        tokens[pixel], seen[pixel] = level, t
    return passed


@pytest.mark.parametrize("cuts", [[], [1, 500, 501, 2999]])
def test_what_passes_is_what_passes_one_by_one(cuts: list[int]) -> None:
    events = made(0)
    keep = HotPixelFilter(HEIGHT, WIDTH, max_events=5, period_us=10_000)
    bounds = [0, *cuts, len(events)]
    passed = [keep(events[low:high]) for low, high in pairwise(bounds)]
    expected = by_hand(events, 5, 10_000)
    assert 500 < len(expected) < 2500
    for name in "txyp":
        found = np.concatenate([getattr(part, name) for part in passed])
        assert np.array_equal(found, getattr(events, name)[expected])


def test_fifty_at_once_and_then_one_every_two_milliseconds() -> None:
    keep = HotPixelFilter(1, 1)
    t = np.arange(0, 1_000_000, 100)  # ten thousand a second
    zeros = np.zeros(len(t), int)
    found = keep(Events.from_arrays(t, zeros, zeros, zeros, 1, 1))
    assert np.array_equal(found.t[:50], t[:50])
    later = found.t[(found.t >= 500_000)]
    assert np.array_equal(np.unique(np.diff(later)), [2000])
    quiet = Events.from_arrays(t[-1:] + 100_000, [0], [0], [0], 1, 1)
    assert len(keep(quiet)) == 1


def test_a_quiet_sensor_loses_nothing_and_reset_fills_buckets() -> None:
    events = made(1, 200)
    keep = HotPixelFilter(HEIGHT, WIDTH, max_events=200)
    assert keep(events) is events
    assert len(keep(Events.empty(WIDTH, HEIGHT))) == 0
    few = HotPixelFilter(HEIGHT, WIDTH, max_events=1, period_us=10**9)
    first = len(few(events))
    few.reset()
    assert len(few(events)) == first == len(np.unique(events.y * WIDTH + events.x))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="must be positive"):
        HotPixelFilter(2, 2, max_events=0)
    keep = HotPixelFilter(HEIGHT, WIDTH)
    with pytest.raises(InputError, match="sensor of 3x2"):
        keep(Events.empty(3, 2))
    keep(made(0))
    with pytest.raises(InputError, match="time runs backwards"):
        keep(made(0))

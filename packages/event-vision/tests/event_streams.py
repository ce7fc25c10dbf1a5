"""Random streams for tests of readers and writers, and where the real recordings are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from multiway_event_vision.events import Events

SAMPLES = Path(__file__).parents[4] / "shared" / "data" / "events"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs ../shared/data")


def made_events(
    count: int, *, width: int = 320, height: int = 240, span: int = 1_000_000, start: int = 0, seed: int = 0
) -> Events:
    """Events with ties, and stretches of neighbours in a row as an edge makes them."""
    generator = np.random.default_rng(seed)
    t = np.sort(generator.integers(start, start + span, count))
    x, y = generator.integers(0, width, count), generator.integers(0, height, count)
    p = generator.integers(0, 2, count)
    for low in generator.integers(0, max(count, 1), count // 20):
        high = min(low + int(generator.integers(2, 30)), count)
        t[low:high], y[low:high], p[low:high] = t[low], y[low], p[low]
        x[low:high] = np.minimum(x[low] + np.cumsum(generator.integers(1, 3, high - low)), width - 1)
    return Events.from_arrays(np.maximum.accumulate(t), x, y, p, width, height)


def assert_same(found: Events, expected: Events, *, time_offset: int = 0) -> None:
    """Every event in its place; `time_offset` is what a format dropped from the times."""
    assert (found.width, found.height, len(found)) == (expected.width, expected.height, len(expected))
    np.testing.assert_array_equal(found.t + time_offset, expected.t)
    for name in "xyp":
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))

"""Random event streams with all that is hard for an engine: ties, borders, bursts at one pixel, long silences."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

Stream = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def random_stream(events: int, height: int, width: int, *, seed: int, start: int = 0) -> Stream:
    """(t, x, y, p) with non-decreasing t; a third of all steps in time are 0, and ties are in random order."""
    rng = np.random.default_rng(seed)
    steps = rng.choice(
        [0, 0, 0, 1, 3, 40, 900, 150_000], size=events, p=[0.2, 0.1, 0.05, 0.25, 0.2, 0.1, 0.08, 0.02]
    )
    t = start + np.cumsum(steps).astype(np.int64)
    # Half of the events around a spot that wanders, so that states are used again and again; borders are hit often.
    spot_x, spot_y = np.cumsum(rng.normal(0, 0.3, (2, events)), axis=1)
    x = np.where(
        rng.random(events) < 0.5,
        width / 2 + spot_x + rng.normal(0, 2, events),
        rng.uniform(-1, width, events),
    )
    y = np.where(
        rng.random(events) < 0.5,
        height / 2 + spot_y + rng.normal(0, 2, events),
        rng.uniform(-1, height, events),
    )
    x = np.clip(np.floor(x), 0, width - 1).astype(np.int16)
    y = np.clip(np.floor(y), 0, height - 1).astype(np.int16)
    return t, x, y, rng.integers(0, 2, events).astype(np.int8)


def split_at_times(stream: Stream, times: list[int]) -> list[Stream]:
    """Pieces with t <= times[0], times[0] < t <= times[1], ...; ties stay together."""
    cuts = [0, *np.searchsorted(stream[0], times, side="right").tolist()]
    return [tuple(a[i:j] for a in stream) for i, j in pairwise(cuts)]  # type: ignore[misc]

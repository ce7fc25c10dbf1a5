"""Events in memory: promises that `check` holds, slices, joins and windows of time."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core.errors import InputError
from multiway_event_vision.events import Events, by_time, concatenate

from .event_streams import assert_same, made_events


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": [5, 4]}, "event 1 is of 4 us, earlier than the 5 us before it"),
        ({"t": [-1, 4]}, "event 0 has the time -1 us"),
        ({"x": [0, 8]}, "event 1 lies at (8, 0), outside the sensor of 8 x 6 pixels"),
        ({"y": [6, 0]}, "event 0 lies at (0, 6)"),
        ({"x": [-1, 0]}, "x ranges from -1 to 0; expected 0 to 65535"),
        ({"p": [0, 2]}, "event 1 has the polarity 2; expected 0 or 1"),
        ({"p": [-1, 1]}, "p ranges from -1 to 1; expected 0 to 255"),
        ({"t": [0.5, 1]}, "t holds float64; expected whole numbers"),
        ({"x": [1]}, "x has shape (1,)"),
        ({"width": 0}, "a sensor of 0 x 6 pixels"),
    ],
)
def test_check_names_the_first_bad_event(change, message):
    values = {"t": [0, 0], "x": [0, 7], "y": [0, 0], "p": [0, 1], "width": 8, "height": 6} | change
    with pytest.raises(InputError, match=re.escape(message)):
        Events.from_arrays(**values)


def test_empty_events():
    events = Events.from_arrays([], [], [], [], 8, 6)
    assert len(events) == 0
    assert events.duration == 0
    assert_same(events.between(0, 10), Events.empty(8, 6))
    assert_same(concatenate([events, events]), events)
    with pytest.raises(InputError, match="no events to join"):
        concatenate([])


def test_between_and_concatenate():
    events = made_events(2000)
    parts = [events.between(low, low + 100_000) for low in range(0, 1_000_000, 100_000)]
    assert sum(map(len, parts)) == 2000
    assert all(((part.t >= i * 100_000) & (part.t < (i + 1) * 100_000)).all() for i, part in enumerate(parts))
    assert_same(concatenate(parts), events)
    with pytest.raises(InputError, match="in order of time"):
        concatenate(parts[::-1])
    with pytest.raises(InputError, match="different sensors"):
        concatenate([events, made_events(3, width=100)])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 300), st.integers(1, 5000), st.integers(1, 200), st.integers(0, 5))
def test_windows_cover_all_without_gaps(count, period, chunk, seed):
    events = made_events(count, span=20_000, start=777, seed=seed)
    chunks = [events[low : low + chunk] for low in range(0, count, chunk)]
    windows = list(by_time(chunks, period))
    if not count:
        assert windows == []
        return
    starts = [start for start, _ in windows]
    assert starts == list(range(int(events.t[0]), int(events.t[-1]) + 1, period))
    for start, window in windows:
        assert_same(window, events.between(start, start + period))


def test_windows_from_a_given_start():
    events = made_events(100, span=1000, start=500)
    windows = dict(by_time([events], 250, start=1000))
    assert_same(windows[1000], events.between(1000, 1250))
    assert min(windows) == 1000
    early = dict(by_time([events], 250, start=0))
    assert len(early[0]) == 0
    with pytest.raises(InputError, match="a window of 0 us"):
        next(by_time([events], 0))


def test_a_mask_copies_and_a_slice_does_not():
    events = made_events(10)
    assert np.shares_memory(events[2:5].t, events.t)
    assert not np.shares_memory(events[events.p == 1].t, events.t)

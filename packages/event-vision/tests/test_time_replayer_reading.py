"""Frames and events side by side; videos whose files tell little."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_core.errors import DataError, InputError
from multiway_event_vision.events import Events
from multiway_event_vision.rendering import write_folder
from multiway_event_vision.time_replayer.frame_pairs import FramePairs
from multiway_event_vision.time_replayer.frames import Frame, open_frames


class Chunked:
    """Events in chunks of a few."""

    def __init__(self, events, size):
        self.events, self.size = events, size
        self.width, self.height = events.width, events.height

    def chunks(self):
        for low in range(0, len(self.events), self.size):
            yield self.events[low : low + self.size]


def some_events(count=500, start=0, end=1000):
    generator = np.random.default_rng(0)
    t = np.sort(generator.integers(start, end, count))
    return Events.from_arrays(t, *(generator.integers(0, bound, count) for bound in (8, 6, 2)), 8, 6)


def frames_at(*times):
    return [Frame(np.zeros((6, 8, 3), np.uint8), t) for t in times]


@pytest.mark.parametrize("size", [1, 7, 500])
def test_every_stretch_has_its_events_whatever_the_chunks(size):
    events = some_events()
    stretches = FramePairs(frames_at(100, 150, 151, 700, 2000), Chunked(events, size))
    for first, second, found in stretches:
        np.testing.assert_array_equal(found.t, events.between(first.t, second.t).t)
        np.testing.assert_array_equal(found.x, events.between(first.t, second.t).x)
    assert stretches.used == len(events.between(100, 2000))
    assert (stretches.frames, stretches.begin, stretches.end) == (5, 100, 2000)


def test_the_clocks_may_differ():
    (found,) = [
        events for *_, events in FramePairs(frames_at(5000, 6000), Chunked(some_events(), 9), offset=5000)
    ]
    assert len(found) == 500
    assert found.t[0] >= 5000


@pytest.mark.parametrize(
    ("frames", "events", "said"),
    [
        ((5000, 6000), some_events(), "no event while the frames last"),
        ((0, 10), Events.empty(8, 6), "no events at all"),
        ((0,), some_events(), "1 frame in the video"),
        ((), some_events(), "0 frame in the video"),
    ],
)
def test_what_does_not_go_together(frames, events, said):
    with pytest.raises(InputError, match=said):
        list(FramePairs(frames_at(*frames), Chunked(events, 100)))


def test_a_folder_keeps_its_times_and_is_scaled_in_proportion(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 40, 3), np.uint8)
    write_folder(tmp_path / "f", zip(images, (0, 30_000, 90_000), strict=True))
    frames = open_frames(tmp_path / "f")
    found = list(frames.frames())
    assert [frame.t for frame in found] == [0, 30_000, 90_000]
    np.testing.assert_array_equal(found[2].image_HW3, images[2])
    assert frames.rate == pytest.approx(2e6 / 90_000)
    small = open_frames(tmp_path / "f", width=20, frames_per_second=10)
    assert (small.width, small.height) == (20, 12)
    assert [frame.t for frame in small.frames()] == [0, 100_000, 200_000]
    (tmp_path / "f" / "images.txt").write_text("0.2 000000.png\n0.1 000001.png\n")
    with pytest.raises(DataError, match="after one of"):
        list(open_frames(tmp_path / "f").frames())

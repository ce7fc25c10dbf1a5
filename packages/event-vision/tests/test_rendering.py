"""Views held to their definitions pixel by pixel, windows without a gap, and videos that other readers open."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from multiway_core.errors import DataError, InputError
from multiway_event_vision.events import Events
from multiway_event_vision.rendering import (
    CLASS_COLOURS,
    VIEWS,
    EventCount,
    LatestEvents,
    PolarityFrame,
    TimeSurface,
    VoxelSlice,
    draw_boxes,
    pictures,
    write_mp4,
)
from multiway_event_vision.rendering.views import _coloured

from .event_streams import made_events

WHITE = (255, 255, 255)
BLUE, RED = (33, 102, 172), (178, 24, 43)


class Pieces:
    """A stream of given pieces."""

    def __init__(self, events, size):
        self.events, self.size = events, size
        self.width, self.height = events.width, events.height

    def chunks(self, chunk_events=0):
        for low in range(0, len(self.events), self.size):
            yield self.events[low : low + self.size]


def events_at(*rows):
    t, x, y, p = zip(*rows, strict=True)
    return Events.from_arrays(t, x, y, p, 4, 3)


def test_polarity_frame():
    view = PolarityFrame(4, 3, full=2)
    view.begin(0, 10)
    view.add(events_at((0, 1, 0, 1), (1, 1, 0, 1), (2, 1, 0, 1), (3, 2, 2, 0), (4, 0, 1, 1), (5, 0, 1, 0)))
    image = view.picture()
    assert (image.shape, image.dtype) == ((3, 4, 3), np.uint8)
    assert tuple(image[0, 1]) == BLUE  # three, and two are full
    assert tuple(image[2, 2]) == tuple(np.rint((np.array(RED) + 255) / 2).astype(int))
    assert tuple(image[1, 0]) == WHITE  # one of each
    view.begin(10, 10)
    assert (view.picture() == 255).all()


def test_event_count():
    view = EventCount(4, 3, full=2)
    view.begin(0, 10)
    view.add(events_at((0, 1, 0, 1), (1, 1, 0, 0), (3, 2, 2, 0)))
    image = view.picture()
    assert tuple(image[0, 1]) == (31, 41, 55)
    assert tuple(image[2, 2]) == tuple(np.rint((np.array((31, 41, 55)) + 255) / 2).astype(int))
    assert tuple(image[1, 0]) == WHITE
    view.begin(10, 10)
    assert (view.picture() == 255).all()


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_the_latest_events_are_those_of_the_window_before(name):
    """Given slice by slice, in whatever slices, as given at once."""
    events = made_events(3000, width=20, height=15, span=100_000, seed=2)
    latest = LatestEvents(VIEWS[name](20, 15), 25_000)
    for t in range(10_000, 110_000, 10_000):
        image = latest.picture(events.between(t - 10_000, t), t)
        if name == "surface" and t > 25_000:
            continue  # it remembers what came before the window
        view = VIEWS[name](20, 15)
        view.begin(t - 25_000, 25_000)
        view.add(events.between(t - 25_000, t))
        np.testing.assert_array_equal(image, view.picture())
    with pytest.raises(InputError, match="a window of 0 us"):
        LatestEvents(VIEWS[name](20, 15), 0)


def test_boxes_are_drawn_where_they_are():
    image = np.full((40, 200, 3), 255, np.uint8)
    drawn = draw_boxes(image, np.array([[10.0, 20.0, 30.0, 35.0]]), np.array([9]), ["car 0.81"], scale=2)
    assert drawn.shape == (80, 400, 3)
    assert tuple(drawn[55, 20]) == tuple(drawn[70, 40]) == CLASS_COLOURS[1]
    assert tuple(drawn[55, 40]) == WHITE
    assert (drawn[26:38, 20:60] != 255).any()  # the caption
    assert (image == 255).all()
    corner = draw_boxes(image, np.array([[0.0, 0.0, 200.0, 40.0]]), np.array([0]), ["a"], scale=2)
    assert tuple(corner[79, 200]) == CLASS_COLOURS[0]


def test_time_surface_fades_and_remembers():
    view = TimeSurface(4, 3, decay=100)
    view.begin(0, 50)
    view.add(events_at((0, 1, 0, 0), (50, 1, 0, 1), (50, 3, 2, 0)))
    assert tuple(view.picture()[0, 1]) == BLUE
    assert tuple(view.picture()[2, 3]) == RED
    assert tuple(view.picture()[0, 0]) == WHITE
    view.begin(50, 50)
    expected = _coloured(np.array([[np.exp(-0.5), -np.exp(-0.5)]]))
    np.testing.assert_array_equal(view.picture()[[0, 2], [1, 3]], expected[0])


def test_voxel_slices_are_the_voxel_grid():
    events = made_events(2000, width=4, height=3, span=1000, seed=1)
    grid = np.zeros((5, 3, 4))
    for t, x, y, p in zip(events.t, events.x, events.y, events.p, strict=True):
        place = t / 1000 * 4
        for bin in range(5):
            grid[bin, y, x] += max(0.0, 1 - abs(place - bin)) * (2 * int(p) - 1)
    for bin in range(5):
        view = VoxelSlice(4, 3, bin=bin, full=50)
        view.begin(0, 1000)
        for low in range(0, 2000, 300):
            view.add(events[low : low + 300])
        np.testing.assert_array_equal(view.picture(), _coloured(grid[bin] / 50))


@pytest.mark.parametrize("name", list(VIEWS))
def test_pictures_are_the_same_in_any_chunks(name):
    events = made_events(3000, width=30, height=20, span=100_000, start=5_000_000, seed=2)
    events = events[(events.t < 5_030_000) | (events.t > 5_065_000)]  # windows without events
    first = int(events.t[0])
    whole = list(pictures(Pieces(events, 3000), VIEWS[name](30, 20), 10_000))
    assert [picture.start for picture in whole] == list(range(first, int(events.t[-1]) + 1, 10_000))
    for size in (1, 17, 2999):
        again = list(pictures(Pieces(events, size), VIEWS[name](30, 20), 10_000))
        assert [picture.start for picture in again] == [picture.start for picture in whole]
        for one, other in zip(again, whole, strict=True):
            np.testing.assert_array_equal(one.image, other.image)
    view = VIEWS[name](30, 20)
    view.begin(first, 10_000)
    view.add(events.between(first, first + 10_000))
    np.testing.assert_array_equal(view.picture(), whole[0].image)


def test_a_stretch():
    events = made_events(1000, width=30, height=20, span=100_000, seed=3)
    first = int(events.t[0])
    found = list(pictures(Pieces(events, 70), PolarityFrame(30, 20), 10_000, start=25_000, end=47_000))
    assert [picture.start - first for picture in found] == [25_000, 35_000, 45_000]
    view = PolarityFrame(30, 20)
    view.add(events.between(first + 45_000, first + 47_000))
    np.testing.assert_array_equal(found[-1].image, view.picture())


def test_stretches_that_cannot_be_drawn():
    events = made_events(1000, width=30, height=20, span=100_000, seed=3)
    late = Events.from_arrays([0, 1 << 50], [0, 1], [0, 1], [0, 1], 30, 20)
    for stream, options, message in [
        (events, {"window": 0}, "a window of 0 us"),
        (events, {"window": 9, "start": 5, "end": 5}, "expected 0 <= start < end"),
        (events, {"window": 9, "start": -1}, "expected 0 <= start < end"),
        (events, {"window": 9, "start": 200_000}, "no events at 200000 us after the first one"),
        (Events.empty(30, 20), {"window": 9}, "holds no events"),
        (late, {"window": 1000}, "more than 1,000,000 pictures"),
    ]:
        with pytest.raises(InputError, match=message):
            list(pictures(Pieces(stream, 100), PolarityFrame(30, 20), **options))


def test_views_that_cannot_be():
    for make, message in [
        (lambda: PolarityFrame(0, 3), "a sensor of 0 x 3"),
        (lambda: PolarityFrame(4, 3, full=0), "the full colour at 0"),
        (lambda: TimeSurface(4, 3, decay=0), "a decay of 0 us"),
        (lambda: VoxelSlice(4, 3, bin=5), "bin 5 of 5; expected 0 to 4"),
        (lambda: VoxelSlice(4, 3, bins=1), "1 bins; expected 2 or more"),
    ]:
        with pytest.raises(InputError, match=message):
            make()


def test_a_video_with_odd_sides_is_read_back(tmp_path):
    path = tmp_path / "a.mp4"
    images = [np.full((45, 67, 3), (60 + 10 * number, 120, 200), np.uint8) for number in range(9)]
    assert write_mp4(path, images, frames_per_second=12.5) == 9
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == 12.5
    assert int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little") == b"h264"
    for image in images:
        is_read, found = capture.read()
        assert is_read
        assert found.shape == (46, 68, 3)
        assert np.abs(found[:45, :67, ::-1].astype(int) - image).max() <= 8
    assert not capture.read()[0]
    capture.release()


def test_a_video_that_fails_leaves_nothing(tmp_path):
    def broken(count):
        yield from [np.zeros((40, 60, 3), np.uint8)] * count
        raise DataError("the recording is cut")

    path = tmp_path / "a.mp4"
    for images, error, message in [
        (broken(0), DataError, "is cut"),
        (broken(100), DataError, "is cut"),
        ([], InputError, "no pictures"),
        ([np.zeros((4, 6, 3), np.uint8), np.zeros((6, 6, 3), np.uint8)], InputError, "after one of"),
    ]:
        with pytest.raises(error, match=message):
            write_mp4(path, images)
    with pytest.raises(InputError, match="0 frames a second"):
        write_mp4(path, [np.zeros((4, 6, 3), np.uint8)], frames_per_second=0)
    assert list(tmp_path.iterdir()) == []

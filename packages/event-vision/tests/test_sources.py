"""Recordings, videos and folders of pictures as streams of events."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from multiway_core.errors import DataError, InputError
from multiway_event_vision.formats import write_events
from multiway_event_vision.rendering import write_mp4
from multiway_event_vision.simulator import SensorConfig
from multiway_event_vision.sources import open_source

from .event_streams import assert_same, made_events


@pytest.fixture
def video(tmp_path):
    frames = np.zeros((6, 30, 400, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[5:25, 20 * number : 20 * number + 60] = 200
    write_mp4(tmp_path / "a.mp4", frames, frames_per_second=30)
    return tmp_path / "a.mp4"


def test_a_recording(tmp_path):
    events = made_events(500, width=40, height=30)
    write_events(tmp_path / "a.raw", events)
    stream = open_source(tmp_path / "a.raw")
    (chunk,) = stream.chunks()
    assert_same(chunk, events)
    with pytest.raises(InputError, match="a width is for videos"):
        open_source(tmp_path / "a.raw", width=20)


def test_a_video_is_scaled_and_gets_frames_between(video):
    stream = open_source(video)
    assert (stream.width, stream.height) == (304, 23)
    assert stream.source.factor == 6  # 30 a second, and 160 at least
    assert open_source(video, width=100).width == 100
    assert open_source(video, upsample=1).source.frames_per_second == 30
    times = np.concatenate([chunk.t for chunk in open_source(video, width=100, upsample=2).chunks()])
    assert 0 < times.min() < times.max() <= 5 * 33_334
    sharp = open_source(video, width=100, upsample=1, sensor=SensorConfig(threshold_on=2, threshold_off=2))
    assert sum(map(len, sharp.chunks())) < len(times)


def test_a_folder(tmp_path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((20, 30), 60 * number, np.uint8))
    (tmp_path / "images.txt").write_text("".join(f"{number / 10} {number}.png\n" for number in range(3)))
    stream = open_source(tmp_path)
    assert (stream.width, stream.height) == (30, 20)
    assert max(int(chunk.t[-1]) for chunk in stream.chunks()) <= 200_000
    with pytest.raises(InputError, match="as they are"):
        open_source(tmp_path, width=10)


def test_what_does_not_fit_is_a_line(video, tmp_path):
    with pytest.raises(InputError, match="are for recordings"):
        open_source(video, repair=True)
    for name in ("none.raw", "none.mp4"):
        with pytest.raises(DataError, match="no such file"):
            open_source(tmp_path / name)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match="no frame can be read"):
        open_source(tmp_path / "bad.mp4")

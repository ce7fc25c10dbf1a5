"""A small video with its events, a network that was never trained, and ways to call the command in this process."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

WIDTH, HEIGHT, FRAMES, PERIOD = 64, 48, 9, 40_000


def sliding_images(frames=FRAMES, speed=2):
    """A smooth texture that slides to the right."""
    generator = np.random.default_rng(0)
    length = WIDTH + frames * speed
    coarse = generator.uniform(20, 235, (HEIGHT // 6, length // 6 + 2)).astype(np.float32)
    wide = cv2.resize(coarse, (length, HEIGHT), interpolation=cv2.INTER_CUBIC).clip(0, 255)
    parts = [wide[:, (frames - n) * speed : (frames - n) * speed + WIDTH] for n in range(frames)]
    return np.rint(np.stack(parts)).astype(np.uint8)[..., None].repeat(3, -1)


@pytest.fixture
def images():
    """(9, 48, 64, 3) uint8."""
    return sliding_images()


@pytest.fixture
def video(images, tmp_path):
    """The images as a video of 25 frames a second."""
    from multiway_event_vision.rendering import write_mp4

    path = tmp_path / "video.mp4"
    write_mp4(path, images, frames_per_second=25)
    return path


@pytest.fixture
def folder(images, tmp_path):
    """The images as a folder with their times."""
    from multiway_event_vision.rendering import write_folder

    path = tmp_path / "frames"
    write_folder(path, zip(images, range(0, FRAMES * PERIOD, PERIOD), strict=True))
    return path


@pytest.fixture
def found_events(images):
    """What a sensor sends while it sees the images."""
    from multiway_event_vision.simulator import SensorConfig
    from multiway_event_vision.time_replayer.clips import Clip, record

    clip = Clip("sliding", images, np.arange(FRAMES) * PERIOD)
    return record(clip, [SensorConfig()], sub_frames=4).recordings[0]


@pytest.fixture
def events(found_events, tmp_path):
    """These events as a file that tells its sensor's size."""
    from multiway_event_vision.formats import write_events

    path = tmp_path / "events.raw"
    write_events(path, found_events)
    return path


@pytest.fixture
def model(tmp_path):
    """A folder with the smallest TimeReplayer, never trained: it blends."""
    from multiway_event_vision.time_replayer import checkpoint
    from multiway_event_vision.time_replayer.config import TINY
    from multiway_event_vision.time_replayer.model import TimeReplayer

    checkpoint.save(TimeReplayer(TINY), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def fusion_model(tmp_path):
    """A folder with the smallest fusion network, never trained: its frames are optical flow's."""
    from multiway_event_vision.frame_fusion import checkpoint
    from multiway_event_vision.frame_fusion.config import PRESETS
    from multiway_event_vision.frame_fusion.model import FrameFusion

    checkpoint.save(FrameFusion(PRESETS["tiny"]), tmp_path / "fusion")
    return tmp_path / "fusion"


@pytest.fixture
def call(call_app):
    """Run ``multiway-frame-interpolation`` in this process: exit code, standard output, standard error."""
    from multiway_frame_interpolation.cli import cli

    return call_app(cli, "multiway-frame-interpolation")


@pytest.fixture
def fails(call):
    """Call a command that must fail with one line on standard error and code 2; the line."""

    def run_command(*arguments) -> str:
        code, out, err = call(*arguments)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        return err

    return run_command

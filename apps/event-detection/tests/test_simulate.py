"""Recordings of videos, pictures and moving shapes."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
from multiway_event_vision.formats import open_events
from multiway_event_vision.labels import read_prophesee_boxes
from multiway_event_vision.simulator import ImageFolder, SensorConfig, Simulation, shapes_recording


def assert_same(found, expected):
    assert (found.width, found.height) == (expected.width, expected.height)
    for name in "txyp":
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def draw(shift):
    rows, columns = np.mgrid[:32, :48]
    return np.round(127 + 100 * np.sin((columns - shift) / 4) * np.cos(rows / 5)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "pictures"
    path.mkdir()
    for number in range(6):
        cv2.imwrite(str(path / f"{number}.png"), draw(number))
    return path


def test_shapes_and_their_boxes(tmp_path, call):
    out = tmp_path / "a_td.dat"
    short = ("--duration", "100ms", "--label-every", "25ms")
    code, printed, err = call("simulate", "--shapes", "-o", out, "--seed", 5, *short)
    assert (code, printed) == (0, f"{out}\n")
    events, boxes = shapes_recording(5, label_every_us=25_000)
    assert f"{len(boxes)} boxes in {tmp_path / 'a_bbox.npy'}" in err
    assert_same(open_events(out).read(), events)
    found = read_prophesee_boxes(tmp_path / "a_bbox.npy")
    for name in ("t", "x", "y", "width", "height", "class_id", "track_id"):
        np.testing.assert_array_equal(getattr(found, name), getattr(boxes, name))
    again = tmp_path / "b.h5"
    call("simulate", "--shapes", "-o", again, "--seed", 5, "--size", "128x96", "--duration", "0.1s")
    assert_same(open_events(again).read(), events)
    assert len(set(read_prophesee_boxes(tmp_path / "b_bbox.npy").t.tolist())) == 10


def test_pictures_with_a_sensor_of_ones_own(folder, tmp_path, call):
    out = tmp_path / "a.npz"
    sensor = ("--threshold", 0.15, "--threshold-off", 0.25, "--threshold-sigma", 0.01, "--noise", 2)
    sensor += ("--leak", 0.3, "--refractory", "1ms", "--cutoff", 50, "--seed", 7)
    code, _, err = call("simulate", folder, "-o", out, "--fps", 100, *sensor)
    assert code == 0
    config = SensorConfig(
        threshold_on=0.15,
        threshold_off=0.25,
        threshold_sigma=0.01,
        noise_hz=2,
        leak_hz=0.3,
        refractory_us=1000,
        cutoff_hz=50,
    )
    expected = Simulation(ImageFolder(folder, frames_per_second=100), config, 7).read()
    assert len(expected) > 100
    assert f"{len(expected):,} events of 48 x 32 pixels" in err
    assert_same(open_events(out).read(), expected)


def test_a_video(tmp_path, call):
    video = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (48, 32))
    for shift in range(5):
        writer.write(cv2.cvtColor(draw(shift), cv2.COLOR_GRAY2BGR))
    writer.release()
    code, _, err = call("simulate", video, "-o", tmp_path / "a.raw", "--width", 24, "--upsample", 2)
    assert code == 0
    assert "2 frames for each of its own, along optical flow: those in between are a guess" in err
    events = open_events(tmp_path / "a.raw").read()
    assert (events.width, events.height) == (24, 16)
    assert 0 <= events.t[0] < events.t[-1] <= 160_000


def test_a_still_scene_is_an_empty_recording_and_said_so(tmp_path, call):
    folder = tmp_path / "still"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), draw(0))
    code, _, err = call("simulate", folder, "-o", tmp_path / "a.dat", "--fps", 30, "--leak", 0)
    assert code == 0
    assert "no events: nothing in the pictures changes enough" in err
    assert len(open_events(tmp_path / "a.dat").read()) == 0


def test_a_video_that_is_none_is_one_line(tmp_path):
    """In a process of its own: the libraries below write to standard error as they please."""
    for name, content in (("a.mp4", bytes(range(256)) * 9), ("b.mp4", b"")):
        (tmp_path / name).write_bytes(content)
        command = [sys.executable, "-m", "multiway_event_detection", "simulate", name, "-o", "a.dat"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert (result.returncode, result.stdout) == (2, "")
        line = f"multiway-event-detection: {name}: no frame can be read from it; expected a video\n"
        assert result.stderr == line


def test_simulate_says_what_is_wrong_and_leaves_nothing(folder, tmp_path, fails):
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 9)
    bad = tmp_path / "bad"
    bad.mkdir()
    cv2.imwrite(str(bad / "0.png"), draw(0))
    (bad / "1.png").write_bytes(b"no picture")
    before = sorted(tmp_path.iterdir())
    out = ("-o", tmp_path / "a.dat")
    for arguments, message in [
        (out, "give a video, a folder of pictures, or --shapes"),
        ((folder, "--shapes", *out), "one of them"),
        ((tmp_path / "none.mp4", *out), "no such file"),
        ((folder, *out), "say how many frames a second"),
        ((bad, "--fps", 30, *out), "1.png: no picture"),
        ((folder, "--fps", 0, *out), "--fps 0: expected"),
        ((folder, "--fps", 30, "--width", 9, *out), "--width scales videos"),
        ((folder, "--fps", 30, "--size", "9x9", *out), "--size: only with --shapes"),
        (("--shapes", "--fps", 30, "--upsample", 3, *out), "--fps, --upsample: not with --shapes"),
        (("--shapes", "--size", "20x20", *out), "shapes that fit in"),
        (("--shapes", "--duration", "0", *out), "0 us"),
        (("--shapes", "--duration", "now", *out), "--duration now: expected a time"),
        (("--shapes", "--label-every", "1s", *out), "--label-every 1s: expected"),
        (("--shapes", "--threshold", 0, *out), "expected at least 0.01"),
        (("--shapes", "--threshold", "nan", *out), "--threshold"),
        (("--shapes", "--threshold", "inf", *out), "expected a finite number"),
        (("--shapes", "--noise", "-1", *out), "--noise"),
        (("--shapes", "--seed", "-1", *out), "--seed"),
        (("--shapes", "-o", tmp_path / "a.mp3"), "expected dat, evt2"),
        (("--shapes", "-o", tmp_path / "noise.mp4" / "a.dat"), "cannot write"),
    ]:
        assert message in fails("simulate", *arguments), arguments
        assert sorted(tmp_path.iterdir()) == before


def test_simulate_and_detect_show_a_detector_the_same_events(tmp_path, call):
    """A video of 25 frames a second, wider than 304 pixels: both scale it down and put frames in between."""
    from multiway_event_vision.rendering import write_mp4
    from multiway_event_vision.sources import open_source

    wide = [cv2.resize(draw(2 * n), (320, 208))[..., None].repeat(3, -1) for n in range(4)]
    video, out = tmp_path / "video.mp4", tmp_path / "a.npz"
    write_mp4(video, iter(wide), frames_per_second=25)
    code, _, err = call("simulate", video, "-o", out)
    assert code == 0
    assert "7 frames for each of its own" in err
    events = open_events(out).read()
    assert events.width == 304
    assert_same(events, open_source(video).read())

"""Recordings of streets: tracks from a teacher's boxes, labels where something happens, views for training."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from multiway_core.errors import DataError, InputError
from multiway_event_vision.events import Events
from multiway_event_vision.labels import Boxes, write_coco_boxes
from multiway_event_vision.labels.labelled import LabelledRecording
from multiway_event_vision.street import dataset
from multiway_event_vision.street.recording import LabelConfig, RecordingConfig, are_seen, street_recording
from multiway_event_vision.street.tracks import TrackConfig, boxes_of, link
from multiway_event_vision.street.views import ViewConfig, street_views

PERIOD = 100_000


def detections(rows: list[tuple[float, ...]]) -> Boxes:
    """Boxes of (t, x, y, width, height, class, score)."""
    t, x, y, width, height, class_id, score = np.array(rows).T
    return Boxes.from_arrays(t, x, y, width, height, class_id, None, score)


def test_objects_that_meet_keep_their_tracks() -> None:
    rows = []
    for step in range(20):
        rows.append((step * PERIOD, 10 + 5 * step, 10, 20, 40, 0, 0.9))
        rows.append((step * PERIOD, 110 - 5 * step, 16, 20, 40, 0, 0.8))
        rows.append((step * PERIOD, 60, 12, 22, 38, 1, 0.7))
    tracks = link(detections(rows))
    assert [track.class_id for track in tracks] == [0, 0, 1]
    paces = [np.diff([corners[0] for corners in track.corners]) for track in tracks]
    np.testing.assert_allclose(np.stack(paces), np.array([[5.0], [-5.0], [0.0]]) * np.ones((3, 19)))


def test_gaps_are_filled_and_doubtful_boxes_go_on_with_a_track() -> None:
    seen = [step for step in range(12) if step not in (4, 5, 6)]
    rows = [(step * PERIOD, 3 * step, 0, 20, 20, 1, 0.9 if step < 3 else 0.3) for step in seen]
    config = TrackConfig(min_mean_score=0.3)
    tracks = link(detections(rows), config)
    assert len(tracks) == 1
    boxes = boxes_of(tracks, np.arange(0, 12 * PERIOD, PERIOD // 2), config)
    np.testing.assert_allclose(boxes.x, 3 * boxes.t / PERIOD, atol=1e-4)  # a line stays one, its ends too
    assert set(boxes.track_id.tolist()) == {0}
    assert boxes.t[-1] == 11 * PERIOD


@pytest.mark.parametrize(
    "rows",
    [
        [(step * PERIOD, 0, 0, 20, 20, 0, 0.9) for step in range(3)],  # too short
        [(step * PERIOD, 0, 0, 20, 20, 0, 0.4) for step in range(20)],  # never sure
        [(step * PERIOD, 60 * step, 0, 20, 20, 0, 0.9) for step in range(20)],  # nothing to link
        [(9 * step * PERIOD, 0, 0, 20, 20, 0, 0.9) for step in range(9)],  # gaps too long
    ],
)
def test_what_flickers_is_dropped(rows: list[tuple[float, ...]]) -> None:
    assert link(detections(rows)) == []


def test_smoothing_takes_jitter_away() -> None:
    noise = np.random.default_rng(0).normal(0, 2, 40)
    rows = [(step * 33_333, 2 * step + noise[step], 0, 20, 20, 0, 0.9) for step in range(40)]
    config = TrackConfig()
    boxes = boxes_of(link(detections(rows), config), np.arange(40) * 33_333, config)
    assert np.abs(boxes.x - 2 * np.arange(40)).mean() < 0.6 * np.abs(noise).mean()


def recording(seed: int = 0) -> Events:
    generator = np.random.default_rng(seed)
    n = 4000
    t = np.sort(generator.integers(0, 1_000_000, n))
    return Events.from_arrays(
        t, generator.integers(0, 64, n), generator.integers(0, 48, n), generator.integers(0, 2, n), 64, 48
    )


def test_labels_are_boxes_with_recent_events() -> None:
    events = recording()
    generator = np.random.default_rng(1)
    t = np.repeat(np.arange(100_000, 1_000_000, 100_000), 8)
    boxes = Boxes.from_arrays(
        t,
        generator.integers(-10, 60, len(t)),
        generator.integers(-10, 44, len(t)),
        generator.integers(4, 30, len(t)),
        generator.integers(4, 30, len(t)),
        np.zeros(len(t)),
    )
    config = LabelConfig(min_events=25, min_density=0.1, min_side=6)
    wanted = []
    for i in range(len(boxes)):
        recent = events.between(int(boxes.t[i]) - config.recent_us, int(boxes.t[i]))
        left, right = max(boxes.x[i], 0), min(boxes.x[i] + boxes.width[i], 64)
        top, bottom = max(boxes.y[i], 0), min(boxes.y[i] + boxes.height[i], 48)
        visible = max(right - left, 0) * max(bottom - top, 0)
        inside = (recent.x >= left) & (recent.x < right) & (recent.y >= top) & (recent.y < bottom)
        wanted.append(
            visible >= 0.5 * boxes.width[i] * boxes.height[i]
            and min(boxes.width[i], boxes.height[i]) >= 6
            and inside.sum() >= max(25, 0.1 * visible)
        )
    seen = are_seen(events, boxes, config)
    assert 5 < seen.sum() < len(seen) - 5
    np.testing.assert_array_equal(seen, wanted)


def test_views_keep_events_and_boxes_together() -> None:
    """An object that sends events all over its box, and nothing else does: so must it be in every view."""
    generator = np.random.default_rng(0)
    n, width, height = 60_000, 200, 150
    t = np.sort(generator.integers(0, 2_000_000, n))
    left = 20 + 60e-6 * t  # 60 pixels a second
    x, y = left + generator.uniform(0, 30, n), 50 + generator.uniform(0, 20, n)
    events = Events.from_arrays(
        t, x.astype(np.int64), y.astype(np.int64), generator.integers(0, 2, n), width, height
    )
    times = np.arange(100_000, 2_000_000, 20_000)
    one = np.ones(len(times))
    boxes = Boxes.from_arrays(times, 20 + 60e-6 * times, 50 * one, 30 * one, 20 * one, one)
    config = ViewConfig(width=80, height=64)
    count = 0
    for view in street_views([LabelledRecording(events, boxes, times)], 40, config, seed=1):
        found = view.boxes
        assert (view.events.width, view.events.height) == (80, 64)
        assert set(found.t.tolist()) <= set(view.label_times.tolist())
        assert (np.diff(view.label_times) > 0).all()
        assert view.label_times[-1] <= config.duration_us
        assert (found.x >= 0).all()
        assert (found.x + found.width <= 80.001).all()
        for i in range(len(found)):
            recent = view.events.between(int(found.t[i]) - 2_000, int(found.t[i]) + 2_000)
            assert (recent.x >= found.x[i] - 2).all()
            assert (recent.x <= found.x[i] + found.width[i] + 1.5).all()
            assert (recent.y >= found.y[i] - 1.5).all()
            assert (recent.y <= found.y[i] + found.height[i] + 1.5).all()
            count += len(recent)
    assert count > 1000


def test_views_need_something_to_see() -> None:
    nothing = detections([(0, 0, 0, 5, 5, 0, 1)])[:0]
    with pytest.raises(InputError, match="no labels"):
        street_views([LabelledRecording(recording(), nothing, np.array([500_000]))], 3)


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """A video of a bright block that moves and one that stands, and a teacher that finds both."""
    video = cv2.VideoWriter(str(tmp_path / "block.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20, (160, 120))
    rows: list[tuple[float, ...]] = []
    for step in range(24):
        picture = np.full((120, 160, 3), 60, np.uint8)
        picture[40:80, 20 + 3 * step : 60 + 3 * step] = 220
        picture[90:115, 10:30] = 220
        video.write(picture)
        rows.append((step * 50_000, 20 + 3 * step, 40, 40, 40, 1, 0.9))
        rows.append((step * 50_000, 10, 90, 20, 25, 0, 0.9))
    video.release()
    write_coco_boxes(tmp_path / "block.json", detections(rows), ["person", "vehicle"], (160, 120))
    return tmp_path


def test_recordings_are_built_from_videos(street: Path) -> None:
    written = list(dataset.build(street, street, street / "out", widths=(80,)))
    assert [file.name for file, _ in written] == ["block-80.npz"]
    made = dataset.read_recordings(street / "out" / "training")["block-80"]
    np.testing.assert_array_equal(made.label_times, written[0][1].label_times)
    events, labels = made.events, made.boxes
    assert (events.width, events.height) == (80, 60)
    assert len(labels) > 10
    assert set(labels.class_id.tolist()) == {1}  # the block that stands sends nothing
    at = labels.t == 600_000
    np.testing.assert_allclose(labels.x[at], (20 + 3 * 12) / 2, atol=0.6)
    np.testing.assert_allclose(labels.width[at], 20, atol=0.6)


def test_equal_seeds_give_equal_recordings(street: Path) -> None:
    boxes = detections([(step * 50_000, 20 + 3 * step, 40, 40, 40, 1, 0.9) for step in range(24)])
    config = RecordingConfig(width=40, frames_per_second=40)
    first, again, other = (
        street_recording(street / "block.avi", boxes, config, seed=seed)[0] for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.t, again.t)
    assert len(first) != len(other) or (first.t != other.t).any()


@pytest.mark.parametrize(
    ("broken", "message"),
    [("block.avi", "no video block"), ("block.json", "no .json")],
)
def test_what_is_missing_is_named(street: Path, broken: str, message: str) -> None:
    (street / broken).unlink()
    with pytest.raises(DataError, match=message):
        list(dataset.build(street, street, street / "out"))

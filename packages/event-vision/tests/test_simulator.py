"""The simulated sensor against a loop over one pixel, what it is shown, and the scene of shapes."""

from __future__ import annotations

from itertools import takewhile

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core.errors import ConfigError, DataError, InputError
from multiway_event_vision.events import concatenate
from multiway_event_vision.simulator import (
    FlowUpsampled,
    ImageFolder,
    MovingShapes,
    Sensor,
    SensorConfig,
    ShapesConfig,
    Simulation,
    Video,
    shapes_recording,
)

from .event_streams import SAMPLES, assert_same, needs_samples

BLACK = 0.01


def shown(sensor: Sensor, log_TP: np.ndarray, times: list[int]):
    """Show a row of pixels whose logarithms of intensity are `log_TP`; the events."""
    frames = np.exp(log_TP) - BLACK
    return concatenate([sensor.show(frame[None], t) for frame, t in zip(frames, times, strict=True)])


def one_pixel(log_T, times, level, on, off, refractory):
    """(time, polarity) of a pixel's events: the definition, one event after the other."""
    events, blind_until, is_blind = [], -1.0, False
    for start, end, t0, t1 in zip(log_T, log_T[1:], times, times[1:], strict=False):
        slope = (end - start) / (t1 - t0)
        now = float(t0)
        while True:
            if is_blind:
                if blind_until > t1:
                    break
                now, level, is_blind = blind_until, start + slope * (blind_until - t0), False
            if slope == 0:
                break
            target = level + on if slope > 0 else level - off
            at = t0 + (target - start) / slope
            if at > t1:
                break
            now = max(at, now)
            events.append((now, int(slope > 0)))
            level = target
            if refractory:
                is_blind, blind_until = True, now + refractory
    return events


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from([0, 150, 1000, 5000]), st.floats(0, 0.1))
def test_every_pixel_as_the_definition_has_it(seed, refractory, sigma):
    generator = np.random.default_rng(seed)
    times = np.cumsum(generator.integers(100, 3000, 12)).tolist()
    log_TP = generator.uniform(np.log(0.02), np.log(0.9), (12, 5))
    config = SensorConfig(threshold_sigma=sigma, leak_hz=0, refractory_us=refractory, threshold_off=0.3)
    sensor = Sensor(5, 1, config, seed=seed)
    sensor.show(np.exp(log_TP[:1]) - BLACK, times[0])
    levels, on, off = sensor._level_P.copy(), sensor.threshold_on_P, sensor.threshold_off_P
    found = concatenate(
        [sensor.show(np.exp(row[None]) - BLACK, t) for row, t in zip(log_TP[1:], times[1:], strict=True)]
    )
    found.check()
    for pixel in range(5):
        expected = one_pixel(log_TP[:, pixel], times, levels[pixel], on[pixel], off[pixel], refractory)
        mine = found[found.x == pixel]
        assert mine.p.tolist() == [p for _, p in expected]
        # Whole microseconds, rounded down; a rounding error may put a crossing on the other side of one.
        np.testing.assert_allclose(mine.t, [t for t, _ in expected], atol=1.001)


def test_a_ramp_sends_floor_of_rise_over_threshold_at_even_times():
    sensor = Sensor(1, 1, SensorConfig.clean(), seed=3)
    sensor.show(np.full((1, 1), 0.1), 0)
    sensor._level_P[:] = np.log(0.1 + BLACK)  # exactly at what it sees
    events = sensor.show(np.exp(np.full((1, 1), np.log(0.1 + BLACK) + 1.07)) - BLACK, 1_070_000)
    assert events.t.tolist() in (
        [200_000, 400_000, 600_000, 800_000, 1_000_000],
        [199_999, 399_999, 599_999, 799_999, 999_999],
    )
    assert events.p.tolist() == [1] * 5


def test_a_still_scene():
    still = np.full((20, 30), 0.3)
    clean = Sensor(30, 20, SensorConfig.clean(), seed=0)
    assert sum(len(clean.show(still, t)) for t in range(0, 1_000_000, 10_000)) == 0
    leaking = Sensor(30, 20, SensorConfig(leak_hz=2.0), seed=0)
    events = concatenate([leaking.show(still, t) for t in range(0, 10_000_001, 10_000)])
    assert events.p.all()
    assert 1.7 < len(events) / 600 / 10 < 2.4
    noisy = Sensor(30, 20, SensorConfig(threshold_sigma=0, leak_hz=0, noise_hz=4.0), seed=0)
    events = concatenate([noisy.show(still, t) for t in range(0, 10_000_001, 10_000)])
    expected = 4.0 * (1 - 0.75 * 0.3) * 600 * 10
    assert abs(len(events) - expected) < 5 * np.sqrt(expected)
    assert 0.45 < events.p.mean() < 0.55
    events.check()


def test_the_filter_makes_dark_pixels_late():
    def answers(cutoff, level):
        sensor = Sensor(1, 1, SensorConfig(threshold_sigma=0, leak_hz=0, cutoff_hz=cutoff), seed=0)
        sensor.show(np.full((1, 1), level), 0)
        return concatenate([sensor.show(np.full((1, 1), level * 2), t) for t in range(1000, 400_000, 1000)])

    fast, slow, dark = answers(0, 0.4), answers(30.0, 0.4), answers(30.0, 0.02)
    assert fast.t[-1] < 1000 < slow.t[-1] < dark.t[-1]
    assert len(slow) in (len(fast), len(fast) - 1)  # the filter never quite arrives


def test_the_same_seed_gives_the_same_events_in_any_chunks():
    config = ShapesConfig(width=64, height=64, duration_us=30_000)
    simulation = Simulation(MovingShapes(config, seed=1), SensorConfig.noisy(), seed=5)
    events = simulation.read()
    events.check()
    chunks = list(simulation.chunks(7))
    assert max(map(len, chunks)) == 7
    assert_same(concatenate(chunks), events)
    other = Simulation(MovingShapes(config, seed=1), SensorConfig.noisy(), seed=6).read()
    assert len(other) != len(events) or (other.t != events.t).any()


def test_bad_frames_and_properties():
    sensor = Sensor(4, 3)
    sensor.show(np.zeros((3, 4), np.uint8), 10)
    for frame, t, message in [
        (np.zeros((4, 3)), 11, r"shape \(4, 3\); the sensor has \(3, 4\)"),
        (np.full((3, 4), 2.0), 11, "a frame from 2 to 2; expected 0 to 1"),
        (np.full((3, 4), np.nan), 11, "expected 0 to 1"),
        (np.zeros((3, 4), np.int64), 11, "a frame of int64"),
        (np.zeros((3, 4)), 10, "a frame of 10 us after one of 10 us"),
    ]:
        with pytest.raises(InputError, match=message):
            sensor.show(frame, t)
    for values in ({"threshold_on": 0.0}, {"noise_hz": -1.0}, {"black": 0.0}):
        with pytest.raises(ConfigError):
            SensorConfig(**values)


# ---------------------------------------------------------------------------------------------------- shapes


def test_boxes_are_what_is_seen():
    config = ShapesConfig(min_shapes=1, max_shapes=1, texture=0.0, contrast=(0.4, 0.4), ground_speed=0.0)
    for seed in range(12):
        scene = MovingShapes(config, seed=seed)
        shape = scene.shapes[0]
        for t in (0, 33_333, 100_000):
            boxes = scene.boxes(t)
            assert len(boxes) == 1
            empty = MovingShapes(config, seed=seed)
            empty.shapes = []
            changed = np.abs(scene.picture(t) - empty.picture(t)) > 0.2  # half covered
            rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
            box = [float(getattr(boxes, name)[0]) for name in ("x", "y", "width", "height")]
            truth = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
            np.testing.assert_allclose(box, truth, atol=1)
            assert max(box[2], box[3]) <= 2 * shape.radius + 1
            if shape.class_id == 0:
                assert abs(box[2] - 2 * shape.radius) <= 1.5
        assert scene.picture(50_000).min() >= 0
        assert scene.picture(50_000).max() <= 1


def test_a_covered_shape_loses_its_box():
    config = ShapesConfig(min_shapes=2, max_shapes=2)
    scene = MovingShapes(config, seed=0)
    far, near = (
        shape._replace(class_id=0, speed_x=0.0, speed_y=0.0, x=60.0, y=50.0) for shape in scene.shapes
    )
    scene.shapes = [far._replace(radius=9.0), near._replace(radius=15.0)]
    assert scene.boxes(0).track_id.tolist() == [1]
    scene.shapes = [far._replace(radius=9.0, x=47.0), near._replace(radius=15.0)]
    boxes = scene.boxes(0)
    assert boxes.track_id.tolist() == [0, 1]
    assert boxes.x[0] + boxes.width[0] < 47 + 9  # the covered side is cut off


def test_most_events_come_from_the_shapes():
    events, boxes = shapes_recording(2, label_every_us=25_000)
    events.check()
    assert sorted(set(boxes.t.tolist())) == [25_000, 50_000, 75_000, 100_000]
    last = boxes[boxes.t == 100_000]
    late = events.between(98_000, 100_001)
    inside = np.zeros(len(late), bool)
    for x, y, width, height in zip(last.x, last.y, last.width, last.height, strict=True):
        inside |= (late.x >= x - 2) & (late.x < x + width + 2) & (late.y >= y - 2) & (late.y < y + height + 2)
    assert inside.mean() > 0.9
    again, _ = shapes_recording(2)
    assert_same(again, events)


def test_bad_scenes():
    with pytest.raises(ConfigError, match="shapes that fit in"):
        ShapesConfig(width=30, height=30)
    with pytest.raises(ConfigError, match="expected 1 to 100"):
        ShapesConfig(min_shapes=4)


# ---------------------------------------------------------------------------------------- videos and folders


def texture(shift: float) -> np.ndarray:
    rows, columns = np.mgrid[:64, :96]
    waves = np.sin((columns - shift) / 5) * np.cos(rows / 6) + np.sin((columns - shift) / 11 + rows / 9)
    return np.round(127 + 60 * waves).clip(0, 255).astype(np.uint8)


def test_a_video(tmp_path):
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (96, 64))
    for shift in range(10):
        writer.write(cv2.cvtColor(texture(shift), cv2.COLOR_GRAY2BGR))
    writer.release()
    video = Video(path)
    frames = list(video.frames())
    assert (video.width, video.height, len(frames)) == (96, 64, 10)
    assert [t for _, t in frames] == list(range(0, 400_000, 40_000))
    assert np.abs(frames[3][0].astype(int) - texture(3)).mean() < 6  # compressed
    small = Video(path, width=48)
    assert [frame.shape for frame, _ in small.frames()] == [(32, 48)] * 10
    events = Simulation(small).read()
    events.check()
    assert len(events) > 500
    (tmp_path / "b.avi").write_bytes(b"no video")
    for bad, message in (
        (tmp_path / "b.avi", "no frame can be read"),
        (tmp_path / "none.avi", "no such file"),
    ):
        with pytest.raises(DataError, match=message):
            Video(bad)


def test_a_folder_of_pictures(tmp_path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), texture(number))
    with pytest.raises(DataError, match=r"no images.txt with times .* say how many frames a second"):
        ImageFolder(tmp_path)
    folder = ImageFolder(tmp_path, frames_per_second=1000)
    assert [t for _, t in folder.frames()] == [0, 1000, 2000]
    np.testing.assert_array_equal(next(folder.frames())[0], texture(0))
    (tmp_path / "images.txt").write_text("# seconds name\n0.5 0.png\n0.75 images/2.png\n")
    assert [t for _, t in ImageFolder(tmp_path).frames()] == [500_000, 750_000]
    (tmp_path / "images.txt").write_text("0.5 0.png\n0.6 7.png\n0.75 2.png\n")
    with pytest.raises(DataError, match=r"images.txt:2: lists 7.png, which is not in "):
        ImageFolder(tmp_path)
    (tmp_path / "images.txt").write_text("# seconds name\n0.5 0.png\n0.75 images/2.png\n")
    cv2.imwrite(str(tmp_path / "2.png"), texture(0)[:50])
    with pytest.raises(DataError, match=r"2.png: 96 x 50 pixels; those before have 96 x 64"):
        list(ImageFolder(tmp_path).frames())
    (tmp_path / "2.png").write_bytes(b"")
    with pytest.raises(DataError, match="no picture that can be read"):
        list(ImageFolder(tmp_path).frames())
    (tmp_path / "images.txt").write_text("now 0.png\n")
    with pytest.raises(DataError, match=r"images.txt:1: 'now 0.png'; expected seconds"):
        ImageFolder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures in it"):
        ImageFolder(tmp_path / "empty", frames_per_second=1)


class Shifted:
    width, height = 96, 64

    def frames(self):
        yield texture(0), 0
        yield texture(6), 60_000


def test_frames_in_between_follow_the_motion():
    frames = list(FlowUpsampled(Shifted(), 6).frames())
    assert [t for _, t in frames] == list(range(0, 60_001, 10_000))
    blend = (texture(0).astype(float) + texture(6)) / 2
    ours = np.abs(frames[3][0].astype(float) - texture(3))[:, 12:-12].mean()
    assert ours < 0.3 * np.abs(blend - texture(3))[:, 12:-12].mean()
    assert [t for _, t in FlowUpsampled(Shifted(), 1).frames()] == [0, 60_000]
    with pytest.raises(InputError, match="0 times as many frames"):
        FlowUpsampled(Shifted(), 0)


@pytest.mark.shared_data
@needs_samples
def test_simulated_events_lie_where_the_real_ones_do():
    """Frames of a real recording, simulated: the picture of where events are agrees with the camera's own."""
    from multiway_event_vision.formats import open_events

    real = open_events(SAMPLES / "slider_depth" / "events.txt", size=(240, 180)).read()
    folder = ImageFolder(SAMPLES / "slider_depth" / "images")
    assert (folder.width, folder.height) == (240, 180)
    end = int(real.t[-1])
    simulation = Simulation(FlowUpsampled(folder, 8), SensorConfig.clean())
    simulated = concatenate(takewhile(lambda events: events.t[0] < end, simulation.chunks()))

    def where(events):
        events = events.between(int(real.t[0]), end)
        counts = np.zeros((180, 240))
        np.add.at(counts, (events.y, events.x), 1)
        return cv2.GaussianBlur(counts, (0, 0), 3).ravel()

    assert np.corrcoef(where(real), where(simulated))[0, 1] > 0.7

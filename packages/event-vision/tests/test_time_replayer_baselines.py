"""The methods that the network is compared with, and the protocol."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_core.errors import DataError, InputError
from multiway_event_vision.events import Events
from multiway_event_vision.metrics.frame_quality import psnr
from multiway_event_vision.simulator import SensorConfig
from multiway_event_vision.time_replayer.baselines import (
    BASELINES,
    EventIntegration,
    OpticalFlow,
    Repeat,
    fitted_thresholds,
)
from multiway_event_vision.time_replayer.clips import Clip, cut, hidden_sensor, read_clip, record
from multiway_event_vision.time_replayer.frames import Frame
from multiway_event_vision.time_replayer.protocol import extrapolate, fill, gaps, spread


def sliding_clip(frames=9, speed=1, height=48, width=64):
    """A smooth tinted texture that slides to the right by `speed` pixels a frame, 40 ms apart."""
    import cv2

    generator = np.random.default_rng(0)
    coarse = generator.uniform(20, 235, (height // 8, (width + frames * speed) // 8 + 2)).astype(np.float32)
    grey = cv2.resize(coarse, (width + frames * speed, height), interpolation=cv2.INTER_CUBIC).clip(0, 255)
    wide = grey[..., None] * np.array([1, 0.9, 0.8])
    pictures = [wide[:, (frames - n) * speed : (frames - n) * speed + width] for n in range(frames)]
    return Clip("sliding", np.rint(np.stack(pictures)).astype(np.uint8), np.arange(frames) * 40_000)


@pytest.fixture(scope="module")
def clip():
    config = SensorConfig(threshold_on=0.15, threshold_off=0.2, threshold_sigma=0.0, leak_hz=0.0)
    return record(sliding_clip(), [config], seed=1)


def test_baselines_have_the_order_that_they_must_have(clip):
    methods = {name: build() for name, build in BASELINES.items()}
    (gap,) = gaps(clip, 7)
    made = fill(gap, methods)
    score = {
        name: np.mean([psnr(*pair) for pair in zip(m, gap.truth_THW3, strict=True)])
        for name, m in made.items()
    }
    assert score["repeat"] < score["blend"] < score["dis"]
    assert score["blend"] + 3 < score["integration"]


def test_thresholds_are_found_from_events(clip):
    (gap,) = gaps(clip, 7)
    on, off = fitted_thresholds(gap.first, gap.second, gap.events)
    assert on == pytest.approx(0.15, abs=0.02)
    assert off == pytest.approx(0.2, abs=0.02)


def test_integration_beyond_the_last_frame_beats_holding_it(clip):
    (gap,) = gaps(clip, 7)
    integration = EventIntegration()
    list(integration.interpolate(gap.first, gap.second, gap.events, ()))
    made = extrapolate(gap, {"hold": Repeat(), "integration": integration})
    assert psnr(made["integration"][3], gap.truth_THW3[3]) > psnr(made["hold"][3], gap.truth_THW3[3]) + 3


@pytest.mark.parametrize("name", list(BASELINES))
def test_frames_at_the_ends_are_the_frames(clip, name):
    (gap,) = gaps(clip, 7)
    made = list(BASELINES[name]().interpolate(gap.first, gap.second, gap.events, [gap.first.t, gap.second.t]))
    assert psnr(made[0], gap.first.image_HW3) > 45
    assert psnr(made[1], gap.second.image_HW3) > 45


def test_optical_flow_is_mixed_as_super_slomo_does():
    first, second = (Frame(np.full((20, 24, 3), value, np.uint8), t) for value, t in ((10, 0), (50, 100)))
    method = OpticalFlow(lambda a, b: np.zeros((20, 24, 2), np.float32))
    (made,) = method.interpolate(first, second, Events.empty(24, 20), [25])
    assert (made == 20).all()


def test_gaps_hold_what_was_left_out(clip):
    found = list(gaps(clip, 3))
    assert len(found) == 2
    np.testing.assert_array_equal(found[1].truth_THW3, clip.frames_THW3[5:8])
    assert found[1].times == (200_000, 240_000, 280_000)
    assert (found[1].first.t, found[1].second.t) == (160_000, 320_000)
    assert found[1].centre == 1
    assert len(found[0].events) + len(found[1].events) == len(clip.recordings[0].between(0, 320_000))
    assert len(list(gaps(clip, 1))) == 4
    assert [gap.first.t for gap in spread(list(gaps(clip, 1)), 2)] == [0, 240_000]
    with pytest.raises(InputError, match="cannot skip 9"):
        list(gaps(clip, 9))


def test_a_hidden_sensor_is_hidden_and_the_same_for_a_seed():
    configs = [hidden_sensor([0, n]) for n in range(50)]
    assert all(0.1 <= c.threshold_on <= 0.5 and c.threshold_on != c.threshold_off for c in configs)
    assert all(
        1 <= c.noise_hz <= 5 and c.refractory_us == 1000 and c.threshold_sigma == 0.05 for c in configs
    )
    assert hidden_sensor([0, 3]) == configs[3]
    one, two = (record(sliding_clip(3), [configs[0]], seed=5).recordings[0] for _ in range(2))
    assert len(one)
    np.testing.assert_array_equal(one.t, two.t)


def test_clips_are_cut_in_time():
    part = cut(sliding_clip(), 0.0, 0.7)
    assert len(part) == 6
    assert len(cut(sliding_clip(), 0.7, 1.0)) == 3

    class One:
        width, height = 4, 4

        def frames(self):
            yield Frame(np.zeros((4, 4, 3), np.uint8), 0)

    with pytest.raises(DataError, match="expected 2 or more"):
        read_clip("one", One())

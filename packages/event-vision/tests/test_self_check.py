"""Methods of interpolation judged on frames of the video that are known."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_event_vision.events import Events
from multiway_event_vision.frame_fusion.self_check import FIRST_CHECKS, SelfChecked, simplex_weights
from multiway_event_vision.metrics.frame_quality import psnr
from multiway_event_vision.simulator import SensorConfig
from multiway_event_vision.time_replayer.baselines import Blend, EventIntegration, OpticalFlow, Repeat
from multiway_event_vision.time_replayer.clips import Clip, record
from multiway_event_vision.time_replayer.frames import Frame


class Off:
    """The mean of both frames and a fixed error."""

    def __init__(self, error_HW3: np.ndarray) -> None:
        self.error_HW3, self.made = error_HW3, 0

    def interpolate(self, first, second, events, times):
        for _ in times:
            self.made += 1
            yield (first.image_HW3.astype(int) + self.error_HW3).astype(np.uint8)


def still(t: int) -> Frame:
    return Frame(np.full((8, 10, 3), 100, np.uint8), t)


NONE = Events.empty(10, 8)


def test_weights_are_the_best_of_all_that_sum_up_to_one():
    # Errors of 2 and 4 that know nothing of each other: weights as their inverse squares.
    assert simplex_weights(np.diag([4.0, 16.0])) == pytest.approx([0.8, 0.2], abs=1e-6)
    # Opposite errors cancel; a method that errs like another and more has no part.
    assert simplex_weights(np.array([[1.0, -1.0], [-1.0, 1.0]])) == pytest.approx([0.5, 0.5], abs=1e-3)
    assert simplex_weights(np.array([[1.0, 2.0], [2.0, 4.0]])) == pytest.approx([1.0, 0.0])
    assert simplex_weights(np.zeros((3, 3))) == pytest.approx([1, 0, 0])  # nothing moved, all are right
    generator = np.random.default_rng(0)
    errors_KP = generator.normal(size=(4, 50)) * [[1], [2], [1.5], [3]]
    product = errors_KP @ errors_KP.T
    best = simplex_weights(product)
    drawn = generator.dirichlet(np.ones(4), 3000)
    assert best @ product @ best <= np.einsum("nk,kl,nl->n", drawn, product, drawn).min()


def test_before_any_check_the_first_method_makes_the_frames_and_after_it_the_better_one():
    auto = SelfChecked({"wrong": Off(np.full((8, 10, 3), 9)), "right": Off(np.zeros((8, 10, 3), int))})
    assert auto.weights == {"wrong": 1, "right": 0}
    (made,) = auto.interpolate(still(0), still(10), NONE, [5])
    assert (made == 109).all()
    auto.check(still(0), still(10), still(20), NONE)
    assert auto.weights == pytest.approx({"wrong": 0, "right": 1}, abs=1e-6)
    (made,) = auto.interpolate(still(0), still(10), NONE, [5])
    assert (made == 100).all()
    assert auto.methods["wrong"].made == 2  # not asked where it has no weight


def test_a_mix_is_better_than_its_parts():
    generator = np.random.default_rng(1)
    methods = {name: Off(generator.integers(-20, 21, (8, 10, 3))) for name in "ab"}
    auto = SelfChecked(methods)
    auto.check(still(0), still(10), still(20), NONE)
    assert 0.2 < auto.weights["a"] < 0.8
    (mixed,) = auto.interpolate(still(0), still(10), NONE, [5])
    alone = [next(method.interpolate(still(0), still(10), NONE, [5])) for method in methods.values()]
    assert psnr(mixed, still(0).image_HW3) > max(psnr(image, still(0).image_HW3) for image in alone)


def test_a_video_is_followed_whole_with_checks_at_its_start_and_now_and_then():
    method = Off(np.zeros((8, 10, 3), int))
    auto = SelfChecked({"only": method})
    pairs = [(still(10 * n), still(10 * n + 10), NONE) for n in range(20)]
    seen = list(auto.follow(iter(pairs)))
    assert [pair[0].t for pair in seen] == [10 * n for n in range(20)]
    assert FIRST_CHECKS < auto.checks == method.made < 12
    first = next(SelfChecked({"only": method}).follow(iter(pairs[:1])))
    assert first[0].t == 0

    picky = SelfChecked({"only": method})
    assert len(list(picky.follow(iter(pairs), lambda a, b: a.t <= 155 <= b.t))) == 20
    assert picky.checks == 2  # the known frames at 150 and 160


@pytest.mark.parametrize(("uneven", "expected"), [(False, "dis"), (True, "integration")])
def test_steady_motion_is_flow_and_flashes_are_events(uneven, expected):
    generator = np.random.default_rng(0)
    wide = np.repeat(np.repeat(generator.uniform(40, 215, (12, 40)), 4, 0), 4, 1)
    frames = []
    for n in range(7):
        image = wide[:, 2 * n : 2 * n + 96]
        if uneven:  # nothing moves; half of the picture brightens and darkens
            image = wide[:, :96] * np.where(np.arange(96) < 48, 1, 0.6 + 0.4 * np.sin(1.9 * n))
        frames.append(np.rint(image).astype(np.uint8)[..., None].repeat(3, -1))
    clip = record(
        Clip("drawn", np.stack(frames), np.arange(7) * 40_000), [SensorConfig(0.05, 0.05)], sub_frames=4
    )
    auto = SelfChecked(
        {
            "repeat": Repeat(),
            "dis": OpticalFlow(),
            "integration": EventIntegration(),
            "blend": Blend(),
        }
    )
    for n in (1, 3, 5):
        between = clip.recordings[0].between(int(clip.times_T[n - 1]), int(clip.times_T[n + 1]))
        auto.check(clip.frame(n - 1), clip.frame(n), clip.frame(n + 1), between)
    assert max(auto.weights, key=auto.weights.__getitem__) == expected

"""Frames fused from optical flow and events."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from multiway_core.errors import DataError, InputError
from multiway_core.training import TrainOptions, run
from multiway_event_vision.events import Events
from multiway_event_vision.frame_fusion import checkpoint
from multiway_event_vision.frame_fusion.candidates import FEATURES, NAMES, GapCandidates
from multiway_event_vision.frame_fusion.config import PRESETS
from multiway_event_vision.frame_fusion.cutouts import FRAMES, cutout_clip
from multiway_event_vision.frame_fusion.fusion import FusionInterpolator
from multiway_event_vision.frame_fusion.model import FrameFusion
from multiway_event_vision.frame_fusion.recipe import RECIPES
from multiway_event_vision.frame_fusion.samples import FusionSamples, FusionSource, spoiled
from multiway_event_vision.interpolation import InterpolationPipeline
from multiway_event_vision.metrics.frame_quality import psnr
from multiway_event_vision.simulator import SensorConfig
from multiway_event_vision.time_replayer import checkpoint as replayer_checkpoint
from multiway_event_vision.time_replayer.baselines import OpticalFlow
from multiway_event_vision.time_replayer.clips import Clip, record
from multiway_event_vision.time_replayer.config import TINY
from multiway_event_vision.time_replayer.model import TimeReplayer
from multiway_event_vision.time_replayer.protocol import gaps


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).uniform(20, 235, (height // 6 + 2, width // 6 + 2, 3))
    return cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255)


@pytest.fixture(scope="module")
def accelerated() -> Clip:
    """A texture that slides from rest: half of the way is done in the last 30 % of the time. 70 x 50 pixels."""
    wide = texture(50, 120)
    frames = []
    for n in range(9):
        matrix = np.array([[1, 0, -16.0 * (n / 8) ** 2], [0, 1, 0]])
        frames.append(np.rint(cv2.warpAffine(wide, matrix, (70, 50))).astype(np.uint8))
    clip = Clip("accelerated", np.stack(frames), np.arange(9) * 10_000)
    return record(clip, [SensorConfig(0.08, 0.08, threshold_sigma=0.01)], sub_frames=8)


def test_candidates_and_what_is_told_about_them(accelerated):
    (gap,) = gaps(accelerated, 7)
    t = gap.times[3]
    made = GapCandidates(gap.first, gap.second, gap.events).at(t)
    assert made.images_KHW3.shape == (len(NAMES), 50, 70, 3)
    assert made.features_CHW.shape == (FEATURES, 50, 70)
    assert made.features_CHW[0] == pytest.approx(0.5)
    before, after = gap.events.between(gap.first.t, t), gap.events.between(t, gap.second.t)
    assert np.expm1(made.features_CHW[3]).sum() == pytest.approx(len(before), rel=1e-3)
    assert np.expm1(made.features_CHW[4]).sum() == pytest.approx(len(after), rel=1e-3)
    # Steady motion puts the texture at half of the way, where it is at a quarter; events know better.
    scores = dict(zip(NAMES, (psnr(image, gap.truth_THW3[3]) for image in made.images_KHW3), strict=True))
    assert scores["guided from the first"] > scores["flow from the first"] + 2
    assert scores["events after the first"] > scores["flow from the first"]


def test_an_untrained_network_is_optical_flow(accelerated):
    (gap,) = gaps(accelerated, 7)
    torch.manual_seed(0)
    interpolator = FusionInterpolator(FrameFusion(PRESETS["tiny"]))
    for made, flow in zip(
        interpolator.interpolate(gap.first, gap.second, gap.events, gap.times),
        OpticalFlow().interpolate(gap.first, gap.second, gap.events, gap.times),
        strict=True,
    ):
        assert np.abs(made.astype(int) - flow).max() <= 2
    (fused,) = interpolator.fuse(gap.first, gap.second, gap.events, gap.times[:1])
    np.testing.assert_allclose(fused.weights_KHW.sum(0), 1, atol=1e-5)
    np.testing.assert_allclose(fused.weights_KHW[:2].sum(0), 1, atol=0.01)
    assert fused.weights_KHW[0].mean() == pytest.approx(7 / 8, abs=0.01)  # the nearer frame counts more


def test_a_given_frame_is_itself_and_bad_input_is_told(accelerated):
    (gap,) = gaps(accelerated, 7)
    interpolator = FusionInterpolator(FrameFusion(PRESETS["tiny"]))
    first, second = interpolator.interpolate(gap.first, gap.second, gap.events, [gap.first.t, gap.second.t])
    np.testing.assert_array_equal(first, gap.first.image_HW3)
    np.testing.assert_array_equal(second, gap.second.image_HW3)
    with pytest.raises(InputError, match="between frames of"):
        list(interpolator.interpolate(gap.first, gap.second, gap.events, [90_000]))
    with pytest.raises(InputError, match="the same pixels"):
        list(interpolator.interpolate(gap.first, gap.second, Events.empty(10, 10), [10_000]))


def test_no_events_and_tiny_frames_work(accelerated):
    (gap,) = gaps(accelerated, 7)
    interpolator = FusionInterpolator(FrameFusion(PRESETS["tiny"]))
    (made,) = interpolator.interpolate(gap.first, gap.second, Events.empty(70, 50), gap.times[:1])
    (flow,) = OpticalFlow().interpolate(gap.first, gap.second, gap.events, gap.times[:1])
    assert np.abs(made.astype(int) - flow).max() <= 2
    small = [frame._replace(image_HW3=frame.image_HW3[:9, :11]) for frame in (gap.first, gap.second)]
    (made,) = interpolator.interpolate(*small, Events.empty(11, 9), gap.times[:1])
    assert made.shape == (9, 11, 3)


def test_weights_are_a_function_of_all_that_is_seen():
    torch.manual_seed(0)
    model = FrameFusion(PRESETS["tiny"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    images = torch.rand(1, len(NAMES), 3, 20, 28, requires_grad=True)
    features = torch.rand(1, FEATURES, 20, 28, requires_grad=True)
    fused = model(images, features)
    assert fused.frame_B3HW.shape == (1, 3, 20, 28)
    grads = torch.autograd.grad(fused.weights_BKHW[:, 3].sum(), (images, features))
    for seen in (grads[0].abs().sum((0, 2, 3, 4)), grads[1].abs().sum((0, 2, 3))):
        assert (seen > 0).all()


def test_events_are_spoiled_in_order_of_time(accelerated):
    events = accelerated.recordings[0]
    kinds = set()
    for seed in range(40):
        found = spoiled(events, 0, 80_000, np.random.default_rng(seed))
        found.check()
        assert not len(found) or (found.t[0] >= 0 and found.t[-1] <= 80_000)
        kinds.add(int(np.random.default_rng(seed).integers(5)))
    assert kinds == set(range(5))


def test_cutouts_move_unevenly_and_are_the_same_for_a_seed():
    pictures = [texture(100, 140, seed).astype(np.uint8) for seed in range(3)]
    first, again = (cutout_clip(pictures, [SensorConfig()], [3, 4]) for _ in range(2))
    np.testing.assert_array_equal(first.frames_THW3, again.frames_THW3)
    np.testing.assert_array_equal(first.recordings[0].t, again.recordings[0].t)
    assert len(first) == FRAMES
    assert len(first.recordings[0]) > 1000
    assert (cutout_clip(pictures, [SensorConfig()], [3, 5]).frames_THW3 != first.frames_THW3).any()


def test_samples_are_a_function_of_step_and_shard(accelerated):
    source = FusionSource([accelerated], FusionSamples(size=32, margin=6, gaps_a_batch=3, gaps=(2, 4)))
    first, again, other = source(4, 0, 1), source(4, 0, 1), source(5, 0, 1)
    assert first.images_BK3HW.shape[1:] == (len(NAMES), 3, 32, 32)
    assert first.truth_B3HW.shape == (len(first.images_BK3HW), 3, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert first.images_BK3HW.shape != other.images_BK3HW.shape or not torch.equal(
        first.images_BK3HW, other.images_BK3HW
    )
    # Truth and candidates are turned the same way.
    flow = first.images_BK3HW[:, :2].float().mean(1)
    assert (flow - first.truth_B3HW.float()).abs().mean() < (
        flow - first.truth_B3HW.flip(-1).float()
    ).abs().mean()
    with pytest.raises(DataError, match="70 x 50 pixels to train on"):
        FusionSource([accelerated], FusionSamples(size=64))


def test_training_resumes_with_what_it_had_prepared(tmp_path):
    recipe = RECIPES["frame-fusion-smoke"]
    whole = run(recipe, TrainOptions(tmp_path / "whole", seed=3))
    assert whole.finished
    stopped = run(recipe, TrainOptions(tmp_path / "stopped", seed=3, minutes=1e-5))
    assert not stopped.finished
    kept = sorted(path.name for path in (tmp_path / "stopped" / "prepared").iterdir())
    assert kept == ["clip-000.npz", "scene-000.npz"]
    ended = run(recipe, TrainOptions(tmp_path / "stopped", seed=3))
    assert (ended.folder / "model.safetensors").read_bytes() == (
        whole.folder / "model.safetensors"
    ).read_bytes()
    with pytest.raises(InputError, match="no clips to train on"):
        run(RECIPES["frame-fusion-small"], TrainOptions(tmp_path / "none"))


def test_the_pipeline_tells_networks_apart(tmp_path, accelerated):
    checkpoint.save(FrameFusion(PRESETS["tiny"]), tmp_path / "fusion")
    replayer_checkpoint.save(TimeReplayer(TINY), tmp_path / "replayer")
    (gap,) = gaps(accelerated, 7)
    fusion = InterpolationPipeline.from_pretrained(str(tmp_path / "fusion"))
    assert fusion.fusion is fusion.method("auto").methods["fusion"]
    replayer = InterpolationPipeline.from_pretrained(str(tmp_path / "replayer"))
    assert replayer.fusion is None
    assert replayer.method("timereplayer") is replayer.replayer
    assert replayer.method("auto").methods["timereplayer"] is replayer.replayer
    for name in ("dis", "integration"):
        (made,) = fusion.method(name).interpolate(gap.first, gap.second, gap.events, gap.times[:1])
        assert made.shape == gap.first.image_HW3.shape
    with pytest.raises(InputError, match="the method 'x'"):
        fusion.method("x")

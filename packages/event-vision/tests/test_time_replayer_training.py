"""What training sees, and what its losses say of answers that are known."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from multiway_core.errors import DataError
from multiway_event_vision.events import Events
from multiway_event_vision.time_replayer import objective
from multiway_event_vision.time_replayer.clips import Clip
from multiway_event_vision.time_replayer.config import TINY
from multiway_event_vision.time_replayer.model import TimeReplayer
from multiway_event_vision.time_replayer.objective import Weights
from multiway_event_vision.time_replayer.samples import PairSource, SampleConfig, TripletSource
from multiway_event_vision.time_replayer.teacher import ChainedFlow
from multiway_event_vision.time_replayer.voxel_grid import reversed_grid
from multiway_event_vision.time_replayer.warp import warp

CONFIG = SampleConfig(size=48, batch=3, gaps=(2, 4))


def sliding_clip(frames=11, speed=1, height=64, width=96):
    """A smooth texture that slides to the right, and random events."""
    generator = np.random.default_rng(0)
    length = width + frames * speed
    coarse = generator.uniform(20, 235, (height // 8, length // 8)).astype(np.float32)
    wide = cv2.resize(coarse, (length, height), interpolation=cv2.INTER_CUBIC).clip(0, 255)
    parts = [wide[:, (frames - n) * speed : (frames - n) * speed + width] for n in range(frames)]
    images = np.rint(np.stack(parts)).astype(np.uint8)[..., None].repeat(3, -1)
    t = np.sort(generator.integers(0, 10_000 * (frames - 1), 4000))
    columns = (generator.integers(0, bound, 4000) for bound in (width, height, 2))
    events = Events.from_arrays(t, *columns, width, height)
    return Clip("sliding", images, np.arange(frames) * 10_000, (events,))


def inner(values):
    """Without the border, where what comes in cannot be known."""
    return values[..., 10:-10, 10:-10]


def test_the_teacher_follows_motion_over_several_frames():
    teacher = ChainedFlow(sliding_clip(), 2)
    rows, columns = slice(8, 56), slice(20, 76)
    for start, end in ((0, 2), (0, 8), (8, 2)):
        flow_2HW = teacher.flow(start, end, rows, columns)
        assert np.median(flow_2HW[0]) == pytest.approx(end - start, abs=0.3)
        assert np.median(flow_2HW[1]) == pytest.approx(0, abs=0.1)


def test_turned_and_mirrored_flows_still_lead_to_the_other_frame():
    source = PairSource([sliding_clip()], CONFIG)
    for step in range(6):  # all eight ways to turn, most likely
        pairs = source(step, 0, 1)
        first, second = (pairs.frames_B2CHW.float() / 255).unbind(1)
        still = inner((first - second).abs()).mean()
        assert inner((warp(second, pairs.ahead_B2HW) - first).abs()).mean() < 0.4 * still
        assert inner((warp(first, pairs.back_B2HW) - second).abs()).mean() < 0.4 * still


def test_samples_are_the_same_for_a_step_and_others_for_another():
    for source in (PairSource([sliding_clip()], CONFIG), TripletSource([sliding_clip()], CONFIG)):
        one, same, other = source(3, 0, 1), source(3, 0, 1), source(4, 0, 1)
        for name in vars(one):
            value = getattr(one, name)
            if value is not None:
                assert torch.equal(value, getattr(same, name))
        assert not torch.equal(next(iter(vars(one).values())), next(iter(vars(other).values())))


def test_without_supervision_every_second_frame_is_never_read():
    clip = sliding_clip()
    images = clip.frames_THW3.copy()
    images[1::2] = 77
    blinded = replace(clip, frames_THW3=images)
    for kind in (PairSource, TripletSource):
        for step in range(4):
            seen, unseen = (kind([c], CONFIG)(step, 0, 1) for c in (clip, blinded))
            assert torch.equal(next(iter(vars(seen).values())), next(iter(vars(unseen).values())))
    with_truth = replace(CONFIG, supervised=True)
    a, b = (TripletSource([c], with_truth)(0, 0, 1).truth_B2CHW for c in (clip, blinded))
    assert a.shape == (3, 2, 3, 48, 48)
    assert not torch.equal(a, b)


def test_the_grids_of_a_triplet_hold_all_events_between_its_frames():
    batch = TripletSource([sliding_clip()], CONFIG)(0, 0, 1)
    sums_BS = batch.grids_BSNHW.sum((2, 3, 4))
    torch.testing.assert_close(sums_BS[:, 0] + sums_BS[:, 1], sums_BS[:, 4], atol=1e-3, rtol=0)
    torch.testing.assert_close(sums_BS[:, 2] + sums_BS[:, 3], sums_BS[:, 5], atol=1e-3, rtol=0)


def test_clips_that_cannot_be_trained_on():
    for clip in (sliding_clip(frames=3), sliding_clip(height=40), replace(sliding_clip(), recordings=())):
        with pytest.raises(DataError, match="sliding: "):
            TripletSource([clip], CONFIG)


def test_frames_that_do_not_change_cost_nothing():
    clip = sliding_clip()
    still = replace(clip, frames_THW3=clip.frames_THW3[:1].repeat(len(clip), 0))
    batch = TripletSource([still], replace(CONFIG, supervised=True))(0, 0, 1)
    model = TimeReplayer(TINY)
    for loss in (objective.unsupervised, objective.supervised):
        assert float(loss(model, batch, Weights()).total.detach()) == pytest.approx(0, abs=1e-5)
    moving = TripletSource([clip], CONFIG)(0, 0, 1)
    found = objective.unsupervised(model, moving, Weights())
    assert found.metrics["endpoint"] > 0.001
    assert found.metrics["smoothness"] == 0


@pytest.mark.parametrize("name", ["taught", "unsupervised", "supervised"])
def test_every_part_learns_from_the_loss_that_is_its_own(name):
    source = (PairSource if name == "taught" else TripletSource)(
        [sliding_clip()], replace(CONFIG, supervised=name == "supervised")
    )
    model = TimeReplayer(TINY)
    getattr(objective, name)(model, source(0, 0, 1), Weights()).total.backward()
    moved = {part for part, parameter in model.named_parameters() if parameter.grad is not None}
    assert any(part.startswith("ahead") for part in moved)
    assert any(part.startswith("refinement") for part in moved) == (name != "taught")
    assert any(part.startswith("back") for part in moved) == (name != "taught")


def test_grids_are_reversed_and_roughness_is_the_mean_step_both_ways():
    grid = np.random.default_rng(0).standard_normal((5, 6, 7)).astype(np.float32)
    reversed_BNHW = objective._reversed(torch.from_numpy(grid)[None])
    assert np.array_equal(reversed_BNHW[0].numpy(), reversed_grid(grid))
    flow = np.random.default_rng(1).standard_normal((3, 2, 6, 7))
    expected = np.abs(np.diff(flow, axis=3)).mean() + np.abs(np.diff(flow, axis=2)).mean()
    assert float(objective._roughness(torch.from_numpy(flow))) == pytest.approx(expected)


def test_flows_of_many_triplets_are_those_of_each():
    torch.manual_seed(0)
    model = TimeReplayer(TINY).eval()
    source = TripletSource([sliding_clip()], replace(CONFIG, batch=9))
    batch = source(0, 0, 1)
    whole = objective._Flows(model, batch)
    one = objective._Flows(
        model, replace(batch, grids_BSNHW=batch.grids_BSNHW[4:5], frames_B3CHW=batch.frames_B3CHW[4:5])
    )
    for together, alone in ((whole.back, one.back), (whole.ahead, one.ahead)):
        assert len(together) == 4
        for flow_B2HW, flow_12HW in zip(together, alone, strict=True):
            torch.testing.assert_close(flow_B2HW[4:5], flow_12HW, atol=1e-4, rtol=1e-3)

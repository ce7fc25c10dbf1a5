"""Components of TimeReplayer against formulas, PyTorch and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from multiway_core.errors import InputError
from multiway_event_vision.events import Events
from multiway_event_vision.time_replayer import checkpoint
from multiway_event_vision.time_replayer.config import FULL, PRESETS, SMALL, TINY
from multiway_event_vision.time_replayer.frames import Frame
from multiway_event_vision.time_replayer.interpolator import FrameInterpolator
from multiway_event_vision.time_replayer.model import TimeReplayer
from multiway_event_vision.time_replayer.voxel_grid import reverse, reversed_grid, voxel_grid
from multiway_event_vision.time_replayer.warp import warp


def random_events(seed=0, count=500, width=24, height=20, duration=10_000):
    generator = np.random.default_rng(seed)
    t = np.sort(generator.integers(0, duration + 1, count))
    columns = (generator.integers(0, bound, count) for bound in (width, height, 2))
    return Events.from_arrays(t, *columns, width, height)


def shaken(model, seed=0, scale=0.2):
    """Every tensor moved, so that nothing is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def test_voxel_grid_is_the_sum_of_tents():
    events = random_events()
    grid = voxel_grid(events, -50, 10_100, 5)
    expected = np.zeros((5, 20, 24))
    for t, x, y, p in zip(events.t, events.x, events.y, events.p, strict=True):
        place = 4 * (int(t) + 50) / 10_150
        for n in range(5):
            expected[n, y, x] += (1 if p else -1) * max(0.0, 1 - abs(place - n))
    np.testing.assert_allclose(grid, expected, atol=1e-5)
    assert grid.sum() == pytest.approx(2.0 * events.p.sum() - len(events), abs=1e-3)


def test_the_grid_of_reversed_events_is_the_reversed_grid():
    events = random_events()
    backwards = reverse(events, 0, 10_000)
    backwards.check()
    np.testing.assert_allclose(
        voxel_grid(backwards, 0, 10_000, 5), reversed_grid(voxel_grid(events, 0, 10_000, 5)), atol=1e-5
    )
    again = reverse(backwards, 0, 10_000)
    for name in "txyp":
        np.testing.assert_array_equal(getattr(again, name), getattr(events, name))


@pytest.mark.parametrize(
    ("start", "end", "bins"), [(0, 0, 5), (0, 9_000, 5), (1_000, 20_000, 5), (0, 10_000, 1)]
)
def test_a_grid_that_cannot_be_is_refused(start, end, bins):
    with pytest.raises(InputError, match="grid"):
        voxel_grid(random_events(), start, end, bins)


def test_warp_without_flow_is_the_image_and_whole_pixels_are_a_shift():
    image = torch.rand(2, 3, 9, 12)
    torch.testing.assert_close(warp(image, torch.zeros(2, 2, 9, 12)), image)
    flow = torch.zeros(2, 2, 9, 12)
    flow[:, 0], flow[:, 1] = 2, -1  # two columns to the right, one row up
    torch.testing.assert_close(warp(image, flow)[:, :, 1:, :-2], image[:, :, :-1, 2:])
    torch.testing.assert_close(warp(image, flow)[:, :, 0, :-2], image[:, :, 0, 2:])  # the border's nearest


def test_warp_is_bilinear():
    image = torch.rand(1, 1, 6, 6)
    flow = torch.zeros(1, 2, 6, 6)
    flow[:, 0] = 0.25
    expected = 0.75 * image[..., :-1] + 0.25 * image[..., 1:]
    torch.testing.assert_close(warp(image, flow)[..., :-1], expected)


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_new_network_is_a_linear_blend(name):
    if name == "full":
        pytest.skip("40 million numbers to fill; the small one has the same code")
    model = TimeReplayer(PRESETS[name])
    first, second = torch.rand(2, 3, 19, 23), torch.rand(2, 3, 19, 23)
    grids = torch.randn(2, 2, 5, 19, 23)
    position = torch.tensor([0.25, 0.6])
    made = model(first, second, grids[0], grids[1], position)
    share = position.view(-1, 1, 1, 1)
    torch.testing.assert_close(made.frame_B3HW, (1 - share) * first + share * second)
    alone = model(first, second, grids[0], grids[1], position, torch.tensor([True, False]))
    torch.testing.assert_close(alone.frame_B3HW[0], made.frame_B3HW[0])
    torch.testing.assert_close(alone.frame_B3HW[1], first[1])


def test_synthesis_is_super_slomos_formula():
    model = shaken(TimeReplayer(TINY))
    first, second = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    flows = torch.randn(2, 1, 2, 16, 16)
    made = model.synthesize(first, second, flows[0], flows[1], torch.tensor([0.3]))
    v, t = made.visibility_B1HW, 0.3
    a = (1 - t) * v * warp(first, made.refined_to_first_B2HW)
    b = t * (1 - v) * warp(second, made.refined_to_second_B2HW)
    torch.testing.assert_close(made.frame_B3HW, (a + b) / ((1 - t) * v + t * (1 - v)))
    assert v.std() > 0


def test_without_a_second_frame_nothing_of_it_counts():
    model = shaken(TimeReplayer(TINY))
    first, grid, none = torch.rand(1, 3, 16, 16), torch.randn(1, 5, 16, 16), torch.tensor([False])
    one = model(first, torch.rand(1, 3, 16, 16), grid, torch.randn(1, 5, 16, 16), torch.tensor([0.2]), none)
    two = model(first, torch.rand(1, 3, 16, 16), grid, torch.randn(1, 5, 16, 16), torch.tensor([0.9]), none)
    torch.testing.assert_close(one.frame_B3HW, two.frame_B3HW)


def test_sizes():
    with torch.device("meta"):
        full, small = TimeReplayer(FULL), TimeReplayer(SMALL)
    count = sum(p.numel() for p in full.ahead.parameters())
    assert count == pytest.approx(19.8e6, rel=0.01)
    assert sum(p.numel() for p in small.parameters()) < 3e6


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 31), (64, 48)])
def test_frames_of_any_size(height, width):
    model = shaken(TimeReplayer(TINY))
    frames, grids = torch.rand(2, 1, 3, height, width), torch.randn(2, 1, 5, height, width)
    made = model(*frames, *grids, torch.tensor([0.5]))
    assert made.frame_B3HW.shape == (1, 3, height, width)
    assert torch.isfinite(made.frame_B3HW).all()


def test_a_saved_network_makes_the_same_frames(tmp_path):
    model = shaken(TimeReplayer(TINY))
    checkpoint.save(model, tmp_path / "m")
    first, second = (
        Frame(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8), t)
        for seed, t in ((1, 0), (2, 10_000))
    )
    events, times = random_events(duration=9_999), [0, 2_500, 10_000]
    made = list(FrameInterpolator(model).interpolate(first, second, events, times))
    loaded = list(
        FrameInterpolator.from_pretrained(str(tmp_path / "m")).interpolate(first, second, events, times)
    )
    np.testing.assert_array_equal(made, loaded)
    np.testing.assert_array_equal(made[0], first.image_HW3)
    np.testing.assert_array_equal(made[2], second.image_HW3)
    assert (made[1] != first.image_HW3).any()


def still_frame(t=0):
    return Frame(np.random.default_rng(3).integers(0, 256, (20, 24, 3), np.uint8), t)


def test_beyond_the_last_frame_long_stretches_are_chained():
    replayer = FrameInterpolator(shaken(TimeReplayer(TINY)))
    events = random_events(duration=30_000)
    (middle,) = replayer.extrapolate(still_frame(), events, [10_000])
    (end,) = replayer.extrapolate(Frame(middle, 10_000), events.between(10_000, 30_000), [18_000])
    chained = list(replayer.extrapolate(still_frame(), events, [0, 10_000, 18_000], longest=10_000))
    np.testing.assert_array_equal(chained, [still_frame().image_HW3, middle, end])


def test_a_new_network_holds_the_frame_beyond_the_last_one():
    replayer = FrameInterpolator(TimeReplayer(TINY))
    (made,) = replayer.extrapolate(still_frame(), random_events(duration=100), [5_000])
    np.testing.assert_array_equal(made, still_frame().image_HW3)


def test_what_does_not_go_together_is_refused():
    replayer = FrameInterpolator(TimeReplayer(TINY))
    events = random_events()
    with pytest.raises(InputError, match="between frames of 0 us and 10000 us"):
        list(replayer.interpolate(still_frame(), still_frame(10_000), events, [10_001]))
    with pytest.raises(InputError, match="same pixels"):
        list(replayer.interpolate(still_frame(), still_frame(10_000), Events.empty(12, 20), [5]))
    with pytest.raises(InputError, match="must not fall"):
        list(replayer.extrapolate(still_frame(), events, [5_000, 4_000]))

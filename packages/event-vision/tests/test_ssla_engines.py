"""The three engines give one result at every read-out, and it is what the plain reference computes."""

from __future__ import annotations

import importlib
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from multiway_core.errors import InputError
from multiway_event_vision.events import Events
from multiway_event_vision.ssla_det.checkpoint import published_state
from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.engines.event import EventEngine
from multiway_event_vision.ssla_det.engines.micro_batch import MicroBatchEngine
from multiway_event_vision.ssla_det.engines.window import WindowEngine
from multiway_event_vision.ssla_det.inputs import batch_windows, check_events, window_of
from multiway_event_vision.ssla_det.model import SslaDet, build
from multiway_event_vision.ssla_det.readout import peek

reference = importlib.import_module("packages.event-vision.tests.ssla_reference")
streams = importlib.import_module("packages.event-vision.tests.ssla_streams")

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
SMALL = SslaDetConfig((6, 8, 12, 16))


def model_of(config: SslaDetConfig, dtype: torch.dtype, *, seed: int = 0) -> SslaDet:
    """Random weights, also where training starts from ones and zeros."""
    model = build(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "norm" in name and tensor.is_floating_point():
                tensor += 0.2 * torch.rand(tensor.shape, generator=generator)
    return model.to(dtype).eval()


def dense(grid: dict[tuple[int, int], np.ndarray], rows: int, columns: int, width: int) -> torch.Tensor:
    result = torch.zeros(rows, columns, width, dtype=torch.float64)
    for (y, x), feature in grid.items():
        result[y, x] = torch.from_numpy(feature)
    return result.flatten(0, 1)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("height", "width", "config"),
    [
        (48, 64, SMALL),
        (37, 51, SMALL),  # odd at every level
        (9, 17, SslaDetConfig((6, 8, 12, 16), thinning=2)),
        (1, 3, SMALL),  # smaller than a space
        (20, 20, SslaDetConfig((16, 32))),
        (24, 30, SslaDetConfig((6, 8, 12), space_size=5)),
    ],
)
@pytest.mark.parametrize("native", [True, False])
def test_engines_agree_at_every_read_out(
    height: int, width: int, config: SslaDetConfig, dtype: torch.dtype, native: bool
) -> None:
    model = model_of(config, dtype)
    stream = streams.random_stream(1500, height, width, seed=height)
    t = stream[0]
    times = np.random.default_rng(1).choice(t, 6, replace=False)
    times = [int(t[0]), *sorted(times.tolist()), int(t[-1])]
    window, micro, event = (
        cls(model, height, width) for cls in (WindowEngine, MicroBatchEngine, EventEngine)
    )
    event.native = micro.native = native
    for piece in streams.split_at_times(stream, times):
        for engine in (window, micro, event):
            engine.push(*piece)
        grids = [engine.read() for engine in (window, micro, event)]
        assert grids[0].feature_GD.abs().max() > 0.5
        for grid in grids[1:]:
            assert torch.equal(grid.active_G, grids[0].active_G)
            assert torch.equal(grid.time_G, grids[0].time_G)
            torch.testing.assert_close(grid.feature_GD, grids[0].feature_GD, rtol=0, atol=TOLERANCE[dtype])
        # All that is remembered is the same, so one engine can go on where another stopped.
        for other in (micro.state, event.state):
            for mine, right in zip(chain(*other.hidden), chain(*window.state.hidden), strict=True):
                torch.testing.assert_close(mine, right, rtol=0, atol=TOLERANCE[dtype])
            for mine, right in zip(other.counts, window.state.counts, strict=True):
                assert torch.equal(mine, right)
            assert torch.equal(other.depth_G, window.state.depth_G)
    assert micro.work.updated.sum() == event.work.updated.sum() == len(t)
    assert (micro.work.updated == event.work.updated).all()
    assert (micro.work.peeked == event.work.peeked).all()


@pytest.mark.parametrize("native", [True, False])
def test_engines_compute_what_the_reference_computes(native: bool) -> None:
    height, width = 21, 34
    model = model_of(SMALL, torch.float64)
    levels = reference.layers_of({k: v.numpy() for k, v in published_state(model).items()})
    stream = streams.random_stream(400, height, width, seed=5)
    middle = int(stream[0][170])
    engine = EventEngine(model, height, width)
    micro = MicroBatchEngine(model, height, width)
    engine.native = micro.native = native
    seen = [np.empty(0, np.int64)] * 4
    for piece in streams.split_at_times(stream, [middle, int(stream[0][-1])]):
        seen = [np.concatenate(pair) for pair in zip(seen, piece, strict=True)]
        engine.push(*piece)
        micro.push(*piece)
        expected = dense(reference.stream_grid(levels, seen, height, width), 3, 5, 16)
        for grid in (engine.read(), micro.read()):
            torch.testing.assert_close(grid.feature_GD, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("merge", [True, False])
def test_released_window_is_what_the_reference_computes(merge: bool) -> None:
    height, width = 21, 34
    config = SslaDetConfig((6, 8, 12, 16), readout="end-anchored", merge_ties=merge)
    model = model_of(config, torch.float64)
    levels = reference.layers_of({k: v.numpy() for k, v in published_state(model).items()})
    parts = [streams.random_stream(n, height, width, seed=n) for n in (300, 1, 200)]
    outputs = model(
        batch_windows(
            [check_events(*part, height=height, width=width) for part in parts],
            height=height,
            width=width,
            dtype=torch.float64,
        )
    )
    for stream, grid_DHW in zip(parts, outputs.grid_BDHW, strict=True):
        expected = reference.window_grid(levels, stream, height, width, merge=merge)
        actual = grid_DHW.flatten(1).t()
        torch.testing.assert_close(actual, dense(expected, 3, 5, 16), rtol=0, atol=1e-10)


@pytest.mark.parametrize("readout", ["commit-peek", "end-anchored"])
def test_folded_is_unfolded_also_in_gradients_and_in_a_batch(readout: str) -> None:
    height, width = 19, 26
    model = model_of(SslaDetConfig((6, 8, 12, 16), readout=readout), torch.float64)  # type: ignore[arg-type]
    parts = [streams.random_stream(n, height, width, seed=n) for n in (500, 0, 300)]
    windows = [check_events(*part, height=height, width=width) for part in parts]
    batch = batch_windows(windows, height=height, width=width, dtype=torch.float64)
    results = []
    for fold in (True, False):
        outputs = model(batch, fold=fold)
        loss = outputs.head.classes.sin().sum() + outputs.head.boxes.cos().sum()
        gradients = torch.autograd.grad(loss, list(model.levels.parameters()))
        assert all(gradient.abs().max() > 0 for gradient in gradients)
        results.append([outputs.grid_BDHW, *gradients])
    for folded, plain in zip(*results, strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-9, atol=1e-10)
    for one, grid_DHW in zip(windows, results[0][0], strict=True):
        alone = batch_windows([one], height=height, width=width, dtype=torch.float64)
        torch.testing.assert_close(model(alone).grid_BDHW[0], grid_DHW, rtol=0, atol=1e-10)
    assert not outputs.active_BHW[1].any()


def test_gradients_through_the_peek_are_the_derivative() -> None:
    model = model_of(SslaDetConfig((3, 4)), torch.float64)
    windows = [check_events(*streams.random_stream(40, 6, 7, seed=3), height=6, width=7)]
    batch = batch_windows(windows, height=6, width=7, dtype=torch.float64)
    parameters = list(model.levels.parameters())
    loss = model(batch).grid_BDHW.sin().sum()
    gradients = torch.autograd.grad(loss, parameters)
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    expected = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    step = 1e-6
    values = []
    with torch.no_grad():
        for sign in (1, -2):
            for p, d in zip(parameters, directions, strict=True):
                p += sign * step * d
            values.append(model(batch).grid_BDHW.sin().sum())
    torch.testing.assert_close((values[0] - values[1]) / (2 * step), expected, rtol=1e-4, atol=1e-8)


def test_an_engine_goes_on_where_another_stopped() -> None:
    model = model_of(SMALL, torch.float64)
    stream = streams.random_stream(900, 30, 40, seed=8)
    first, second = streams.split_at_times(stream, [int(stream[0][450]), int(stream[0][-1])])
    whole = MicroBatchEngine(model, 30, 40)
    whole.push(*first)
    whole.push(*second)
    for start, go_on in ((MicroBatchEngine, EventEngine), (EventEngine, MicroBatchEngine)):
        a, b = start(model, 30, 40), go_on(model, 30, 40)
        a.push(*first)
        b.adopt(a.state)
        b.push(*second)
        torch.testing.assert_close(b.read().feature_GD, whole.read().feature_GD, rtol=0, atol=1e-10)


def test_order_of_ties_and_polarity_coding_do_not_matter_and_reading_changes_nothing() -> None:
    model = model_of(SMALL, torch.float64)
    t, x, y, p = streams.random_stream(800, 30, 40, seed=2)
    order = np.arange(800)
    rng = np.random.default_rng(0)
    for start, end in pairwise([0, *(np.flatnonzero(np.diff(t)) + 1).tolist(), 800]):
        piece = order[start:end]
        rng.shuffle(piece)
    # Events of one pixel and microsecond keep their order: it is all that tells them apart.
    order = order[np.lexsort((order, y[order] * 40 + x[order], t[order]))]
    a, b = EventEngine(model, 30, 40), EventEngine(model, 30, 40)
    a.push(t, x, y, p)
    for _ in range(3):
        a.read()
    b.push(t[order], x[order], y[order], p[order].astype(np.int16) * 2 - 1)
    assert torch.equal(a.read().feature_GD, b.read().feature_GD)
    a.reset()
    a.push(t, x, y, p)
    assert torch.equal(a.read().feature_GD, b.read().feature_GD)


def test_events_in_memory() -> None:
    model = model_of(SMALL, torch.float64)
    t, x, y, p = streams.random_stream(300, 30, 40, seed=6)
    events = Events.from_arrays(t, x, y, p, 40, 30)
    a, b = EventEngine(model, 30, 40), MicroBatchEngine(model, 30, 40)
    a.push_events(events)
    b.push(t, x, y, p)
    with torch.no_grad():
        window = model(batch_windows([window_of(events)], height=30, width=40, dtype=torch.float64))
    expected = window.grid_BDHW[0].flatten(1).t()
    for engine in (a, b):
        torch.testing.assert_close(engine.read().feature_GD, expected, rtol=0, atol=1e-10)
    with pytest.raises(InputError, match="sensor of 40x30 pixels, this engine is for 40x31"):
        EventEngine(model, 31, 40).push_events(events)


def test_predictions_are_the_heads_on_the_whole_grid() -> None:
    model = model_of(SMALL, torch.float32)
    stream = streams.random_stream(90, 60, 120, seed=4)
    engine = MicroBatchEngine(model, 60, 120)
    engine.push(*stream)
    grid, outputs = engine.predict()
    window = [check_events(*stream, height=60, width=120)]
    with torch.no_grad():
        whole = model(batch_windows(window, height=60, width=120))
    assert grid.active_G.any()
    assert not grid.active_G.all()
    for mine, right in ((outputs.classes, whole.head.classes), (outputs.boxes, whole.head.boxes)):
        torch.testing.assert_close(mine[0, :, 0], right[0].flatten(1)[:, grid.active_G], rtol=1e-4, atol=1e-4)
    inactive = whole.head.objectness.flatten()[~grid.active_G]
    assert (inactive == inactive[0]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": [5, 3]}, "time runs backwards at event 1, from 5 to 3 us"),
        ({"t": [0.5, 0.7]}, "t is float64, expected integers"),
        ({"x": [0, 40]}, "x reaches from 0 to 40, expected 0 to 39 on a sensor of 40x30"),
        ({"y": [-1, 3]}, "y reaches from -1 to 3"),
        ({"p": [1]}, "p has shape (1,), expected (2,) like t"),
    ],
)
def test_bad_events_are_one_clear_line(change: dict[str, list[float]], message: str) -> None:
    engine = EventEngine(model_of(SMALL, torch.float32), 30, 40)
    arrays = {"t": [3, 4], "x": [0, 1], "y": [0, 1], "p": [0, 1]} | change
    with pytest.raises(InputError) as caught:
        engine.push(*(np.array(a) for a in arrays.values()))
    assert message in str(caught.value)
    assert not engine.read().active_G.any()


def test_engines_refuse_the_past_and_models_that_look_ahead() -> None:
    engine = EventEngine(model_of(SMALL, torch.float32), 30, 40)
    one = np.array([1])
    engine.push(one * 10, one, one, one)
    with pytest.raises(InputError, match="runs backwards, to 9 us behind 10 us"):
        engine.push(one * 9, one, one, one)
    with pytest.raises(InputError, match='need readout "commit-peek"'):
        EventEngine(model_of(SslaDetConfig(readout="end-anchored"), torch.float32), 30, 40)
    with pytest.raises(InputError, match=r"float32 or float64; this model is in torch.bfloat16"):
        MicroBatchEngine(model_of(SMALL, torch.bfloat16), 30, 40)
    with pytest.raises(InputError, match="at least 1x1 pixels, not 40x0"):
        MicroBatchEngine(model_of(SMALL, torch.float32), 0, 40)


@pytest.mark.parametrize(
    "config", [SMALL, SslaDetConfig((4, 6, 8), space_size=5), SslaDetConfig((4, 6), thinning=1)]
)
def test_reading_again_computes_only_what_changed(config: SslaDetConfig) -> None:
    height, width = 150, 200
    model = model_of(config, torch.float64)
    stream = streams.random_stream(3000, height, width, seed=9)
    t = stream[0]
    times = sorted({int(t[i]) for i in (1500, 1510, 1530, 1700, 1701, 2500, 2999)})
    often = [EventEngine(model, height, width), MicroBatchEngine(model, height, width)]
    once = MicroBatchEngine(model, height, width)
    for piece in streams.split_at_times(stream, times):
        once.push(*piece)
        expected = peek(config, once.weights, once.state)
        for engine in often:
            engine.push(*piece)
            before = engine.work.peeked.sum()
            torch.testing.assert_close(engine.read().feature_GD, expected, rtol=0, atol=1e-10)
            computed = engine.work.peeked.sum() - before
            if 0 < len(piece[0]) < 50:
                waiting = (engine.state.depth_G > 0) & (engine.state.depth_G < config.num_levels)
                assert computed < int(waiting.sum()) or not waiting.any()
            assert engine.work.peeked.sum() >= before
            before = engine.work.peeked.sum()
            engine.read()
            assert engine.work.peeked.sum() == before

"""The baselines compute what plain loops compute, run as streams, and learn."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from multiway_core import hub, model_folder
from multiway_core.errors import InputError
from multiway_event_vision.baselines import dense_cnn, global_linear_attention, lstm, lstm_native
from multiway_event_vision.baselines.dense_cnn import DenseCnn, DenseCnnConfig, event_counts, forward_flops
from multiway_event_vision.baselines.dense_engine import DenseEngine
from multiway_event_vision.baselines.global_linear_attention import GlobalDet
from multiway_event_vision.baselines.lstm import LstmDet
from multiway_event_vision.baselines.lstm_scan import lstm_scan
from multiway_event_vision.events import Events
from multiway_event_vision.ssla_det.assignment import Targets
from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.cost import head_flops
from multiway_event_vision.ssla_det.detections import DetectionConfig, detect, detect_windows
from multiway_event_vision.ssla_det.engines.event import EventEngine
from multiway_event_vision.ssla_det.engines.micro_batch import MicroBatchEngine
from multiway_event_vision.ssla_det.engines.window import WindowEngine
from multiway_event_vision.ssla_det.inputs import batch_windows, check_events, window_of
from multiway_event_vision.ssla_det.layer import NORM_BIAS
from multiway_event_vision.ssla_det.objective import objective
from multiway_event_vision.ssla_det.scoring import score_recordings
from multiway_event_vision.ssla_det.shapes_set import HELD_OUT, shapes_set
from multiway_event_vision.ssla_det.spaces import Place
from torch import nn

reference = importlib.import_module("packages.event-vision.tests.ssla_reference")
streams = importlib.import_module("packages.event-vision.tests.ssla_streams")

SMALL = SslaDetConfig((6, 8, 12, 16))
RECURRENT = {"lstm": LstmDet, "global": GlobalDet}


def seeded(model_class: type[nn.Module], config: object, dtype: torch.dtype = torch.float64) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = model_class(config)
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if "norm" in name and tensor.is_floating_point():
                    tensor += 0.2 * torch.rand(tensor.shape)
    return model.to(dtype).eval()


@dataclass
class LstmReference:
    """A layer event by event, with PyTorch's LSTM called for one space and step at a time."""

    layer: lstm.LstmLayer

    def __post_init__(self) -> None:
        width = self.layer.recurrent.shape[1]
        self.lstm = nn.LSTM(width, width, bias=False, dtype=torch.float64)
        with torch.no_grad():
            self.lstm.weight_ih_l0.copy_(self.layer.input)
            self.lstm.weight_hh_l0.copy_(self.layer.recurrent)

    @torch.no_grad()
    def __call__(self, x, py, px, height, width, state, *, write):
        layer, x = self.layer, torch.as_tensor(x)
        k, r = layer.size, (layer.size - 1) // 2
        scatter, gather = (w.unflatten(0, (k * k, -1)) for w in (layer.scatter, layer.gather))
        y = x if layer.residual is None else layer.residual(x)
        for space_y in range(max(py - r, 0), min(py + r + 1, height)):
            for space_x in range(max(px - r, 0), min(px + r + 1, width)):
                position = (py - space_y + r) * k + (px - space_x + r)
                out, moved = self.lstm((scatter[position] @ x)[None], state.get((space_y, space_x)))
                if write:
                    state[space_y, space_x] = moved
                y = y + gather[position] @ out[0]
        return layer.norm(y).numpy()


@dataclass
class GlobalReference:
    layer: global_linear_attention.GlobalLayer

    @torch.no_grad()
    def __call__(self, x, py, px, height, width, state, *, write):
        layer, x = self.layer, torch.as_tensor(x)
        z = x if layer.input is None else layer.input(x)
        h = torch.sigmoid(layer.gate(z)) * state.get("frame", torch.zeros_like(z)) + layer.value(z)
        if write:
            state["frame"] = h
        residual = x if layer.residual is None else layer.residual(x)
        return layer.norm(layer.output(layer.query(z) * h) + residual).numpy()


REFERENCES = {"lstm": LstmReference, "global": GlobalReference}


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_baselines_stream_and_are_what_loops_compute(name: str, native: bool) -> None:
    height, width = 21, 34
    model = seeded(RECURRENT[name], SMALL)
    levels = [[REFERENCES[name](layer) for layer in level] for level in model.levels]
    stream = streams.random_stream(400, height, width, seed=5)
    micro, window = MicroBatchEngine(model, height, width), WindowEngine(model, height, width)
    micro.native = native
    seen = [np.empty(0, np.int64)] * 4
    for piece in streams.split_at_times(
        stream, [int(stream[0][170]), int(stream[0][171]), int(stream[0][-1])]
    ):
        seen = [np.concatenate(pair) for pair in zip(seen, piece, strict=True)]
        expected = torch.zeros(3, 5, 16, dtype=torch.float64)
        for (y, x), feature in reference.stream_grid(levels, seen, height, width).items():
            expected[y, x] = torch.from_numpy(feature)
        assert expected.abs().max() > 0.5
        for engine in (micro, window):
            engine.push(*piece)
            torch.testing.assert_close(engine.read().feature_GD, expected.flatten(0, 1), rtol=0, atol=1e-10)
    with pytest.raises(InputError, match="use the micro-batch engine"):
        EventEngine(model, height, width)


@pytest.mark.parametrize("name", RECURRENT)
def test_streams_of_a_batch_do_not_see_each_other(name: str) -> None:
    model = seeded(RECURRENT[name], SMALL)
    parts = [streams.random_stream(n, 21, 34, seed=n) for n in (300, 0, 200)]
    windows = [check_events(*part, height=21, width=34) for part in parts]
    together = model(batch_windows(windows, height=21, width=34, dtype=torch.float64)).grid_BDHW
    for window, grid_DHW in zip(windows, together, strict=True):
        alone = model(batch_windows([window], height=21, width=34, dtype=torch.float64)).grid_BDHW[0]
        torch.testing.assert_close(alone, grid_DHW, rtol=0, atol=1e-10)


@pytest.mark.parametrize("layer_class", [lstm.LstmLayer, global_linear_attention.GlobalLayer])
@pytest.mark.parametrize("inputs", [6, 8])
def test_gates_begin_open(layer_class: type[nn.Module], inputs: int) -> None:
    torch.manual_seed(0)
    layer, horizon_D = layer_class(inputs, 8, 3), torch.linspace(1.5, 32, 8)
    layer.open_gates(horizon_D)
    x_NC = nn.functional.layer_norm(torch.randn(2000, inputs), (inputs,)) + NORM_BIAS
    if layer_class is lstm.LstmLayer:
        before = (layer.weights().inward @ x_NC.t()).view(9, 4, 8, -1)[:, 1].mean(dim=(0, 2))
    else:
        before = layer.weights().layer.projection.scatter(x_NC)[1][:, 0].mean(dim=0)
    torch.testing.assert_close(before, torch.special.logit((-1 / horizon_D).exp()), rtol=0, atol=0.1)


def scan_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    offsets = torch.tensor([0, 3, 4, 9, 11])
    gates, recurrent, state = torch.randn(11, 12), torch.randn(12, 3), torch.randn(4, 6)
    return (
        gates.double().requires_grad_(),
        recurrent.double().requires_grad_(),
        offsets,
        state.double().requires_grad_(),
    )


def test_scan_is_pytorchs_lstm() -> None:
    gates, recurrent, offsets, state = scan_inputs()
    cell = nn.LSTM(12, 3, bias=False, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_ih_l0.copy_(torch.eye(12))
        cell.weight_hh_l0.copy_(recurrent)
    h_RD, moved = lstm_scan(gates, recurrent, offsets, state)
    for sequence in range(4):
        rows = slice(int(offsets[sequence]), int(offsets[sequence + 1]))
        before = state[sequence].view(2, 1, 3)
        expected, (h, c) = cell(gates[rows], (before[0], before[1]))
        torch.testing.assert_close(h_RD[rows], expected)
        torch.testing.assert_close(moved[sequence], torch.cat([h[0], c[0]]))


def test_gradient_of_the_scan_is_the_derivative() -> None:
    gates, recurrent, offsets, state = scan_inputs()
    assert torch.autograd.gradcheck(
        lambda gates, recurrent, state: lstm_scan(gates, recurrent, offsets, state), (gates, recurrent, state)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_compiled_lstms_are_the_scan_also_in_gradients(size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    if not lstm_native.supports(torch.zeros(1, dtype=dtype)):
        pytest.skip("no C++ compiler")
    layer = lstm.LstmLayer(5, 7, size).to(dtype)
    place = Place(*(torch.randint(n, (60,)) for n in (2, 6, 4)), 6, 4)
    x_NC, state_PE = torch.randn(60, 5, dtype=dtype), torch.randn(48, 14, dtype=dtype)
    results = []
    for fused in (True, False):
        inputs = [x_NC.clone().requires_grad_(), state_PE.clone().requires_grad_(), *layer.parameters()]
        out_ND, moved_PE = layer.weights().advance(inputs[0], place, inputs[1], fused=fused)
        gradients = torch.autograd.grad(out_ND.sin().sum() + moved_PE.cos().sum(), inputs)
        results.append([out_ND, moved_PE, *gradients])
    tolerance = 1e-10 if dtype == torch.float64 else 2e-4
    for compiled, plain in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=tolerance, atol=tolerance)


def test_counts_of_a_window_by_hand_and_read_outs_as_a_batch() -> None:
    config = DenseCnnConfig((4, 6), num_classes=3, bins=2, window_us=100)
    parts = [streams.random_stream(300, 13, 18, seed=1), streams.random_stream(0, 13, 18, seed=2)]
    windows = [check_events(*part, height=13, width=18) for part in parts]
    batch = batch_windows(windows, height=13, width=18)
    t, x, y, p = parts[0]
    end = int(t[150])
    expected = np.zeros((2, 4, 13, 18), np.int64)
    for i in range(300):
        if end - 100 < t[i] <= end:
            late = t[i] > end - 50
            expected[0, 2 * late + p[i], y[i], x[i]] += 1
    assert 0 < expected.sum() < 300
    np.testing.assert_array_equal(event_counts(batch, torch.tensor([end, end]), config).numpy(), expected)

    # Slices of a stream, each read behind its end, see what one window with all events up to there sees.
    model = seeded(DenseCnn, config, torch.float32)
    cuts = [slice(0, 80), slice(80, 80), slice(80, 300)]
    slices = [
        batch_windows(
            [check_events(*(a[cut] for a in part), height=13, width=18) for part in parts],
            height=13,
            width=18,
        )
        for cut in cuts
    ]
    with torch.no_grad():
        together = model.read_outs(slices).head
        whole = [
            batch_windows(
                [check_events(*(a[:n] for a in parts[0]), height=13, width=18)], height=13, width=18
            )
            for n in (80, 80, 300)
        ]
        alone = torch.cat([model(batch).head.classes for batch in whole])
    assert together.boxes.shape == (6, 4, 4, 5)
    torch.testing.assert_close(together.classes[::2], alone)
    assert not torch.equal(alone[0], alone[2])


def test_dense_engine_sees_the_window_before_its_last_event() -> None:
    config = DenseCnnConfig((4, 6), num_classes=3, window_us=20_000)
    model = seeded(DenseCnn, config, torch.float32)
    t, x, y, p = streams.random_stream(300, 13, 18, seed=1)
    events = Events.from_arrays(t, x, y, p, 18, 13)
    engine = DenseEngine(model, 13, 18)
    assert len(detect(engine, DetectionConfig(score=0.0)).score_M) > 0  # before any event, too
    for part in (events[:100], events[100:100], events[100:]):
        engine.push_events(part)
    found = detect(engine, DetectionConfig(score=0.0))
    with torch.no_grad():
        outputs = model(batch_windows([window_of(events)], height=13, width=18))
    expected = detect_windows(outputs, stride=4, config=DetectionConfig(score=0.0))[0]
    torch.testing.assert_close(found.boxes_M4, expected.boxes_M4)
    assert torch.equal(found.label_M, expected.label_M)
    assert (found.time_M == t[-1]).all()
    with pytest.raises(InputError, match="runs backwards"):
        engine.push_events(events)
    with pytest.raises(InputError, match="sensor of 18x13 pixels, this engine is for 18x14"):
        DenseEngine(model, 14, 18).push_events(events)


@pytest.mark.parametrize("model_class", [DenseCnn, LstmDet, GlobalDet])
def test_each_learns_one_batch(model_class: type[nn.Module]) -> None:
    """Two blocks of events and their classes: bright from the left, dark from the right."""
    rng = np.random.default_rng(0)
    windows, targets = [], []
    for label, corner in enumerate((4, 18)):
        t = np.sort(rng.integers(0, 50_000, 250))
        x, y = rng.integers(corner, corner + 10, (2, 250))
        windows.append(check_events(t, x, y, np.full(250, label), height=32, width=32))
        box = [[corner, corner, corner + 10.0, corner + 10.0]]
        targets.append(Targets(torch.tensor(box), torch.tensor([label])))
    batch = batch_windows(windows, height=32, width=32)
    config = DenseCnnConfig((8, 12, 16)) if model_class is DenseCnn else SslaDetConfig((6, 8, 12, 16))
    model = seeded(model_class, config, torch.float32).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = objective(model(batch), targets, stride=8).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.45 * losses[0]


def test_operations_by_hand() -> None:
    # One 3x3 stage pair on 4 x 6 pixels, stride 2: 2 x 3 cells of 2 channels from 2, then from 2. A result costs 9 · 2
    # products, 17 sums, the bias that is left of the norm, SiLU 5: 41.
    config = DenseCnnConfig((2,), num_classes=1, bins=1)
    assert forward_flops(config, 4, 6) == 6 * 2 * 41 * 2 + 6 * head_flops(2, 1)
    # c = 1, d = 2, one position. Folded input 8 x 1: 8; recurrent 8 x 2: 24; gates and states 24 · 2; gather 2 x 2: 6
    # and its sum 2; residual 2 x 1: 2 and its sum 2; LayerNorm 17.
    assert lstm.layer_flops(1, 2, 1) == 8 + 24 + 48 + 6 + 2 + 2 + 2 + 17
    # Plain: S 2 x 1: 2, then input 8 x 2: 24.
    assert lstm.layer_flops(1, 2, 1, folded=False) == lstm.layer_flops(1, 2, 1) - 8 + 2 + 24
    # Folded 6 x 1: 6; sigmoid 8, scan 4, product 2; output 2 x 2: 6; residual 2 and its sum 2; LayerNorm 17.
    assert global_linear_attention.layer_flops(1, 2, 3) == 6 + 8 + 4 + 2 + 6 + 2 + 2 + 17
    assert global_linear_attention.layer_flops(1, 2, 3, folded=False) == 47 - 6 + 2 + 18


@pytest.mark.parametrize("values", [{"widths": ()}, {"num_classes": 0}, {"bins": 0}, {"window_us": 3}])
def test_configs_that_cannot_work(values: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        dense_cnn.DenseCnnConfig(**values)  # type: ignore[arg-type]


def test_bundled_dense_network_finds_shapes() -> None:
    model = model_folder.load(DenseCnn, DenseCnnConfig, hub.resolve("bundled:shapes-dense-cnn"))
    scenes = shapes_set("test", 2, config=replace(HELD_OUT, duration_us=100_000), label_every_us=100_000)
    scores = score_recordings(model, scenes)
    assert scores.ap50 > 0.6
    assert scores.objects > 2

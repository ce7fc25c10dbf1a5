"""Frames, data sets, networks, losses, counts of operations, and the comparison as a whole in a few seconds."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.errors import ConfigError, DataError, InputError
from multiway_event_vision.events import Events
from multiway_event_vision.recurrent import report
from multiway_event_vision.recurrent.comparison import Cell, Comparison, ComparisonConfig, Result, cells
from multiway_event_vision.recurrent.event_set import EventSet
from multiway_event_vision.recurrent.frames import event_frames
from multiway_event_vision.recurrent.gestures import CLASSES, DURATION_US, Blob, gestures
from multiway_event_vision.recurrent.networks import KINDS, Kind, NetworkConfig, Outputs, build
from multiway_event_vision.recurrent.objective import objective, scores
from multiway_event_vision.recurrent.operations import operations
from multiway_event_vision.recurrent.recipe import TrainingConfig, accuracy, train


def test_frames_hold_each_event_in_its_step_and_channel() -> None:
    events = Events.from_arrays(
        [0, 9, 10, 10, 10, 29, 30], [0, 1, 2, 2, 2, 3, 3], [0, 0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0, 1], 4, 2
    )
    counts = event_frames(events, 10, 3, values="count")
    assert counts.shape == (3, 2, 2, 4)
    assert {tuple(at): int(counts[tuple(at)]) for at in np.argwhere(counts)} == {
        (0, 0, 0, 0): 1,
        (0, 1, 0, 1): 1,
        (1, 1, 1, 2): 2,
        (1, 0, 1, 2): 1,
        (2, 0, 1, 3): 1,
    }
    assert np.array_equal(event_frames(events, 10, 3), counts > 0)
    assert np.array_equal(event_frames(events, 10, 2, start=10), counts[1:] > 0)
    with pytest.raises(InputError, match="3 steps of 0 us"):
        event_frames(events, 0, 3)


def test_a_set_comes_back_from_its_file_and_shrinks(tmp_path: Path) -> None:
    made = gestures(each=1, seed=3)
    made.save(tmp_path / "set.npz")
    found = EventSet.load(tmp_path / "set.npz")
    assert sorted(found.label_N.tolist()) == list(range(11))
    for number in range(len(made)):
        assert np.array_equal(found.recording(number).t, made.recording(number).t)
        found.recording(number).check()
    whole, halves = found.frames(20_000, 15), found.frames(20_000, 15, shrink=2)
    blocks = whole.reshape(11, 15, 2, 16, 2, 16, 2).max(axis=(4, 6))
    assert np.array_equal(halves, blocks)
    (tmp_path / "set.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="not a set of recordings"):
        EventSet.load(tmp_path / "set.npz")


@pytest.mark.parametrize("kind", range(5))
def test_a_dark_gesture_backwards_is_the_bright_one_run_in_reverse(kind: int) -> None:
    forward = Blob.draw(2 * kind, np.random.default_rng(kind))
    backward = replace(forward, label=2 * kind + 1, is_bright=not forward.is_bright)
    shown, reverse = [frame for frame, _ in forward.frames()], [frame for frame, _ in backward.frames()]
    for before, after in zip(shown, reversed(reverse), strict=True):
        np.testing.assert_allclose(np.log(before / 0.4), -np.log(after / 0.4), atol=1e-9)
    assert forward.place(DURATION_US // 3) != pytest.approx(backward.place(DURATION_US // 3))


def test_gestures_are_those_of_their_seed() -> None:
    first, again, other = (gestures(each=1, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.t, again.t)
    assert not np.array_equal(first.t, other.t)
    assert len(CLASSES) == 11


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [(), (2, 3)])
def test_networks_give_every_class_at_every_step(kind: Kind, channels: tuple[int, ...]) -> None:
    config = NetworkConfig(kind, (8, 12), classes=4, hidden=6, channels=channels)
    network = build(config, seed=0)
    frames = (torch.rand(5, 3, 2, 8, 12, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    outputs = network(frames)
    assert outputs.each_TBK.shape == (5, 3, 4)
    if kind == "snn":
        assert set(outputs.each_TBK.unique().tolist()) <= {0.0, 1.0}
        for name in list(outputs.sent)[1:]:
            assert set(outputs.sent[name].unique().tolist()) <= {0.0, 1.0}, name
    else:
        assert torch.equal(outputs.last_BK, outputs.each_TBK[-1])
    objective(outputs, torch.tensor([0, 1, 3]), "rate").backward()
    assert all(p.grad is not None for p in network.parameters())
    assert torch.equal(build(config, seed=0)(frames).each_TBK, outputs.each_TBK)
    # One convolution gives the gates: a recurrent layer has no weights that it does not use.
    expected = {"snn": 1, "memoryless": 1, "rnn": 1, "lstm": 4}[kind]
    first = network.layers["conv0" if channels else "dense0"].feed  # type: ignore[union-attr]
    assert first.weight.shape[0] == expected * (2 if channels else 6)  # type: ignore[union-attr]


def test_losses_average_over_time_or_ask_at_the_end() -> None:
    each = torch.zeros(4, 1, 2)
    each[0, 0, 0] = each[1, 0, 0] = each[3, 0, 1] = 1
    outputs = Outputs(each, torch.tensor([[0.25, 0.75]]), {})
    label = torch.tensor([0])
    assert scores(outputs, "rate").tolist() == [[0.5, 0.25]]
    assert float(objective(outputs, label, "rate")) == pytest.approx((0.5**2 + 0.25**2) / 2)
    assert float(objective(outputs, label, "last")) == pytest.approx(0.75**2)


def test_operations_by_hand() -> None:
    frames = torch.zeros(3, 2, 2, 4, 4)
    frames[0, 0, 0, 0, :3] = 1  # 3 events in 2 samples: 1.5 a sample
    found = {}
    for kind in ("snn", "rnn", "lstm"):
        network = build(NetworkConfig(kind, (4, 4), classes=5, hidden=6), seed=0)
        outputs = network(frames)
        found[kind] = operations(network, outputs), outputs
    count, outputs = found["snn"]
    assert count.dense_macs == 3 * (32 * 6 + 6 * 5)
    assert count.macs == 3 * (6 + 5)
    hidden_spikes = float(outputs.sent["readout"].detach().sum()) / 2
    assert count.additions == pytest.approx(1.5 * 6 + hidden_spikes * 5)
    assert count.spike_rate == pytest.approx(hidden_spikes / (3 * 6))
    count, _ = found["rnn"]
    inner = 6 * 6 + 6 * 6 + 6 * 6 + 6 * 5  # recurrent, second layer, its recurrent, read-out
    assert (count.dense_macs, count.macs) == (3 * (32 * 6 + inner), 3 * inner)
    assert (count.additions, count.spike_rate) == (1.5 * 6, None)
    count, _ = found["lstm"]
    inner = 4 * (6 * 6 + 6 * 6 + 6 * 6) + 6 * 5
    assert (count.dense_macs, count.macs) == (3 * (32 * 24 + inner), 3 * (inner + 2 * 3 * 6))

    network = build(NetworkConfig("snn", (4, 4), classes=5, hidden=6, channels=(2,)), seed=0)
    outputs = network(frames)
    count = operations(network, outputs)
    assert count.dense_macs == 3 * (2 * 2 * 9 * 16 + 8 * 6 + 6 * 5)
    assert count.macs == 3 * (2 * 16 + 2 * 4 + 6 + 5)
    sent = {name: float(x.detach().sum()) / 2 for name, x in outputs.sent.items()}
    assert count.additions == pytest.approx(
        1.5 * 2 * 9 + sent["pool0"] + sent["dense0"] * 6 + sent["readout"] * 5
    )


@pytest.mark.parametrize("kind", ["snn", "rnn", "lstm"])
def test_training_learns_what_order_alone_tells(kind: Kind) -> None:
    """First left, then right, or the other way round; the same frames otherwise."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 64)
    frames = np.zeros((64, 4, 2, 2, 4), np.uint8)
    for number, label in enumerate(labels):
        frames[number, 0 if label else 2, :, :, :2] = 1
        frames[number, 2 if label else 0, :, :, 2:] = 1
    network = build(NetworkConfig(kind, (2, 4), classes=2, hidden=16), seed=0)
    config = TrainingConfig(passes=60, batch_size=24, learning_rate=1e-2, bfloat16=False)
    train(network, frames, labels, "last", config, seed=0)
    assert accuracy(network, frames, labels, "last", batch_size=7) == 1.0


def test_a_comparison_goes_on_where_it_was_stopped_and_reports(tmp_path: Path) -> None:
    config = ComparisonConfig(
        seeds=2, steps=4, digit_steps_us=(5_000,), hidden=4, channels=(), digits=20, gestures_each=2, passes=1
    )
    comparison = Comparison(config, tmp_path)
    wanted = list(cells(config))
    assert len(wanted) == len(set(wanted)) == 2 * 2 * 4 * 2
    results = [comparison.run(cell) for cell in wanted[:3]]
    report.save(results, config, tmp_path / "results.json")
    found = report.load(tmp_path / "results.json", config)
    assert found == results
    assert comparison.run(wanted[0]).accuracy == results[0].accuracy
    assert comparison.run(wanted[0]).train_loss == results[0].train_loss
    with pytest.raises(InputError, match="other settings"):
        report.load(tmp_path / "results.json", replace(config, hidden=5))
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(DataError, match="does not hold results"):
        report.load(tmp_path / "results.json", config)


def test_the_table_has_means_and_spreads(tmp_path: Path) -> None:
    config = ComparisonConfig(digit_steps_us=(5_000,))
    results = [
        Result(Cell("digits", "dense", "snn", "rate", 5_000, seed), value, 0.0, 100, 2e6, 1e3, 5e4, 0.1, 1.0)
        for seed, value in enumerate((0.9, 0.94))
    ]
    lines = report.tables(results, config).splitlines()
    assert "| SNN | rate | 92.0 ± 2.8 | – | – | – |" in lines
    assert "| SNN, dense | 100 | 2,000 | 1 | 50 | 0.100 | 92.0 ± 2.8 | 1.0 |" in lines
    report.plot(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    report.save(results, config, tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["schema"] == report.SCHEMA


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="expected one of snn, rnn, lstm, memoryless"):
        NetworkConfig("gru")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="too small for 3 halvings"):
        NetworkConfig("snn", (4, 4), channels=(2, 2, 2))
    with pytest.raises(ConfigError, match="must be positive"):
        TrainingConfig(passes=0)
    with pytest.raises(ConfigError, match="at least 1"):
        ComparisonConfig(seeds=0)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    from multiway_event_vision.recurrent.digits import digits

    with pytest.raises(
        InputError, match=r"those of scikit-learn: pip install 'multiway-event-vision\[snn-rnn\]'"
    ):
        digits()
    monkeypatch.setattr(report, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs matplotlib: pip install 'multiway-event-vision\[snn-rnn\]'"):
        report.check_plot()

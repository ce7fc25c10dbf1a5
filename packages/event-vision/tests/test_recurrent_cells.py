"""Neurons and layers against snntorch, spikingjelly, torch, and loops written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from multiway_event_vision.recurrent.cells import LifConfig, lif_step, spike
from multiway_event_vision.recurrent.layers import LifLayer, LstmLayer, MemorylessLayer, RnnLayer
from torch import nn

T, B = 9, 5


def test_a_spike_is_a_step_whose_slope_is_a_rectangle_of_area_one() -> None:
    above = torch.linspace(-1, 1, 2001, dtype=torch.float64, requires_grad=True)
    fired = spike(above, 0.25)
    assert torch.equal(fired, (above > 0).double())
    assert spike(torch.zeros(1), 0.25) == 0  # at the threshold itself it does not fire
    fired.sum().backward()
    slope = above.grad
    assert slope is not None
    assert set(slope.unique().tolist()) == {0.0, 2.0}
    assert slope.sum() * 0.001 == pytest.approx(1, abs=0.01)


def test_lif_by_hand() -> None:
    config = LifConfig(decay=0.5, threshold=1.0)
    u = o = torch.zeros(1)
    seen = []
    for current in (0.8, 0.8, 0.3, 2.0, 0.0):
        u, o = lif_step(torch.tensor([current]), u, o, config)
        seen.append((round(float(u), 6), int(o)))
    # 0.8; 0.4 + 0.8 fires; nothing is left of it, 0.3; 0.15 + 2 fires; 0
    assert seen == [(0.8, 0), (1.2, 1), (0.3, 0), (2.15, 1), (0.0, 0)]


def currents(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(T, B, 7, generator=generator, dtype=torch.float64) * 0.4).requires_grad_()


def ours(current_TBF: torch.Tensor, config: LifConfig) -> tuple[torch.Tensor, torch.Tensor]:
    return LifLayer(nn.Identity(), config)(current_TBF.float())


@pytest.mark.peer
def test_lif_is_the_leaky_neuron_of_snntorch_with_reset_to_zero() -> None:
    """Spikes and potentials of Leaky(beta=0.3, threshold=0.3, reset_mechanism="zero") over nine steps; the gradient.

    No gradient flows through its reset, but does through ours, so gradients are compared over one step.
    """
    snntorch = pytest.importorskip("snntorch")

    def rectangle(above: torch.Tensor) -> torch.Tensor:
        return spike(above, 0.25)

    config = LifConfig(0.3, 0.3, 0.25)
    peer = snntorch.Leaky(
        beta=0.3,
        threshold=0.3,
        reset_mechanism="zero",
        spike_grad=rectangle,
        reset_delay=True,
    )
    current = currents().float().detach()
    spikes, potentials = ours(current, config)
    memory = peer.init_leaky()
    for step in range(T):
        fired, memory = peer(current[step], memory)
        assert torch.equal(fired, spikes[step])
        torch.testing.assert_close(memory, potentials[step])
    assert 0.05 < float(spikes.mean()) < 0.95

    mine, theirs = (current[0].clone().requires_grad_() for _ in range(2))
    ours(mine[None], config)[0].sum().backward()
    peer(theirs, peer.init_leaky())[0].sum().backward()
    assert mine.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.peer
def test_lif_is_that_of_spikingjelly_and_so_are_its_gradients_through_time() -> None:
    """Spikes over nine steps, and gradients through all of them, with LIFNode(hard reset to 0, reset in the graph).

    Its neuron decays as v + (x - v) / tau with the input undamped, v - v / tau + x: decay 0.3 is tau = 1 / 0.7. It
    fires at the threshold too; no potential here lies exactly on it.
    """
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate")

    class Rectangle(surrogate.SurrogateFunctionBase):
        def __init__(self) -> None:
            super().__init__(alpha=1.0, spiking=True)

        @staticmethod
        def spiking_function(x: torch.Tensor, alpha: float) -> torch.Tensor:
            return spike(x, 0.25)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return spike(x, 0.25)

    peer = neuron.LIFNode(
        tau=1 / 0.7,
        decay_input=False,
        v_threshold=0.3,
        v_reset=0.0,
        surrogate_function=Rectangle(),
        detach_reset=False,
        step_mode="m",
    )
    mine, theirs = (currents(1).float().detach().requires_grad_() for _ in range(2))
    spikes, _ = ours(mine, LifConfig(0.3, 0.3, 0.25))
    fired = peer(theirs)
    assert torch.equal(fired, spikes)
    weight = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(2))
    (spikes * weight).sum().backward()
    (fired * weight).sum().backward()
    assert mine.grad is not None
    assert theirs.grad is not None
    assert mine.grad.abs().max() > 0.1
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_dense_layers_are_those_of_torch(kind: str) -> None:
    wide = 6 * (4 if kind == "lstm" else 1)
    feed, recur = nn.Linear(7, wide), nn.Linear(6, wide, bias=False)
    layer = LstmLayer(feed, recur) if kind == "lstm" else RnnLayer(feed, recur)
    peer = nn.LSTM(7, 6) if kind == "lstm" else nn.RNN(7, 6)
    with torch.no_grad():
        peer.weight_ih_l0.copy_(feed.weight)
        peer.bias_ih_l0.copy_(feed.bias)
        peer.weight_hh_l0.copy_(recur.weight)
        peer.bias_hh_l0.zero_()
    x = torch.randn(T, B, 7, generator=torch.Generator().manual_seed(0))
    got, expected = layer(x), peer(x)[0]
    torch.testing.assert_close(got, expected)
    got.square().sum().backward()
    expected.square().sum().backward()
    assert feed.weight.grad is not None
    torch.testing.assert_close(feed.weight.grad, peer.weight_ih_l0.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(recur.weight.grad, peer.weight_hh_l0.grad, rtol=1e-4, atol=1e-5)


def hand_convolved(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(C, H, W) by (D, C, 3, 3) with zeros around, pixel by pixel."""
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(weight), height, width))
    for row in range(height):
        for column in range(width):
            patch = padded[:, row : row + 3, column : column + 3]
            out[:, row, column] = (weight * patch).sum(axis=(1, 2, 3))
    return out


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_conv_lstm_against_one_convolution_over_input_and_hidden_written_out() -> None:
    feed, recur = nn.Conv2d(2, 12, 3, padding=1), nn.Conv2d(3, 12, 3, padding=1, bias=False)
    layer = LstmLayer(feed, recur)
    x = torch.randn(4, 1, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    assert feed.bias is not None
    joint = torch.cat([feed.weight, recur.weight], dim=1).detach().double().numpy()
    bias = feed.bias.detach().double().numpy()[:, None, None]
    hidden = cell = np.zeros((3, 5, 4))
    got = layer(x).detach()
    for step in range(4):
        gates = hand_convolved(np.concatenate([x[step, 0].double().numpy(), hidden]), joint) + bias
        into, forget, new, out = gates[:3], gates[3:6], gates[6:9], gates[9:]
        cell = sigmoid(forget) * cell + sigmoid(into) * np.tanh(new)
        hidden = sigmoid(out) * np.tanh(cell)
        np.testing.assert_allclose(got[step, 0].numpy(), hidden, atol=1e-5)


def test_conv_rnn_against_one_convolution_over_input_and_hidden_written_out() -> None:
    feed, recur = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1, bias=False)
    x = torch.randn(3, 1, 2, 4, 5, generator=torch.Generator().manual_seed(1))
    assert feed.bias is not None
    joint = torch.cat([feed.weight, recur.weight], dim=1).detach().double().numpy()
    bias = feed.bias.detach().double().numpy()[:, None, None]
    hidden = np.zeros((3, 4, 5))
    got = RnnLayer(feed, recur)(x).detach()
    for step in range(3):
        hidden = np.tanh(hand_convolved(np.concatenate([x[step, 0].double().numpy(), hidden]), joint) + bias)
        np.testing.assert_allclose(got[step, 0].numpy(), hidden, atol=1e-5)


def test_time_runs_over_steps_and_never_over_the_batch() -> None:
    x = torch.randn(T, B, 7, generator=torch.Generator().manual_seed(3))
    layers: list[nn.Module] = [
        RnnLayer(nn.Linear(7, 6), nn.Linear(6, 6, bias=False)),
        LstmLayer(nn.Linear(7, 24), nn.Linear(6, 24, bias=False)),
        MemorylessLayer(nn.Linear(7, 6)),
    ]
    for layer in layers:
        together = layer(x)
        for sample in range(B):
            torch.testing.assert_close(together[:, sample], layer(x[:, sample : sample + 1])[:, 0])
    last_step_changed = x.clone()
    last_step_changed[-1] += 1
    for layer in layers:
        assert torch.equal(layer(x)[:-1], layer(last_step_changed)[:-1])
    memoryless = layers[2]
    first_step_changed = x.clone()
    first_step_changed[0] += 1
    assert torch.equal(memoryless(x)[1:], memoryless(first_step_changed)[1:])

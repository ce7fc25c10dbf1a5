"""Feed-forward networks against their formulas written out."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.feedforward import FeedForward, GatedFeedForward, gelu_tanh, in_float32
from torch import nn


@pytest.mark.parametrize("sub_norm", [False, True])
def test_plain(sub_norm: bool) -> None:
    torch.manual_seed(0)
    network = FeedForward(8, 20, sub_norm=sub_norm).double()
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    hidden = x @ network.up.weight.T + network.up.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    if sub_norm:
        torch.nn.init.normal_(network.norm.weight)
        torch.nn.init.normal_(network.norm.bias)
        centred = hidden - hidden.mean(-1, keepdim=True)
        hidden = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        hidden = hidden * network.norm.weight + network.norm.bias
    expected = hidden @ network.down.weight.T + network.down.bias
    torch.testing.assert_close(network(x), expected, atol=1e-12, rtol=0)


def test_gated() -> None:
    torch.manual_seed(0)
    network = GatedFeedForward(8, 20).double()
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    expected = (gelu_tanh(x @ network.gate.weight.T) * (x @ network.up.weight.T)) @ network.down.weight.T
    torch.testing.assert_close(network(x), expected, atol=1e-12, rtol=0)
    assert all(name.endswith("weight") for name, _ in network.named_parameters())


def test_gelu_tanh_formula() -> None:
    x = torch.linspace(-5, 5, 41, dtype=torch.float64)
    expected = 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
    torch.testing.assert_close(gelu_tanh(x), expected, atol=1e-12, rtol=0)


def test_bias_and_activation_are_arguments() -> None:
    assert all("bias" not in name for name, _ in FeedForward(4, 8, bias=False).named_parameters())
    assert any("bias" in name for name, _ in GatedFeedForward(4, 8, bias=True).named_parameters())
    network = FeedForward(4, 8, activation=torch.relu)
    torch.testing.assert_close(network(torch.zeros(4)), network.down(network.up.bias.relu()))


def test_activation_in_float32() -> None:
    x = torch.linspace(-3, 3, 101).bfloat16()
    wide = in_float32(nn.functional.gelu)(x)
    assert wide.dtype == torch.bfloat16
    assert torch.equal(wide, nn.functional.gelu(x.float()).bfloat16())
    assert in_float32(nn.functional.gelu)(x.double()).dtype == torch.float64


@pytest.mark.parametrize("layer", [FeedForward, GatedFeedForward])
def test_dropouts_act_in_training_only(layer) -> None:
    torch.manual_seed(0)
    plain, dropping = layer(6, 50), layer(6, 50, dropout=0.5, activation_dropout=0.5)
    dropping.load_state_dict(plain.state_dict())
    x = torch.randn(200, 6)
    assert torch.equal(dropping.eval()(x), plain(x))
    out = dropping.train()(x)
    assert 0.4 < (out == 0).float().mean() < 0.6
    assert not torch.equal(out[out != 0], 2 * plain(x)[out != 0])  # inner units were dropped as well

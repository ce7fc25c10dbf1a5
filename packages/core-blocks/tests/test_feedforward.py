"""Feed-forward networks against their formulas written out."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.feedforward import FeedForward, GatedFeedForward, gelu_tanh


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

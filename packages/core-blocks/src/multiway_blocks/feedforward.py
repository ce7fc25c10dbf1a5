"""Position-wise feed-forward networks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from multiway_blocks.linear import Linear

Activation = Callable[[Tensor], Tensor]


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in its tanh approximation (Hendrycks & Gimpel 2016), which Pix2Struct's weights were trained with."""
    return nn.functional.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """``x sigmoid(1.702 x)``, the approximation of GELU that CLIP's weights were trained with (Radford et al. 2021)."""
    return x * (1.702 * x).sigmoid()


def in_float32(activation: Activation) -> Activation:
    """The activation computed in float32 at least, whatever the dtype of its input; the result has that dtype again."""

    def wide(x: Tensor) -> Tensor:
        return activation(x.to(torch.promote_types(x.dtype, torch.float32))).to(x.dtype)

    return wide


class FeedForward(nn.Module):
    """``down(norm(activation(up(x))))``; the inner LayerNorm is Magneto's sub-LN (Wang et al. 2022, section 2).

    While training, ``activation_dropout`` acts behind the activation and ``dropout`` on the result.
    """

    def __init__(
        self,
        hidden_size: int,
        inner_size: int,
        *,
        activation: Activation = nn.functional.gelu,
        sub_norm: bool = False,
        eps: float = 1e-5,
        bias: bool = True,
        dropout: float = 0.0,
        activation_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.up = Linear(hidden_size, inner_size, bias=bias)
        self.norm = nn.LayerNorm(inner_size, eps=eps) if sub_norm else nn.Identity()
        self.down = Linear(inner_size, hidden_size, bias=bias)
        self.activation = activation
        self.dropout, self.activation_dropout = nn.Dropout(dropout), nn.Dropout(activation_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden_size) -> (..., hidden_size)."""
        inner = self.activation_dropout(self.activation(self.up(x)))
        return self.dropout(self.down(self.norm(inner)))


class GatedFeedForward(nn.Module):
    """``down(activation(gate(x)) * up(x))`` (Shazeer 2020, "GLU variants"); dropouts as in :class:`FeedForward`."""

    def __init__(
        self,
        hidden_size: int,
        inner_size: int,
        *,
        activation: Activation = gelu_tanh,
        bias: bool = False,
        dropout: float = 0.0,
        activation_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.gate = Linear(hidden_size, inner_size, bias=bias)
        self.up = Linear(hidden_size, inner_size, bias=bias)
        self.down = Linear(inner_size, hidden_size, bias=bias)
        self.activation = activation
        self.dropout, self.activation_dropout = nn.Dropout(dropout), nn.Dropout(activation_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden_size) -> (..., hidden_size)."""
        inner = self.activation_dropout(self.activation(self.gate(x)) * self.up(x))
        return self.dropout(self.down(inner))

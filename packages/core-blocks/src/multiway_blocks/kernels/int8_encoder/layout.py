"""What a text encoder of one byte a weight consists of: codes, scales, and the order in which the kernel takes them.

Shape legend: V vocabulary, E hidden size, O outputs, I inputs. A weight is a code from -127 to 127 times its output's
(of an embedding: its token's) scale. A row of activations is rounded to 8 bits between its smallest and its largest
number: activations lean to one side, so that half of a symmetric range would stay empty.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST = 1e-30  # scale of an output without weights, range of a row of equal numbers
PANEL = 64
ACTIVATIONS = ("gelu", "gelu_tanh", "relu")
_LEVELS = 127


@dataclass(frozen=True)
class Linear:
    """``x W^T + b`` with W = codes scale: int8 (O, I), float32 (O,) and float32 (O,)."""

    codes: Tensor
    scale: Tensor
    bias: Tensor

    def packed(self) -> list[Tensor]:
        """Codes in panels of 64 outputs, (O / 64, I / 4, 64, 4), and (3, O): scale, scale times sum of codes, bias."""
        outputs, inputs = self.codes.shape
        codes = torch.nn.functional.pad(self.codes, (0, -inputs % 4, 0, -outputs % PANEL))
        codes = codes.unflatten(1, (-1, 4)).unflatten(0, (-1, PANEL)).transpose(1, 2).contiguous()
        affine = torch.stack([self.scale, self.scale * self.codes.sum(1), self.bias])
        return [codes, torch.nn.functional.pad(affine, (0, -outputs % PANEL))]


@dataclass(frozen=True)
class Layer:
    """A post-LN layer. ``query_key_value``: (3E, E); norms: (2, E), weights and biases."""

    query_key_value: Linear
    output: Linear
    attention_norm: Tensor
    up: Linear
    down: Linear
    feedforward_norm: Tensor

    def packed(self) -> list[Tensor]:
        """Ten tensors."""
        attention = [*self.query_key_value.packed(), *self.output.packed(), self.attention_norm]
        return [*attention, *self.up.packed(), *self.down.packed(), self.feedforward_norm]


@dataclass(frozen=True)
class Embedding:
    """int8 (V, E), (V,), (longest text, E) with the type of all tokens added, and (2, E)."""

    codes: Tensor
    scale: Tensor
    positions: Tensor
    norm: Tensor


def quantize(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """(codes int8 (O, I), scale float32 (O,)): scale max|w| / 127 of each row, halves rounded to even."""
    wide = weight_OI.float()
    scale_O = wide.abs().amax(-1).clamp(min=SMALLEST) / _LEVELS
    return (wide / scale_O[:, None]).round().clamp(-_LEVELS, _LEVELS).to(torch.int8), scale_O


def dequantize(codes: Tensor, scale: Tensor) -> Tensor:
    """Codes (..., I) and scale (...) -> float32 (..., I)."""
    return codes.float() * scale[..., None]


def pack(embedding: Embedding, layers: list[Layer]) -> list[Tensor]:
    """All tensors of a network in the kernel's order: four, and ten a layer."""
    first = [embedding.codes, embedding.scale, embedding.positions, embedding.norm]
    return [tensor.contiguous() for tensor in (*first, *(t for layer in layers for t in layer.packed()))]

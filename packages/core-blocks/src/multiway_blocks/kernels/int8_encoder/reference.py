"""The encoder in plain PyTorch: the definition that all implementations meet.

Shape legend: N tokens of all texts, T tokens of a text, E hidden size, O outputs, I inputs, H heads, D head size. Sums
of products of integers are exact; everything else is float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from multiway_blocks.kernels.int8_encoder.layout import SMALLEST, dequantize
from multiway_blocks.kernels.integer_product import integer_product


def forward(
    tokens_N: Tensor, starts: Tensor, weights: Sequence[Tensor], num_heads: int, eps: float, activation: str
) -> Tensor:
    """Hidden states of the last layer, float32 (N, E)."""
    codes_VE, scale_V, positions_TE, norm_2E = weights[:4]
    ends = starts.tolist()
    texts = [slice(start, end) for start, end in pairwise(ends)]
    place_N = torch.cat([torch.arange(text.stop - text.start, device=tokens_N.device) for text in texts])
    x_NE = dequantize(codes_VE[tokens_N], scale_V[tokens_N]) + positions_TE[place_N]
    x_NE = _norm(x_NE, norm_2E, eps)
    width = x_NE.shape[1]
    for first in range(4, len(weights), 10):
        qkv, qkv_affine, out, out_affine, norm, up, up_affine, down, down_affine, last_norm = weights[
            first : first + 10
        ]
        states = linear(x_NE, qkv, qkv_affine)[:, : 3 * width].unflatten(1, (3, num_heads, -1))
        mixed_NE = torch.cat([_attend(states[text]) for text in texts])
        x_NE = _norm(x_NE + linear(mixed_NE, out, out_affine)[:, :width], norm, eps)
        inner = _activate(linear(x_NE, up, up_affine), activation)[:, : down.shape[1] * 4]
        x_NE = _norm(x_NE + linear(inner, down, down_affine)[:, :width], last_norm, eps)
    return x_NE


def linear(x_NI: Tensor, codes: Tensor, affine: Tensor) -> Tensor:
    """``x W^T + b`` of rows rounded to 8 bits and packed weights: float32 (N, outputs filled up to whole panels)."""
    low_N1, high_N1 = x_NI.aminmax(dim=-1, keepdim=True)
    range_N1 = (high_N1 - low_N1).clamp(min=SMALLEST)
    rows_NI = ((x_NI - low_N1) * (range_N1.new_full((), 255) / range_N1)).round()
    weight_OI = codes.transpose(1, 2).flatten(2).flatten(0, 1)
    rows_NI = nn.functional.pad(rows_NI, (0, weight_OI.shape[1] - x_NI.shape[1]))
    scale_O, total_O, bias_O = affine
    return _sums(rows_NI, weight_OI) * (range_N1 / 255 * scale_O) + (low_N1 * total_O + bias_O)


def _sums(rows_NI: Tensor, weight_OI: Tensor) -> Tensor:
    """float32 sums of products of rows from 0 to 255 and int8 weights, exact until they are rounded to float32."""
    signed_NO = integer_product((rows_NI - 128).to(torch.int8), weight_OI)
    return (signed_NO + 128 * weight_OI.sum(1, dtype=torch.int32)).float()


def _attend(states_T3HD: Tensor) -> Tensor:
    """Queries, keys and values of one text -> (T, E)."""
    query, key, value = (part.transpose(0, 1) for part in states_T3HD.unbind(1))
    return nn.functional.scaled_dot_product_attention(query, key, value).transpose(0, 1).flatten(1)


def _activate(x: Tensor, activation: str) -> Tensor:
    if activation == "relu":
        return x.relu()
    return nn.functional.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


def _norm(x_NE: Tensor, norm_2E: Tensor, eps: float) -> Tensor:
    return nn.functional.layer_norm(x_NE, x_NE.shape[1:], norm_2E[0], norm_2E[1], eps)

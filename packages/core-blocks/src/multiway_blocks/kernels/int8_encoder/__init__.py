"""A whole BERT-like text encoder in int8, over texts without padding: to embed many texts on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from multiway_core.errors import InputError
from torch import Tensor

from multiway_blocks.kernels.arguments import describe
from multiway_blocks.kernels.dispatch import USE_REFERENCE
from multiway_blocks.kernels.int8_encoder import operators, reference
from multiway_blocks.kernels.int8_encoder.layout import ACTIVATIONS

__all__ = ["int8_encoder"]


def int8_encoder(
    tokens_N: Tensor,
    starts: Tensor,
    weights: Sequence[Tensor],
    *,
    num_heads: int,
    eps: float,
    activation: str = "gelu",
) -> Tensor:
    """Hidden states of the last layer (post-LN: Devlin et al. 2019), of products of 8-bit integers. No derivatives.

    A text's result depends on nothing else in the batch, nor on the number of threads.

    Args:
        tokens_N: int64, the texts one behind the other. starts: int64, where each text starts in them, and their end.
        weights: as `layout.pack` gives them. eps: of every norm. activation: one of `layout.ACTIVATIONS`.

    Returns:
        float32 (N, E).

    Raises:
        InputError: shapes, data types or devices do not fit; a token is outside the vocabulary; a text is empty, or
            longer than the position table.
    """
    if len(weights) < 14 or len(weights) % 10 != 4:
        raise InputError(f"int8_encoder: {len(weights)} weights, expected 4 and 10 a layer")
    codes_VE, _, positions_TE, _ = weights[:4]
    width = codes_VE.shape[1]
    for name, tensor in (("tokens", tokens_N), ("starts", starts)):
        if tensor.ndim != 1 or tensor.dtype != torch.int64 or tensor.device != codes_VE.device:
            raise InputError(
                f"int8_encoder: {name} is {describe(tensor)}, "
                f"expected int64 in one dimension on {codes_VE.device}"
            )
    if activation not in ACTIVATIONS or width % num_heads:
        raise InputError(f"int8_encoder: {num_heads} heads of {width} with {activation!r} is not supported")
    if len(starts) == 0 or starts[0] != 0 or starts[-1] != len(tokens_N):
        raise InputError(f"int8_encoder: starts go from 0 to the number of tokens, {len(tokens_N)}")
    if len(tokens_N) == 0:
        return positions_TE.new_empty(0, width)
    lengths = starts.diff()
    if lengths.min() < 1 or lengths.max() > len(positions_TE):
        raise InputError(
            f"int8_encoder: texts have {int(lengths.min())} to {int(lengths.max())} tokens, expected 1 to "
            f"{len(positions_TE)}"
        )
    if tokens_N.min() < 0 or tokens_N.max() >= len(codes_VE):
        raise InputError(f"int8_encoder: tokens are 0 to {len(codes_VE) - 1}")
    run = reference.forward if USE_REFERENCE else operators.int8_encoder
    return run(tokens_N, starts, list(weights), num_heads, eps, activation)

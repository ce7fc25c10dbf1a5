"""Dilated attention (LongNet, arXiv 2307.02486): flash attention over every r-th token of segments, branches joined."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from multiway_core.errors import InputError
from torch import Tensor

from multiway_blocks.kernels.arguments import describe
from multiway_blocks.kernels.dilated_attention import operators, reference
from multiway_blocks.kernels.dispatch import USE_REFERENCE

__all__ = ["dilated_attention", "has_kernel"]


def dilated_attention(
    query: Tensor, key: Tensor, value: Tensor, branches: Sequence[tuple[int, int]], *, causal: bool = False
) -> Tensor:
    """Attention within segments, over every r-th token of them, joined over several (segment length, r).

    A branch ``(w, r)`` cuts the tokens into segments of ``w``; head ``h`` keeps the tokens ``o, o + r, o + 2 r, ...``
    of each, ``o = h // ceil(H / r)``. All branches together are one softmax over the keys seen. What fills the last
    segment is not seen (`strict` of `multiway_blocks.dilated.dilated_attend` is not offered here). There are no
    derivatives.

    Args:
        query, key, value: (B, H, N, D), floating point, of one data type.
        branches: (segment length, dilation) each; one of them needs dilation 1, or tokens would be left out.
        causal: a token sees only the kept tokens of its segment up to itself.

    Returns:
        (B, H, N, D) in the data type of `query`.

    Raises:
        InputError: shapes, data types or devices do not fit, or branches leave tokens out.
    """
    if query.ndim != 4 or not query.is_floating_point():
        raise InputError(
            f"dilated_attention: query is {describe(query)}, expected floating point (B, H, N, D)"
        )
    for name, tensor in (("key", key), ("value", value)):
        if (tensor.shape, tensor.dtype, tensor.device) != (query.shape, query.dtype, query.device):
            raise InputError(
                f"dilated_attention: {name} is {describe(tensor)}, expected that of the query, {describe(query)}"
            )
    if any(length < 1 or dilation < 1 for length, dilation in branches):
        raise InputError(f"dilated_attention: lengths and dilations must be at least 1, got {list(branches)}")
    if all(dilation != 1 for _, dilation in branches):
        raise InputError(f"dilated_attention: one branch needs dilation 1, got {list(branches)}")
    if USE_REFERENCE:
        return reference.forward(query, key, value, branches, causal)
    lengths, dilations = (list(sizes) for sizes in zip(*branches, strict=True))
    mixed: Tensor = operators.dilated_attention(query, key, value, lengths, dilations, causal)
    return mixed


def has_kernel(query: Tensor) -> bool:
    """Whether machine code takes such queries here and now, where no gradient is asked for."""
    return not USE_REFERENCE and not torch.is_grad_enabled() and operators.has_kernel(query)

"""Retention with a log-decay of each token and head: chunks of tokens behind a state, or a decoding step."""

from __future__ import annotations

import torch
from multiway_core.errors import InputError
from torch import Tensor

from multiway_blocks.kernels.arguments import check, describe
from multiway_blocks.kernels.dispatch import USE_REFERENCE
from multiway_blocks.kernels.gated_retention import operators, reference

__all__ = ["gated_retention"]


def gated_retention(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor | None = None, *, chunk: int = 128
) -> tuple[Tensor, Tensor]:
    """``S_n = exp(a_n) S_{n-1} + k_n^T v_n, o_n = q_n S_n`` over tokens behind a state.

    There are first derivatives only, unless `MULTIWAY_KERNELS=reference` is set; the backward pass computes states
    again.

    Args:
        q, k: (B, H, T, K), floating point.
        v: (B, H, T, V) of the same data type.
        log_decay: (B, H, T), floating point, at most 0.
        state: (B, H, K, V) in float32 (float64 for float64 input), or None for an empty one.
        chunk: tokens that are computed at once on a CPU; results differ by rounding only.

    Returns:
        o (B, H, T, V) and the next state (B, H, K, V), in float32 (float64).

    Raises:
        InputError: shapes, data types or devices do not fit.
    """
    if q.ndim != 4 or not q.is_floating_point():
        raise InputError(f"gated_retention: q is {describe(q)}, expected floating point (B, H, T, K)")
    B, H, T, K = q.shape
    check("gated_retention", "k", k, q, (B, H, T, K), q.dtype)
    check("gated_retention", "v", v, q, (B, H, T, v.shape[-1] if v.ndim else 0), q.dtype)
    check("gated_retention", "log_decay", log_decay, q, (B, H, T), None)
    wide = torch.promote_types(q.dtype, torch.float32)
    if state is None:
        state = q.new_zeros(B, H, K, v.shape[-1], dtype=wide)
    check("gated_retention", "state", state, q, (B, H, K, v.shape[-1]), wide)
    if chunk < 1:
        raise InputError(f"gated_retention: chunk is {chunk}, expected at least 1")
    if USE_REFERENCE:
        return reference.chunkwise(q, k, v, log_decay, state, chunk=chunk)
    o, state = operators.gated_retention(q, k, v, log_decay, state, chunk)
    return o, state

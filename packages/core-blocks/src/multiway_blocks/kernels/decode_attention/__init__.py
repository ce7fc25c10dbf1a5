"""Attention of one query a row over cached keys and values: what a decoding step does beside its products."""

from __future__ import annotations

import torch
from multiway_core.errors import InputError
from torch import Tensor

from multiway_blocks.kernels.arguments import check, describe
from multiway_blocks.kernels.decode_attention import operators, reference
from multiway_blocks.kernels.dispatch import USE_REFERENCE

__all__ = ["decode_attention"]


def decode_attention(
    query_BHD: Tensor,
    key_BKSD: Tensor,
    value_BKSD: Tensor,
    visible_BS: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """``softmax(q k^T * scale) v`` for one query in each row: (B, H, D), contiguous.

    Sums are in float32 (float64 for float64 input), rounded once at the end. A row without a visible key gives zeros.
    On a CPU a row's result depends neither on its batch mates, nor on invisible keys before its first visible one, nor
    on the number of threads. There are no derivatives (training has more queries than one);
    `MULTIWAY_KERNELS=reference` has them.

    Args:
        query_BHD: floating point, H query heads.
        key_BKSD, value_BKSD: of the same data type, any strides (a view of the cache); K divides H, and query head
            `h` uses key-value head `h // (H / K)`.
        visible_BS: bool, False for keys that are padding, or None where all are visible.
        scale: 1 / sqrt(D) by default.

    Raises:
        InputError: shapes, data types or devices do not fit.
    """
    if query_BHD.ndim != 3 or not query_BHD.is_floating_point() or 0 in query_BHD.shape[1:]:
        raise InputError(
            f"decode_attention: query is {describe(query_BHD)}, expected floating point (B, H, D)"
        )
    B, H, D = query_BHD.shape
    shape = (B, key_BKSD.shape[1], key_BKSD.shape[2], D) if key_BKSD.ndim == 4 else None
    for name, tensor in (("key", key_BKSD), ("value", value_BKSD)):
        if tensor.shape != shape or H % max(1, shape[1]) or not shape[1] or not _alike(tensor, query_BHD):
            expected = f"{query_BHD.dtype} ({B}, K, S, {D}) on {query_BHD.device}, K a divisor of {H}"
            raise InputError(f"decode_attention: {name} is {describe(tensor)}, expected {expected}")
    if visible_BS is not None:
        check("decode_attention", "visible", visible_BS, query_BHD, (B, key_BKSD.shape[2]), torch.bool)
    function = reference.forward if USE_REFERENCE else operators.decode_attention
    return function(query_BHD, key_BKSD, value_BKSD, visible_BS, D**-0.5 if scale is None else scale)


def _alike(tensor: Tensor, query: Tensor) -> bool:
    return tensor.dtype == query.dtype and tensor.device == query.device

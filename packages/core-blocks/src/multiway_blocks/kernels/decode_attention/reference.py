"""Attention of one query in plain PyTorch: the definition that all implementations meet.

Shape legend: B rows, H query heads, K key-value heads, S keys, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor


def forward(
    query_BHD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, visible_BS: Tensor | None, scale: float
) -> Tensor:
    """``softmax(q k^T * scale) v`` (B, H, D), in float32 or float64, rounded once; zeros where nothing is visible."""
    B, H, D = query_BHD.shape
    wide = torch.promote_types(query_BHD.dtype, torch.float32)
    key_BKSD, value_BKSD = key_BKSD.to(wide), value_BKSD.to(wide)
    K = key_BKSD.shape[1]
    query_BKGD = query_BHD.to(wide).reshape(B, K, H // K, D)  # G query heads share a key-value head
    scores_BKGS = query_BKGD @ key_BKSD.transpose(-1, -2) * scale
    if visible_BS is not None:
        scores_BKGS = scores_BKGS.masked_fill(~visible_BS[:, None, None, :], float("-inf"))
    weights_BKGS = scores_BKGS.softmax(dim=-1)
    if visible_BS is not None:
        weights_BKGS = weights_BKGS.masked_fill(~visible_BS.any(dim=1)[:, None, None, None], 0.0)
    return (weights_BKGS @ value_BKSD).view(B, H, D).to(query_BHD.dtype)

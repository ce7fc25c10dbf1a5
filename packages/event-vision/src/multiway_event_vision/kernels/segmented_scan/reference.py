"""The segmented gated scan in plain PyTorch: h_t = g_t ⊙ h_{t-1} + u_t, restarted at every segment.

All segments advance together, one row each a step: segments are sorted by length, so step t touches the first ones
only, and a scan takes as many steps as the longest segment has rows. This is the definition, and what runs where there
is no kernel. Log-space products or doubling would be shorter, but a product of gates underflows.

Legend: R rows, S segments, D features. `offsets` [S + 1] are the bounds of the segments, int64, from 0 to R.
"""

from __future__ import annotations

import torch
from torch import Tensor


def forward(u_RD: Tensor, g_RD: Tensor, offsets: Tensor, initial_SD: Tensor) -> Tensor:
    """h_RD; `initial_SD` is h before the first row of each segment. float16 and bfloat16 carry h in float32."""
    h_RD = torch.empty_like(u_RD)
    wide = torch.promote_types(u_RD.dtype, torch.float32)
    order, starts, counts = _schedule(offsets)
    carry_SD = initial_SD[order].to(wide)
    for step, count in enumerate(counts):
        rows = starts[:count] + step
        carry_SD = g_RD[rows].to(wide) * carry_SD[:count] + u_RD[rows].to(wide)
        h_RD[rows] = carry_SD.to(h_RD.dtype)
    return h_RD


def backward(
    grad_h_RD: Tensor, g_RD: Tensor, h_RD: Tensor, offsets: Tensor, initial_SD: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(grad_u_RD, grad_g_RD, grad_initial_SD) by the reversed scan: with c the gradient that arrives from row t+1,

    a_t = grad_h_t + c;   grad_u_t = a_t;   grad_g_t = a_t ⊙ h_{t-1};   c = a_t ⊙ g_t;   grad_initial = the last c.
    """
    wide = torch.promote_types(h_RD.dtype, torch.float32)
    grad_u_RD, grad_g_RD = torch.empty_like(h_RD), torch.empty_like(h_RD)
    order, starts, counts = _schedule(offsets)
    carry_SD = torch.zeros_like(initial_SD, dtype=wide)
    for step, count in reversed(list(enumerate(counts))):
        rows = starts[:count] + step
        before = initial_SD[order[:count]] if step == 0 else h_RD[rows - 1]
        total = grad_h_RD[rows].to(wide) + carry_SD[:count]
        grad_u_RD[rows] = total.to(h_RD.dtype)
        grad_g_RD[rows] = (total * before.to(wide)).to(h_RD.dtype)
        carry_SD[:count] = total * g_RD[rows].to(wide)
    grad_initial_SD = torch.empty_like(initial_SD)
    grad_initial_SD[order] = carry_SD.to(initial_SD.dtype)
    return grad_u_RD, grad_g_RD, grad_initial_SD


def _schedule(offsets: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """Segments from long to short, their first rows, and how many of them have a row t, for t = 0, 1, ..."""
    lengths = offsets.diff()
    order = lengths.argsort(descending=True, stable=True)
    by_length = lengths.bincount()
    counts = by_length.flip(0).cumsum(0).flip(0)[1:]  # segments of at least 1, 2, ... rows
    return order, offsets[:-1][order], counts.tolist()

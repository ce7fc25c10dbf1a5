"""Temporal dropout: of a cell's events one in `window` goes on. Nothing is random, in training or after it.

Legend: N events, P cells.
"""

from __future__ import annotations

import torch
from torch import Tensor


def keep_from_start(cell_N: Tensor, window: int, count_P: Tensor) -> tuple[Tensor, Tensor]:
    """(which events go on, bool [N]; new counts): those whose number in their cell is a multiple of `window`.

    `count_P` int64 are the cells' events so far. Causal: what comes later decides nothing.
    """
    ordinal_N, _ = _ordinals(cell_N)
    number_N = count_P[cell_N] + ordinal_N
    return number_N % window == 0, count_P + cell_N.bincount(minlength=len(count_P))


def keep_from_end(cell_N: Tensor, window: int) -> Tensor:
    """Which events go on, bool [N], counted from each cell's last one, which always does (the released code)."""
    ordinal_N, length_N = _ordinals(cell_N)
    return (length_N - 1 - ordinal_N) % window == 0


def _ordinals(cell_N: Tensor) -> tuple[Tensor, Tensor]:
    """Of each event: how many of its cell came before it, and how many the cell has."""
    order = cell_N.argsort(stable=True)
    _, counts = torch.unique_consecutive(cell_N[order], return_counts=True)
    starts = counts.cumsum(0) - counts
    ordinal_N, length_N = torch.empty_like(cell_N), torch.empty_like(cell_N)
    ordinal_N[order] = torch.arange(len(cell_N), device=cell_N.device) - starts.repeat_interleave(counts)
    length_N[order] = counts.repeat_interleave(counts)
    return ordinal_N, length_N

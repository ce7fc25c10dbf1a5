"""Gated elementwise recurrence over segments of rows: h_t = g_t ⊙ h_{t-1} + u_t (SSLA's state update)."""

from __future__ import annotations

import torch
from multiway_blocks.kernels.arguments import check, describe
from multiway_blocks.kernels.dispatch import USE_REFERENCE
from multiway_core.errors import InputError
from torch import Tensor

from multiway_event_vision.kernels.segmented_scan import operators, reference

__all__ = ["segmented_scan"]


def segmented_scan(u_RD: Tensor, g_RD: Tensor, offsets: Tensor, initial_SD: Tensor | None = None) -> Tensor:
    """h of every row: within a segment h_t = g_t ⊙ h_{t-1} + u_t, before its first row h is `initial_SD` (or 0).

    First derivatives with respect to u, g and initial; second ones with `MULTIWAY_KERNELS=reference` only.

    Args:
        u_RD, g_RD: (R, D), floating point, of one data type; the rows of a segment lie together, in order.
        offsets: (S + 1,) int64, ascending from 0 to R: segment s has the rows offsets[s] to offsets[s + 1] - 1.
            A segment may be empty.
        initial_SD: (S, D) of the same data type, or None.

    Returns:
        (R, D) in the data type of u.

    Raises:
        InputError: shapes, data types or devices do not fit, or offsets do not ascend from 0 to R.
    """
    if u_RD.ndim != 2 or not u_RD.is_floating_point():
        raise InputError(f"segmented_scan: u is {describe(u_RD)}, expected floating point (R, D)")
    check("segmented_scan", "g", g_RD, u_RD, u_RD.shape, u_RD.dtype)
    if offsets.ndim != 1 or len(offsets) < 1 or offsets.dtype != torch.int64 or offsets.device != u_RD.device:
        raise InputError(
            f"segmented_scan: offsets is {describe(offsets)}, expected torch.int64 (S + 1,) on {u_RD.device}"
        )
    # Beyond this point a wrong bound is a wrong memory access. On a GPU the check would wait for the device.
    if offsets.is_cpu and not torch.compiler.is_compiling():
        ends = int(offsets[0]), int(offsets[-1])
        if ends != (0, len(u_RD)) or bool((offsets.diff() < 0).any()):
            raise InputError(f"segmented_scan: offsets must ascend from 0 to {len(u_RD)}, the number of rows")
    S = len(offsets) - 1
    if initial_SD is None:
        initial_SD = u_RD.new_zeros(S, u_RD.shape[1])
    check("segmented_scan", "initial", initial_SD, u_RD, (S, u_RD.shape[1]), u_RD.dtype)
    if USE_REFERENCE:
        return reference.forward(u_RD, g_RD, offsets, initial_SD)
    return operators.segmented_scan(u_RD, g_RD, offsets, initial_SD)

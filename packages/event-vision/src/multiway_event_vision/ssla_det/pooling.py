"""Pooling: a cell is 2 x 2 pixels, and an event moves to its cell. It is no maximum over the pixels' features.

Only with `merge_ties`, as in the released code, are events of one cell and microsecond merged by the maximum.

Legend: N events, M events that are left, C features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from multiway_event_vision.ssla_det.spaces import Place


def pool(place: Place) -> Place:
    """The events' cells; odd frames are padded at the bottom and on the right."""
    height, width = (place.height + 1) // 2, (place.width + 1) // 2
    return Place(place.stream_N, place.y_N // 2, place.x_N // 2, height, width)


def merge_ties(x_NC: Tensor, t_N: Tensor, place: Place) -> tuple[Tensor, Tensor, Tensor]:
    """(x_MC, t_M, one event's index_M of each) with events of one cell and time merged by the maximum.

    The result is in canonical order of the cells: by stream, time and cell.
    """
    key = torch.stack([place.stream_N, t_N, place.cell_N])
    unique, group_N = torch.unique(key, dim=1, sorted=True, return_inverse=True)
    M = unique.shape[1]
    x_MC = x_NC.new_zeros(M, x_NC.shape[1]).scatter_reduce(
        0, group_N[:, None].expand_as(x_NC), x_NC, "amax", include_self=False
    )
    index_M = torch.empty(M, dtype=torch.int64, device=x_NC.device)
    index_M[group_N] = torch.arange(len(group_N), device=x_NC.device)  # any of a group has its cell and time
    return x_MC, unique[1], index_M

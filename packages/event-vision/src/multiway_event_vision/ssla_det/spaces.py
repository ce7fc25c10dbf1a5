"""Which spaces an event touches: the scatter of scatter-compute-gather, as indices.

A level's frame has one space for each of its pixels, k x k pixels wide and centred there, so spaces overlap and an
event belongs to those of the K = k² spaces around its pixel that lie inside the frame. Its position in a space is that
of its pixel inside the space, row by row: position (i, j) belongs to the space centred at (y + r - i, x + r - j),
r = (k - 1) / 2.

Legend: N events, K positions, R rows (event, position) inside the frame, S touched spaces.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Routes:
    """The rows of one level in the order in which states see them: by space, and in a space by the events' order."""

    row_R: Tensor
    """int64, index of each row among all N · K (event, position) pairs."""
    offsets: Tensor
    """(S + 1,) int64, bounds of the spaces' rows."""
    space_S: Tensor
    """int64, the spaces touched, ascending."""


@dataclass(frozen=True)
class Place:
    """Where N events are at one level: stream and pixel of that level's frame."""

    stream_N: Tensor
    y_N: Tensor
    x_N: Tensor
    height: int
    width: int

    @property
    def cell_N(self) -> Tensor:
        """int64, the pixel's number over all streams."""
        return (self.stream_N * self.height + self.y_N) * self.width + self.x_N

    def __getitem__(self, index: Tensor) -> Place:
        return Place(self.stream_N[index], self.y_N[index], self.x_N[index], self.height, self.width)


def touched(place: Place, size: int) -> Tensor:
    """(N, K) int64, number of the space at each position over all streams; -1 outside of the frame."""
    offset_k = (size - 1) // 2 - torch.arange(size, device=place.y_N.device)
    y_Nk = place.y_N[:, None] + offset_k
    x_Nk = place.x_N[:, None] + offset_k
    inside_y = (y_Nk >= 0) & (y_Nk < place.height)
    inside_x = (x_Nk >= 0) & (x_Nk < place.width)
    row_Nk = (place.stream_N[:, None] * place.height + y_Nk) * place.width
    space_Nkk = row_Nk[:, :, None] + x_Nk[:, None, :]
    return space_Nkk.masked_fill(~(inside_y[:, :, None] & inside_x[:, None, :]), -1).flatten(1)


def route(place: Place, size: int) -> Routes:
    """Rows of events that are in canonical order."""
    space = touched(place, size).flatten()
    row = torch.nonzero(space >= 0).squeeze(1)
    space = space[row]
    # Numbers of spaces fit 32 bits on every sensor, and short keys sort faster.
    order = space.to(torch.int32).argsort(stable=True)
    space_S, counts = torch.unique_consecutive(space[order], return_counts=True)
    offsets = torch.zeros(len(counts) + 1, dtype=torch.int64, device=space.device)
    torch.cumsum(counts, 0, out=offsets[1:])
    return Routes(row[order], offsets, space_S)

"""Events -> what the network takes: features of each event, its place, in the one canonical order.

Canonical order: by time, then by pixel (row by row), then by arrival. It makes the result independent of how a
reader orders events of the same microsecond. All later stages keep it.

Legend: N events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from multiway_core.errors import InputError
from numpy.typing import NDArray
from torch import Tensor

from multiway_event_vision.events import Events
from multiway_event_vision.ssla_det.config import INPUT_FEATURES

Int64s = NDArray[np.int64]

NEVER: int = np.iinfo(np.int64).min
"""Time of the previous event of a pixel that had none."""
LONG_AGO_US = 100_000
"""Time since the previous event counts up to here: it maps to 1."""


@dataclass(frozen=True)
class EventArrays:
    """Checked events of one stream in canonical order: `t` int64 microseconds, `pixel` = y · width + x, `on` bool."""

    t: Int64s
    pixel: Int64s
    on: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, part: slice | NDArray[np.bool_]) -> EventArrays:
        """A stretch of the events, or those chosen by a mask."""
        return EventArrays(self.t[part], self.pixel[part], self.on[part])


@dataclass(frozen=True)
class EventBatch:
    """Events of B streams, one stream behind the other, each in canonical order."""

    x_NC: Tensor
    """(N, 2): time since the pixel's previous event in [0, 1], polarity -1 or 1."""
    t_N: Tensor
    """int64 microseconds."""
    stream_N: Tensor
    """int64, which stream of the batch."""
    pixel_N: Tensor
    """int64, y · width + x."""
    streams: int
    height: int
    width: int

    def to(self, device: torch.device) -> EventBatch:
        """The same on a device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)  # type: ignore[arg-type]


def check_events(
    t: NDArray[np.generic],
    x: NDArray[np.generic],
    y: NDArray[np.generic],
    p: NDArray[np.generic],
    *,
    height: int,
    width: int,
) -> EventArrays:
    """Check raw arrays and bring them into canonical order.

    Args:
        t: (N,) integer microseconds, non-decreasing.
        x, y: (N,) integer pixels, 0 <= x < width, 0 <= y < height.
        p: (N,) polarity: 0 or 1, -1 or 1, or bool; above 0 is "on".
        height, width: of the sensor, in pixels.

    Raises:
        InputError: lengths or types do not fit, time runs backwards, or a pixel lies outside of the sensor.
    """
    arrays = {"t": np.asarray(t), "x": np.asarray(x), "y": np.asarray(y), "p": np.asarray(p)}
    for name, array in arrays.items():
        if array.ndim != 1 or len(array) != len(arrays["t"]):
            raise InputError(
                f"events: {name} has shape {array.shape}, expected {arrays['t'].shape[:1]} like t"
            )
        if array.dtype.kind not in ("iub" if name == "p" else "iu"):
            raise InputError(f"events: {name} is {array.dtype}, expected integers")
    t_N, x_N, y_N = (arrays[name].astype(np.int64) for name in "txy")
    for name, values, size in (("x", x_N, width), ("y", y_N, height)):
        if len(values) and (values.min() < 0 or values.max() >= size):
            raise InputError(
                f"events: {name} reaches from {values.min()} to {values.max()}, expected 0 to {size - 1}"
                f" on a sensor of {width}x{height}"
            )
    steps = np.diff(t_N)
    if len(steps) and steps.min() < 0:
        at = int(np.argmax(steps < 0)) + 1
        raise InputError(f"events: time runs backwards at event {at}, from {t_N[at - 1]} to {t_N[at]} us")
    pixel_N = y_N * width + x_N
    on_N = arrays["p"] > 0
    if len(steps) and steps.min() == 0:
        order = np.lexsort((pixel_N, t_N))  # stable: the order of arrival decides last
        t_N, pixel_N, on_N = t_N[order], pixel_N[order], on_N[order]
    return EventArrays(t_N, pixel_N, on_N)


def window_of(events: Events) -> EventArrays:
    """:func:`check_events` for events in memory, as one window of :func:`batch_windows`."""
    return check_events(events.t, events.x, events.y, events.p, height=events.height, width=events.width)


def event_features(events: EventArrays, previous: Int64s) -> NDArray[np.float64]:
    """(N, 2) features; `previous` [pixels], the time of each pixel's last event or NEVER, is brought up to date.

    Feature 0: min(time since the pixel's previous event / 100 ms, 1), 1 for its first. Feature 1: polarity -1 or 1.
    """
    features = np.empty((len(events), INPUT_FEATURES))
    order = np.argsort(events.pixel, kind="stable")
    pixel, t = events.pixel[order], events.t[order]
    first = np.ones(len(pixel), bool)
    first[1:] = pixel[1:] != pixel[:-1]
    before = np.empty_like(t)
    before[1:] = t[:-1]
    before[first] = previous[pixel[first]]
    never = before == NEVER
    delta = np.where(never, LONG_AGO_US, t - np.where(never, 0, before))
    features[order, 0] = np.minimum(delta / LONG_AGO_US, 1.0)
    features[:, 1] = np.where(events.on, 1.0, -1.0)
    last = np.ones(len(pixel), bool)
    last[:-1] = first[1:]
    previous[pixel[last]] = t[last]
    return features


def batch_windows(
    windows: Sequence[EventArrays],
    *,
    height: int,
    width: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    max_per_pixel: int | None = None,
) -> EventBatch:
    """Windows of independent streams, each with a state of zero at its start, as one batch.

    `max_per_pixel` keeps only the first events of each pixel and window, after the time differences were taken: the
    released code's way with hot pixels is 50.
    """
    features, times, pixels = [], [], []
    for window in windows:
        found = event_features(window, np.full(height * width, NEVER))
        keep = slice(None) if max_per_pixel is None else _ordinals(window.pixel) < max_per_pixel
        features.append(found[keep])
        times.append(window.t[keep])
        pixels.append(window.pixel[keep])
    stream = np.repeat(np.arange(len(windows)), [len(t) for t in times])

    def join(parts: list[NDArray[np.int64]]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts) if parts else np.empty(0, np.int64)).to(device)

    x_NC = np.concatenate(features) if features else np.empty((0, INPUT_FEATURES))
    return EventBatch(
        x_NC=torch.from_numpy(x_NC).to(device, dtype),
        t_N=join(times),
        stream_N=torch.from_numpy(stream).to(device),
        pixel_N=join(pixels),
        streams=len(windows),
        height=height,
        width=width,
    )


def _ordinals(cell: Int64s) -> Int64s:
    """How many events of the same cell came before each."""
    order = np.argsort(cell, kind="stable")
    first = np.ones(len(cell), bool)
    first[1:] = cell[order][1:] != cell[order][:-1]
    starts = np.flatnonzero(first)
    ordinals = np.empty(len(cell), np.int64)
    ordinals[order] = np.arange(len(cell)) - np.repeat(starts, np.diff(np.append(starts, len(cell))))
    return ordinals

"""Labelled boxes in memory: the output of all label readers and the input of the metrics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

_TYPES = {
    "t": np.int64,
    "x": np.float32,
    "y": np.float32,
    "width": np.float32,
    "height": np.float32,
    "class_id": np.int32,
    "track_id": np.int32,
    "confidence": np.float32,
}


@dataclass(frozen=True, eq=False)
class Boxes:
    """N boxes in order of time, at most one label of an object at a time.

    t: (N,) int64 microseconds. x, y: (N,) float32, the upper left corner in pixels, which may lie off the sensor;
    width, height: (N,) float32 pixels, positive. class_id: (N,) int32. track_id: (N,) int32, -1 where unknown.
    confidence: (N,) float32, 1 for labels.
    """

    t: NDArray[np.int64]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    width: NDArray[np.float32]
    height: NDArray[np.float32]
    class_id: NDArray[np.int32]
    track_id: NDArray[np.int32]
    confidence: NDArray[np.float32]

    @classmethod
    def from_arrays(
        cls,
        t: object,
        x: object,
        y: object,
        width: object,
        height: object,
        class_id: object,
        track_id: object | None = None,
        confidence: object | None = None,
    ) -> Boxes:
        """Boxes from anything array-like, sorted by time, checked. Raises InputError as `check`."""
        count = len(np.asarray(t))
        given = {"t": t, "x": x, "y": y, "width": width, "height": height, "class_id": class_id}
        given["track_id"] = np.full(count, -1) if track_id is None else track_id
        given["confidence"] = np.ones(count) if confidence is None else confidence
        columns = {name: np.asarray(values).astype(_TYPES[name]) for name, values in given.items()}
        if any(column.shape != (count,) for column in columns.values()):
            raise InputError(f"boxes of unequal length: { {n: c.shape for n, c in columns.items()} }")
        order = np.argsort(columns["t"], kind="stable")
        boxes = cls(**{name: column[order] for name, column in columns.items()})
        boxes.check()
        return boxes

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, index: slice | NDArray) -> Boxes:
        """The boxes of a slice, an index array or a mask."""
        return Boxes(**{name: getattr(self, name)[index] for name in _TYPES})

    def between(self, start: int, end: int) -> Boxes:
        """Boxes with start <= t < end (microseconds)."""
        low, high = np.searchsorted(self.t, (start, end))
        return self[int(low) : int(high)]

    def check(self) -> None:
        """Raises InputError with the first box that breaks a promise of this class."""
        numbers_N4 = np.stack([self.x, self.y, self.width, self.height], axis=1)
        bad = ~np.isfinite(numbers_N4).all(1) | (self.width <= 0) | (self.height <= 0)
        bad |= (self.t < 0) | (self.class_id < 0)
        if bad.any():
            at = int(np.argmax(bad))
            raise InputError(
                f"box {at} at {self.t[at]} us: x {self.x[at]}, y {self.y[at]}, width {self.width[at]}, height "
                f"{self.height[at]}, class {self.class_id[at]}; expected finite numbers, a positive size and no "
                "negative time or class"
            )

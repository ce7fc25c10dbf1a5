"""Whether a stream of events is like those that a detector was trained on: statistics, not pictures.

A detector names what it knows wherever it is pointed. So a model folder has a `domain.json`: the mean and covariance of
a few statistics of its training recordings, and how far from them a recording may be (Mahalanobis distance).

Legend: W windows of a stretch, F statistics, N stretches, H W rows and columns of cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from multiway_core import config
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_event_vision.events import Events, EventStream, by_time

DOMAIN_FILE: Final = "domain.json"
WINDOW_US: Final = 50_000
STRETCH_WINDOWS: Final = 20  # a second
MIN_WINDOWS: Final = 4
MIN_STRETCHES: Final = 8  # that tell a domain
SEARCHED_STRETCHES: Final = 5  # of which the first with something in it counts
CELL: Final = 8  # pixels a side
_ACTIVE_EVENTS = 3  # of a cell in a window
_FULL, _BUSY, _MIN_BUSY = 3, 0.35, 30  # events of a pixel that count; of a busy one, blurred; busy pixels
_FLOW_EVERY, _MIN_SIDE = 3, 16  # windows; pixels of a picture that has optical flow
_LIVELY = 0.02  # share of cells that must be active now and then, or there is nothing to judge
_SIZE_FACTOR = 1.5  # pixels of the sensor may be so many times more, or fewer, than in training
_RIDGE = 0.05  # share of each variance added to it: few recordings make no trustworthy covariance
_QUANTILE, _SLACK = 0.98, 1.3  # of the distances of training recordings; what more is allowed
_RANGE = (0.02, 0.98)  # quantiles of a statistic in training between which its range is, and
_MARGIN = 0.5  # how much of that a recording may lie beyond it

FEATURES: Final = (
    "rate", "on", "active", "steady", "spread", "coherent", "ego", "repeats", "polarity", "isolated",
)  # fmt: skip
_WORDS: Final = {
    "rate": "events a pixel and second",
    "on": "share of events that are brighter",
    "active": "share of the picture where something happens",
    "steady": "share of the picture that never rests",
    "spread": "share of the picture's parts that are busy",
    "coherent": "share of the busy pixels whose motion is one",
    "ego": "share of the picture that never rests and moves in many ways, as when the camera moves",
    "repeats": "events of a pixel that sends any",
    "polarity": "agreement of neighbouring events' polarity",
    "isolated": "share of pixels that send alone, as noise does",
}
_LOGARITHMIC: Final = frozenset({"rate", "active", "repeats", "isolated"})


def statistics(windows: Sequence[Events]) -> NDArray[np.float64]:
    """(F,) statistics of `FEATURES` over windows of `WINDOW_US`; those of a logarithmic scale as logarithms."""
    active_WHW, rows = [], []
    for events in windows:
        on_HW, off_HW = _pixels(events, 1), _pixels(events, 0)
        all_HW = on_HW + off_HW
        active_WHW.append(_cells(all_HW) >= _ACTIVE_EVENTS)
        if count := len(events):
            sends_HW = all_HW > 0
            near_HW = cv2.boxFilter(
                sends_HW.astype(np.float32), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT
            )
            cell_HW, difference_HW = _cells(all_HW), np.abs(_cells(on_HW) - _cells(off_HW))
            busy_HW = cell_HW > _ACTIVE_EVENTS
            polarity = float((difference_HW[busy_HW] / cell_HW[busy_HW]).mean()) if busy_HW.any() else 0.5
            senders = int(sends_HW.sum())
            alone = int((sends_HW & (near_HW < 1.5)).sum())
            rows.append(
                (
                    count / all_HW.size / (WINDOW_US * 1e-6),
                    on_HW.sum() / count,
                    count / senders,
                    polarity,
                    alone / senders,
                )
            )
    rate, on, repeats, polarity, isolated = np.median(rows, axis=0) if rows else (0, 0.5, 1, 0.5, 1)
    share_HW = np.mean(active_WHW, axis=0)
    active = float((share_HW > 0.1).mean())
    steady = float((share_HW >= 0.8).mean())
    parts = [
        part_HW.max() >= 0.5
        for band_HW in np.array_split(share_HW, min(6, len(share_HW)))
        for part_HW in np.array_split(band_HW, min(8, share_HW.shape[1]), axis=1)
    ]
    coherent = _coherent(windows)
    return np.array(
        [
            math.log(rate + 1e-3),
            on,
            math.log(active + 0.01),
            steady,
            float(np.mean(parts)),
            coherent,
            steady * (1 - coherent),
            math.log(repeats),
            polarity,
            math.log(isolated + 0.01),
        ]
    )


def _coherent(windows: Sequence[Events]) -> float:
    """The share of busy pixels whose optical flow, from one window to the next but one, fits one affine motion."""
    pictures = []
    for events in windows:
        count_HW = np.minimum(_pixels(events, 0) + _pixels(events, 1), _FULL).astype(np.float32)
        pictures.append(cv2.GaussianBlur(count_HW, (0, 0), 1.5))
    if min(pictures[0].shape) < _MIN_SIDE:
        return 0.5
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    shares = []
    for first_HW, second_HW in zip(pictures[::_FLOW_EVERY], pictures[2::_FLOW_EVERY], strict=False):
        y, x = np.nonzero(first_HW > _BUSY)
        if len(y) < _MIN_BUSY:
            continue
        high = max(first_HW.max(), second_HW.max())
        grey = [np.rint(255 / high * picture_HW).astype(np.uint8) for picture_HW in (first_HW, second_HW)]
        flow_HW2 = np.asarray(estimator.calc(*grey, None))  # type: ignore[call-overload]
        shares.append(_affine_share(np.stack((np.ones(len(x)), x / 100, y / 100), 1), flow_HW2[y, x]))
    return float(np.mean(shares)) if shares else 0.5


def _affine_share(places_P3: NDArray[np.float64], flow_P2: NDArray[np.float32]) -> float:
    """The share within a pixel of the affine motion that most agree on (reweighted least squares)."""
    weight_P1 = np.ones((len(places_P3), 1))
    off_P = np.zeros(len(places_P3))
    for _ in range(5):
        motion_32 = np.linalg.lstsq(weight_P1 * places_P3, weight_P1 * flow_P2, rcond=None)[0]
        off_P = np.hypot(*(flow_P2 - places_P3 @ motion_32).T)
        weight_P1 = 1 / np.sqrt(1 + off_P[:, None] ** 2)
    return float((off_P < 1).mean())


def stretches(stream: Events | EventStream) -> Iterator[NDArray[np.float64]]:
    """Yield the statistics of every second of a stream that is at least `MIN_WINDOWS` windows long."""
    held: list[Events] = []
    parts: Iterable[Events] = [stream] if isinstance(stream, Events) else stream.chunks()
    for _, events in by_time(parts, WINDOW_US):
        held.append(events)
        if len(held) == STRETCH_WINDOWS:
            yield statistics(held)
            held = []
    if len(held) >= MIN_WINDOWS:
        yield statistics(held)


def is_lively(found_F: NDArray[np.float64]) -> bool:
    """Whether anything happens in a stretch."""
    return math.exp(found_F[FEATURES.index("active")]) - 0.01 >= _LIVELY


def beginning(stream: Events | EventStream) -> NDArray[np.float64] | None:
    """The statistics of a stream's first lively second, or of its first one; None: too short to judge."""
    first = None
    for number, found in enumerate(stretches(stream)):
        first = found if first is None else first
        if is_lively(found):
            return found
        if number + 1 >= SEARCHED_STRETCHES:
            break
    return first


@dataclass(frozen=True)
class Domain:
    """What a detector was trained on. `lowest`, `highest`: a statistic's range there; `pixels`: of the sensors."""

    about: str
    mean: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    limit: float
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    pixels: tuple[int, int]

    def distance(self, found_F: NDArray[np.float64]) -> float:
        """From the training recordings, as a share of what is allowed: above 1 is outside."""
        off_F = found_F - np.array(self.mean)
        return float(np.sqrt(off_F @ np.array(self.precision) @ off_F) / self.limit)

    def likelihood(self, found_F: NDArray[np.float64]) -> float:
        """Logarithm of the density of recordings like this one in training, up to a constant of all domains."""
        _, log_determinant = np.linalg.slogdet(np.array(self.precision))
        return float(0.5 * log_determinant - 0.5 * (self.distance(found_F) * self.limit) ** 2)

    def outside(self, found_F: NDArray[np.float64], width: int, height: int) -> str | None:
        """Why a recording is no input for this detector, in a few words; None if it is one."""
        fewest, most = self.pixels[0] / _SIZE_FACTOR, self.pixels[1] * _SIZE_FACTOR
        if not fewest <= width * height <= most:
            of_training = " to ".join(f"{count:,}" for count in dict.fromkeys(self.pixels))
            return f"a sensor of {width} x {height} pixels; trained on {of_training} pixels in all"
        low_F, high_F = np.array(self.lowest), np.array(self.highest)
        beyond_F = np.maximum(low_F - found_F, found_F - high_F) / (high_F - low_F + 1e-6)
        worst, distance = int(np.argmax(beyond_F)), self.distance(found_F)
        if beyond_F[worst] > _MARGIN or (distance > 1 and beyond_F[worst] > 0):
            name = FEATURES[worst]
            value, low, high = (
                _shown(name, float(side[worst])) for side in (found_F, self.lowest, self.highest)
            )
            return f"{_WORDS[name]}: {value}; trained on {low} to {high}"
        if distance > 1:
            return f"its statistics together are {distance:.1f} times as far off as allowed"
        return None

    def save(self, folder: Path) -> None:
        """Beside the weights. Raises OutputError."""
        config.save(self, folder / DOMAIN_FILE)


def fit(recordings: Iterable[Events | EventStream], about: str) -> Domain:
    """The domain of recordings. Seconds in which nothing happens teach nothing.

    Raises InputError: too few seconds with something in them.
    """
    rows, pixels = [], []
    for recording in recordings:
        for found_F in stretches(recording):
            if is_lively(found_F):
                rows.append(found_F)
                pixels.append(recording.width * recording.height)
    if len(rows) < MIN_STRETCHES:
        raise InputError(
            f"{len(rows)} seconds of recordings to tell a domain by; expected {MIN_STRETCHES} or more"
        )
    rows_NF = np.array(rows)
    mean_F, (low_F, high_F) = rows_NF.mean(0), np.quantile(rows_NF, _RANGE, axis=0)
    covariance_FF = np.cov(rows_NF.T, bias=True) + np.diag(_RIDGE * rows_NF.var(0) + 1e-4)
    precision_FF = np.linalg.inv(covariance_FF)
    off_NF = rows_NF - mean_F
    distance_N = np.sqrt(np.einsum("nf,fg,ng->n", off_NF, precision_FF, off_NF))
    return Domain(
        about,
        tuple(mean_F.tolist()),
        tuple(tuple(row) for row in precision_FF.tolist()),
        float(_SLACK * np.quantile(distance_N, _QUANTILE)),
        tuple(low_F.tolist()),
        tuple(high_F.tolist()),
        (min(pixels), max(pixels)),
    )


def load(folder: Path) -> Domain | None:
    """The domain of a model folder; None: it has none. Raises ConfigError."""
    path = folder / DOMAIN_FILE
    return config.load(Domain, path) if path.is_file() else None


def _pixels(events: Events, polarity: int) -> NDArray[np.int64]:
    chosen = events.p == polarity
    at = events.y[chosen].astype(np.int64) * events.width + events.x[chosen]
    return np.bincount(at, minlength=events.height * events.width).reshape(events.height, events.width)


def _cells(count_HW: NDArray[np.int64]) -> NDArray[np.int64]:
    height, width = (-(-side // CELL) for side in count_HW.shape)
    padded = np.zeros((height * CELL, width * CELL), np.int64)
    padded[: count_HW.shape[0], : count_HW.shape[1]] = count_HW
    return np.asarray(padded.reshape(height, CELL, width, CELL).sum((1, 3)))


def _shown(name: str, value: float) -> str:
    return f"{math.exp(value) if name in _LOGARITHMIC else value:.2g}"

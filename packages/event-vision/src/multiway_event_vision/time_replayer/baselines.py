"""Baselines of frame interpolation with one interface.

Shape letters: H W rows and columns; 2 is (x, y), 3 is (red, green, blue).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from multiway_event_vision.events import Events
from multiway_event_vision.simulator.flow import flow_mix
from multiway_event_vision.time_replayer.frames import Frame

Image = NDArray[np.uint8]
_BLACK = 0.01  # added to an intensity of 0 to 1 before the logarithm
_THRESHOLDS = (0.01, 1.0)  # that a fit may find


class Interpolation(Protocol):
    """Frames between two frames."""

    def interpolate(
        self, first: Frame, second: Frame, events: Events, times: Sequence[int]
    ) -> Iterator[Image]:
        """Yield the frames at `times` (microseconds, between the two); `events` are those from one to the other."""
        ...


class Extrapolation(Protocol):
    """Frames after the last frame."""

    def extrapolate(self, last: Frame, events: Events, times: Sequence[int]) -> Iterator[Image]:
        """Yield the frames at `times`, in order, none before `last`; `events` are those since then."""
        ...


class Repeat:
    """The nearer of the two frames; after the last one, that."""

    def interpolate(
        self, first: Frame, second: Frame, events: Events, times: Sequence[int]
    ) -> Iterator[Image]:
        """See `Interpolation`."""
        for t in times:
            yield first.image_HW3 if 2 * t <= first.t + second.t else second.image_HW3

    def extrapolate(self, last: Frame, events: Events, times: Sequence[int]) -> Iterator[Image]:
        """See `Extrapolation`."""
        for _ in times:
            yield last.image_HW3


class Blend:
    """The mean of both frames, the nearer one counting more."""

    def interpolate(
        self, first: Frame, second: Frame, events: Events, times: Sequence[int]
    ) -> Iterator[Image]:
        """See `Interpolation`."""
        for t in times:
            share = position(first, second, t)
            yield to_image((1 - share) * first.image_HW3 + share * second.image_HW3)


FlowEstimator = Callable[[Image, Image], NDArray[np.float32]]


def dis_flow(first_HW: Image, second_HW: Image) -> NDArray[np.float32]:
    """Kroeger et al., "Fast Optical Flow using Dense Inverse Search" (2016), OpenCV's medium preset."""
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(estimator.calc(first_HW, second_HW, None))  # type: ignore[call-overload]


def farneback_flow(first_HW: Image, second_HW: Image) -> NDArray[np.float32]:
    """Farnebäck (2003), with the parameters of OpenCV's documentation."""
    flow_HW2 = np.zeros((*first_HW.shape, 2), np.float32)
    return np.asarray(cv2.calcOpticalFlowFarneback(first_HW, second_HW, flow_HW2, 0.5, 3, 15, 3, 5, 1.2, 0))


@dataclass(frozen=True)
class OpticalFlow:
    """Both frames warped along optical flow, and mixed as Super SloMo's equation 4 has it; no events."""

    estimate: FlowEstimator = dis_flow

    def interpolate(
        self, first: Frame, second: Frame, events: Events, times: Sequence[int]
    ) -> Iterator[Image]:
        """See `Interpolation`."""
        grey = [cv2.cvtColor(frame.image_HW3, cv2.COLOR_RGB2GRAY) for frame in (first, second)]
        ahead_HW2 = self.estimate(grey[0], grey[1])  # type: ignore[arg-type]
        back_HW2 = self.estimate(grey[1], grey[0])  # type: ignore[arg-type]
        for t in times:
            yield flow_mix(first.image_HW3, second.image_HW3, ahead_HW2, back_HW2, position(first, second, t))


@dataclass
class EventIntegration:
    """Both frames made brighter and darker by their events, then blended; as Brandli et al. (2014) do.

    The thresholds of a brighter and a darker event are fitted to every two frames by least squares. After the last
    frame those of the last fit hold, 0.2 before any.
    """

    thresholds: tuple[float, float] = field(default=(0.2, 0.2))

    def interpolate(
        self, first: Frame, second: Frame, events: Events, times: Sequence[int]
    ) -> Iterator[Image]:
        """See `Interpolation`."""
        self.thresholds = fitted_thresholds(first, second, events)
        for t in times:
            before_HW = self._change(events.between(first.t, t))
            after_HW = self._change(events.between(t, second.t))
            share = position(first, second, t)
            made = (1 - share) * _brightened(first, before_HW) + share * _brightened(second, -after_HW)
            yield to_image(255 * made)

    def extrapolate(self, last: Frame, events: Events, times: Sequence[int]) -> Iterator[Image]:
        """See `Extrapolation`."""
        for t in times:
            yield to_image(255 * _brightened(last, self._change(events.between(last.t, t))))

    def _change(self, events: Events) -> NDArray[np.float64]:
        on_HW, off_HW = counts(events)
        return self.thresholds[0] * on_HW - self.thresholds[1] * off_HW


def fitted_thresholds(first: Frame, second: Frame, events: Events) -> tuple[float, float]:
    """The thresholds for which the events best explain the change of the logarithm between two frames."""
    change_P = (_log_grey(second) - _log_grey(first)).ravel()
    on_HW, off_HW = counts(events)
    columns_P2 = np.stack((on_HW.ravel(), -off_HW.ravel()), 1)
    found, *_ = np.linalg.lstsq(
        columns_P2.T @ columns_P2 + 1e-6 * np.eye(2), columns_P2.T @ change_P, rcond=None
    )
    on, off = np.clip(found, *_THRESHOLDS)
    return float(on), float(off)


def counts(events: Events) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Brighter and darker events of every pixel, (H, W) each."""
    pixels_E = events.y.astype(np.int64) * events.width + events.x
    size = events.height * events.width
    on_P, off_P = (np.bincount(pixels_E[events.p == p], minlength=size).astype(np.float64) for p in (1, 0))
    return on_P.reshape(events.height, events.width), off_P.reshape(events.height, events.width)


def position(first: Frame, second: Frame, t: int) -> float:
    """Where `t` lies on the way from the first frame (0) to the second (1)."""
    return (t - first.t) / (second.t - first.t)


def to_image(values_HW3: NDArray) -> Image:
    """Rounded and clipped to 0 to 255."""
    return np.clip(np.rint(values_HW3), 0, 255).astype(np.uint8)


def _log_grey(frame: Frame) -> NDArray[np.float64]:
    grey_HW = cv2.cvtColor(frame.image_HW3, cv2.COLOR_RGB2GRAY)
    return np.log(np.asarray(grey_HW, np.float64) / 255 + _BLACK)


def _brightened(frame: Frame, change_HW: NDArray[np.float64]) -> NDArray[np.float64]:
    return (frame.image_HW3 / 255 + _BLACK) * np.exp(change_HW)[..., None] - _BLACK


BASELINES: dict[str, Callable[[], Interpolation]] = {
    "repeat": Repeat,
    "blend": Blend,
    "dis": OpticalFlow,
    "farneback": lambda: OpticalFlow(farneback_flow),
    "integration": EventIntegration,
}

"""Candidates for a frame between two frames, and what tells which of them to trust where.

    flow      both frames warped along DIS optical flow between them, as if motion were steady
    events    both frames made brighter and darker by the events since them, or until them
    guided    both frames warped along DIS flow from the events' frame to them: motion as the events tell it

Shape letters: K candidates, C features, H W rows and columns; 2 is (x, y), 3 is (red, green, blue).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from multiway_event_vision.events import Events
from multiway_event_vision.time_replayer.baselines import Image, counts, fitted_thresholds, position, to_image
from multiway_event_vision.time_replayer.frames import Frame

NAMES: Final = (
    "flow from the first",
    "flow from the second",
    "events after the first",
    "events before the second",
    "guided from the first",
    "guided from the second",
)
FEATURES: Final = 8
_BLACK = 0.01  # added to an intensity of 0 to 1 before the logarithm; as in the baselines
_MIN_SIDE = 16  # of a picture that has optical flow
_FLOW_SCALE = 8.0  # pixels; longer flows look alike to the network


class Candidates(NamedTuple):
    """The frame at one time, made in several ways.

    images_KHW3: uint8, in the order of `NAMES`. features_CHW: float32: the position between the frames; change of the
    logarithm by the events before and after; the logarithm of their counts; how far the frames' flow is, and how far
    the guided ones differ from it.
    """

    images_KHW3: NDArray[np.uint8]
    features_CHW: NDArray[np.float32]


class GapCandidates:
    """Two frames and the events between them: flow and thresholds are found once, frames made at any time."""

    def __init__(self, first: Frame, second: Frame, events: Events) -> None:
        self.first, self.second, self.events = first, second, events
        self._grey: list[Image] = [
            np.asarray(cv2.cvtColor(frame.image_HW3, cv2.COLOR_RGB2GRAY), np.uint8)
            for frame in (first, second)
        ]
        height, width = self._grey[0].shape
        self._has_flow = min(height, width) >= _MIN_SIDE
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._ahead_HW2 = self._flow(self._grey[0], self._grey[1])
        self._back_HW2 = self._flow(self._grey[1], self._grey[0])
        self._thresholds = fitted_thresholds(first, second, events)
        rows_HW, columns_HW = np.mgrid[:height, :width].astype(np.float32)
        self._place_HW2 = np.stack((columns_HW, rows_HW), -1)

    def at(self, t: int) -> Candidates:
        """The candidates at `t` microseconds, strictly between the two frames."""
        share = position(self.first, self.second, t)
        pictures = (self.first.image_HW3, self.second.image_HW3)
        # Jiang et al., "Super SloMo" (2018), equation 3.
        flows = [
            np.asarray(flow_HW2, np.float32)
            for flow_HW2 in (
                share * (share * self._back_HW2 - (1 - share) * self._ahead_HW2),
                (1 - share) * ((1 - share) * self._ahead_HW2 - share * self._back_HW2),
            )
        ]
        steady = [self._warped(*pair) for pair in zip(pictures, flows, strict=True)]
        before_HW, before_count_HW = self._change(self.first.t, t)
        after_HW, after_count_HW = self._change(t, self.second.t)
        changes = (before_HW, -after_HW)
        integrated = [_brightened(*pair) for pair in zip(pictures, changes, strict=True)]
        guide_HW = self._guide(changes, share)
        guiding = [
            self._flow(guide_HW, grey_HW, start_HW2)
            for grey_HW, start_HW2 in zip(self._grey, flows, strict=True)
        ]
        guided = [self._warped(*pair) for pair in zip(pictures, guiding, strict=True)]
        features = (
            np.full_like(before_HW, share),
            before_HW,
            after_HW,
            np.log1p(before_count_HW),
            np.log1p(after_count_HW),
            _length(flows[0] - flows[1]),
            _length(guiding[0] - flows[0]),
            _length(guiding[1] - flows[1]),
        )
        return Candidates(
            np.stack((*steady, *integrated, *guided)), np.stack(features).astype(np.float32, copy=False)
        )

    def _flow(
        self, start_HW: Image, end_HW: Image, first_guess_HW2: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Where the pixels of one picture are in the other."""
        if not self._has_flow:
            return np.zeros((*start_HW.shape, 2), np.float32)
        guess = None if first_guess_HW2 is None else first_guess_HW2.copy()
        return np.asarray(self._dis.calc(start_HW, end_HW, guess), np.float32)  # type: ignore[arg-type]

    def _warped(self, picture_HW3: Image, flow_HW2: NDArray[np.float32]) -> Image:
        places_HW2 = self._place_HW2 + flow_HW2
        return np.asarray(
            cv2.remap(picture_HW3, places_HW2, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),  # type: ignore[call-overload]
            np.uint8,
        )

    def _change(self, start: int, end: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(change of the logarithm of the light by the events between two times, their number); (H, W) each."""
        on_HW, off_HW = counts(self.events.between(start, end))
        on, off = self._thresholds
        return (on * on_HW - off * off_HW).astype(np.float32), (on_HW + off_HW).astype(np.float32)

    def _guide(self, changes: tuple[NDArray, NDArray], share: float) -> Image:
        """The grey frame that the events make of both frames."""
        light = [
            (grey_HW.astype(np.float32) / 255 + _BLACK) * np.exp(change_HW)
            for grey_HW, change_HW in zip(self._grey, changes, strict=True)
        ]
        return to_image(255 * ((1 - share) * light[0] + share * light[1] - _BLACK))


def _brightened(picture_HW3: Image, change_HW: NDArray) -> Image:
    return to_image(
        255 * ((picture_HW3.astype(np.float32) / 255 + _BLACK) * np.exp(change_HW)[..., None] - _BLACK)
    )


def _length(flow_HW2: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of a flow, 0 to 1."""
    return np.tanh(np.hypot(flow_HW2[..., 0], flow_HW2[..., 1]) / _FLOW_SCALE)

"""Frame interpolation by optical flow: an edge that jumps several pixels needs frames in between.

Pictures in between are warped from both neighbours along DIS optical flow, mixed as in Jiang et al., "Super SloMo"
(2018), equation 4. They are a guess; a recording simulated from them should say so.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_event_vision.simulator.frames import FrameSource


class FlowUpsampled:
    """`source` with `factor` times as many frames."""

    def __init__(self, source: FrameSource, factor: int = 8) -> None:
        """Raises InputError: `factor` is below 1."""
        if factor < 1:
            raise InputError(f"{factor} times as many frames; expected 1 or more")
        self.source, self.factor = source, factor
        self.width, self.height = source.width, source.height

    def frames(self) -> Iterator[tuple[NDArray, int]]:
        """Yield every frame of the source, and `factor` - 1 between any two."""
        estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        last: NDArray[np.uint8] | None = None
        last_t = 0
        for frame, t in self.source.frames():
            picture = frame if frame.dtype == np.uint8 else np.round(frame * 255).astype(np.uint8)
            if last is not None and self.factor > 1:
                if min(picture.shape) >= 16:  # smaller ones have no flow
                    ahead_HW2 = estimator.calc(last, picture, None)  # type: ignore[call-overload]
                    back_HW2 = estimator.calc(picture, last, None)  # type: ignore[call-overload]
                else:
                    ahead_HW2 = back_HW2 = np.zeros((*picture.shape, 2), np.float32)
                for step in range(1, self.factor):
                    between = last_t + round((t - last_t) * step / self.factor)
                    if last_t < between < t:
                        yield flow_mix(last, picture, ahead_HW2, back_HW2, step / self.factor), between
            yield frame, t
            last, last_t = picture, t


def flow_mix(
    first: NDArray, second: NDArray, ahead_HW2: NDArray, back_HW2: NDArray, share: float
) -> NDArray[np.uint8]:
    """The picture at `share` of the way from `first` to `second`, (H, W) or (H, W, 3).

    ahead_HW2, back_HW2: where each pixel of the first goes in the second, and of the second in the first; pixels.
    """
    to_first = -(1 - share) * share * ahead_HW2 + share**2 * back_HW2
    to_second = (1 - share) ** 2 * ahead_HW2 - share * (1 - share) * back_HW2
    rows, columns = np.mgrid[: first.shape[0], : first.shape[1]].astype(np.float32)
    warped = [
        cv2.remap(
            picture.astype(np.float32),
            columns + flow[..., 0],
            rows + flow[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for picture, flow in ((first, to_first), (second, to_second))
    ]
    mixed = (1 - share) * warped[0] + share * warped[1]
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8)

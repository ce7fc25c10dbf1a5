"""A flow teacher without ground truth: optical flow between the training frames, chained over several.

Reda et al. (2019) let a network trained elsewhere teach theirs; here it is DIS flow between frames next to each other,
where it is good, followed from frame to frame. Shape letters: T frames, H W rows and columns; 2 is (x, y).
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from multiway_event_vision.time_replayer.baselines import dis_flow
from multiway_event_vision.time_replayer.clips import Clip


class ChainedFlow:
    """Flows between the frames of a clip of which every `every`-th is read."""

    def __init__(self, clip: Clip, every: int) -> None:
        grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in clip.frames_THW3[::every]]
        self.every = every
        pairs = list(pairwise(grey))
        self._ahead_THW2 = [dis_flow(a, b).astype(np.float16) for a, b in pairs]
        self._back_THW2 = [dis_flow(b, a).astype(np.float16) for a, b in pairs]

    def flow(self, start: int, end: int, rows: slice, columns: slice) -> NDArray[np.float32]:
        """(2, rows, columns): where the pixels of frame `start` are in frame `end`; pixels. Both are frames read."""
        first, last = start // self.every, end // self.every
        steps = self._ahead_THW2[first:last] if last > first else self._back_THW2[last:first][::-1]
        y_HW, x_HW = np.mgrid[rows, columns].astype(np.float32)
        at_x, at_y = x_HW.copy(), y_HW.copy()
        for flow_HW2 in steps:
            step_HW2 = cv2.remap(
                flow_HW2.astype(np.float32), at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            at_x, at_y = at_x + step_HW2[..., 0], at_y + step_HW2[..., 1]
        return np.stack((at_x - x_HW, at_y - y_HW))

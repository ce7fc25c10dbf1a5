"""Detections over events: recent events as a picture, with the boxes of a read-out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_event_vision.events import Events
from multiway_event_vision.rendering.views import View

# Apart from each other, and from the red and blue of events; white text is readable on each (contrast 4.5).
CLASS_COLOURS: tuple[tuple[int, int, int], ...] = (
    (24, 126, 91), (190, 80, 2), (117, 82, 179), (211, 41, 138),
    (76, 119, 17), (140, 105, 1), (120, 85, 20), (80, 80, 80),
)  # fmt: skip
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45


class LatestEvents:
    """The events of the last `window` microseconds of a stream that is given slice by slice, as a picture."""

    def __init__(self, view: View, window: int) -> None:
        """Raises InputError: `window` is not positive."""
        if window <= 0:
            raise InputError(f"a window of {window} us; expected more than 0")
        self.view, self.window = view, window
        self._slices: deque[Events] = deque()

    def picture(self, events: Events, t: int) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 as of `t` microseconds; `events` are those since the last call, all before `t`."""
        begin = t - self.window
        self._slices.append(events)
        while self._slices and (not len(self._slices[0]) or self._slices[0].t[-1] < begin):
            self._slices.popleft()
        self.view.begin(begin, self.window)
        for part in self._slices:
            self.view.add(part.between(begin, t))
        return self.view.picture()


def draw_boxes(
    image_HW3: NDArray[np.uint8],
    boxes_M4: NDArray[np.floating],
    class_M: NDArray[np.integer],
    captions: Sequence[str],
    *,
    scale: int = 1,
) -> NDArray[np.uint8]:
    """The picture enlarged `scale` times, with boxes (x1, y1, x2, y2 in its own pixels) and what each is.

    Colours are the classes'. Raises InputError: `scale` is below 1.
    """
    if scale < 1:
        raise InputError(f"a picture enlarged {scale} times; expected 1 or more")
    drawn = np.ascontiguousarray(image_HW3.repeat(scale, 0).repeat(scale, 1))
    height, width = drawn.shape[:2]
    for box_4, class_id, caption in zip(boxes_M4, class_M, captions, strict=True):
        colour = CLASS_COLOURS[int(class_id) % len(CLASS_COLOURS)]
        x1, y1, x2, y2 = (round(float(side) * scale) for side in box_4)
        cv2.rectangle(drawn, (x1, y1), (min(x2, width - 1), min(y2, height - 1)), colour, 2)
        if scale == 1 and width < 320:
            continue  # letters would hide what they name
        (text_width, text_height), _ = cv2.getTextSize(caption, _FONT, _FONT_SCALE, 1)
        left = max(0, min(x1, width - text_width - 4))
        bottom = y1 if y1 >= text_height + 6 else min(y1 + text_height + 6, height - 1)
        corner = (left, bottom - text_height - 6)
        cv2.rectangle(drawn, corner, (left + text_width + 4, bottom), colour, cv2.FILLED)
        cv2.putText(
            drawn, caption, (left + 2, bottom - 4), _FONT, _FONT_SCALE, (255, 255, 255), 1, cv2.LINE_AA
        )
    return drawn

"""Events -> frames: T steps of `dt_us` microseconds from the first event on."""

from __future__ import annotations

from typing import Literal

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_event_vision.events import Events

Values = Literal["binary", "count"]


def event_frames(
    events: Events, dt_us: int, steps: int, *, values: Values = "binary", start: int = 0
) -> NDArray[np.uint8]:
    """(steps, 2, height, width) uint8: whether ("binary") or how often ("count", up to 255) pixels fired in each step.

    Channel 1 is brighter, 0 darker. `start` is the time (microseconds) at which step 0 begins. Raises InputError.
    """
    if dt_us < 1 or steps < 1:
        raise InputError(f"{steps} steps of {dt_us} us; expected at least 1 of at least 1")
    part = events.between(start, start + dt_us * steps)
    step = (part.t - start) // dt_us
    place = ((step * 2 + part.p) * events.height + part.y) * events.width + part.x
    shape = (steps, 2, events.height, events.width)
    if values == "binary":
        flat = np.zeros(int(np.prod(shape)), np.uint8)
        flat[place] = 1
    else:
        flat = np.minimum(np.bincount(place, minlength=int(np.prod(shape))), 255).astype(np.uint8)
    return flat.reshape(shape)

"""Evaluation protocol: frames are left out of a video, interpolated, and compared with the true ones.

Every (skipped + 1)-th frame is kept. "Whole" means over all frames left out, "centre" over the middle ones, which are
the hardest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_event_vision.events import Events, concatenate
from multiway_event_vision.time_replayer.baselines import Extrapolation, Image, Interpolation
from multiway_event_vision.time_replayer.clips import Clip
from multiway_event_vision.time_replayer.frames import Frame

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Gap:
    """Two kept frames, the events and the times between them, and the true frames (T, H, W, 3) of these times."""

    first: Frame
    second: Frame
    events: Events
    times: tuple[int, ...]
    truth_THW3: NDArray[np.uint8]

    @property
    def centre(self) -> int:
        """Index of the middle frame."""
        return len(self.times) // 2


def gaps(clip: Clip, skipped: int) -> Iterator[Gap]:
    """Yield the gaps of a clip, with the events of its first recording. Raises InputError: too short for one."""
    step = skipped + 1
    if skipped < 1 or len(clip) <= step:
        raise InputError(
            f"{clip.name}: {len(clip)} frames cannot skip {skipped}; expected {step + 1} or more"
        )
    for low in range(0, len(clip) - step, step):
        first, second = clip.frame(low), clip.frame(low + step)
        inner = slice(low + 1, low + step)
        yield Gap(
            first,
            second,
            clip.recordings[0].between(first.t, second.t),
            tuple(int(t) for t in clip.times_T[inner]),
            clip.frames_THW3[inner],
        )


def fill(gap: Gap, methods: Mapping[str, Interpolation]) -> dict[str, list[Image]]:
    """The frames of every method in a gap."""
    return {
        name: list(method.interpolate(gap.first, gap.second, gap.events, gap.times))
        for name, method in methods.items()
    }


def checks(before: Gap | None, gap: Gap, after: Gap | None) -> Iterator[tuple[Frame, Frame, Frame, Events]]:
    """Yield (frame, known frame, next frame, events from the first to the last) of a gap with those beside it."""
    for early, late in ((before, gap), (gap, after)):
        if early is not None and late is not None:
            yield early.first, late.first, late.second, concatenate([early.events, late.events])


def extrapolate(gap: Gap, methods: Mapping[str, Extrapolation]) -> dict[str, list[Image]]:
    """The same frames, made without the second one."""
    return {
        name: list(method.extrapolate(gap.first, gap.events, gap.times)) for name, method in methods.items()
    }


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of them, evenly spread."""
    if len(items) <= count:
        return list(items)
    return [items[round(index)] for index in np.linspace(0, len(items) - 1, count)]

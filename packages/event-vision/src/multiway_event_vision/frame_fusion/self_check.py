"""Which method to trust on this very video: each makes frames that are known, from the frames beside them.

The frame between two others of the video is known. Every method makes it from those two, at twice the distance that
counts, and the mix of methods that comes nearest to it (a least-squares fit with weights that sum up to 1) makes the
frames that are not known. Real sensors, still scenes and odd frame rates need no case of their own.
Shape letters: K methods, H W rows and columns; 3 is (red, green, blue).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from multiway_event_vision.events import Events, joined
from multiway_event_vision.time_replayer.baselines import Image, Interpolation, to_image
from multiway_event_vision.time_replayer.frames import Frame

Pair = tuple[Frame, Frame, Events]
FIRST_CHECKS: Final = 4
CHECKED_EVERY: Final = 4  # pairs, after the first few: a check costs a frame of each method
_DECAY = 0.8  # of what a check counts, with each later one
_LEAST = 0.02  # smaller weights are none: their method need not run
_ROUNDING = 1 / 12  # squared error of a rounded pixel value, which no method can be better than


class SelfChecked:
    """A mix of methods whose weights follow the checks; before any check, the first method alone."""

    def __init__(self, methods: Mapping[str, Interpolation]) -> None:
        self.methods = dict(methods)
        self._errors_KK = np.zeros((len(methods), len(methods)))
        self.checks = 0

    @property
    def weights(self) -> dict[str, float]:
        """Of each method."""
        if not self.checks:
            return {name: float(number == 0) for number, name in enumerate(self.methods)}
        return dict(zip(self.methods, simplex_weights(self._errors_KK).tolist(), strict=True))

    def check(self, first: Frame, known: Frame, last: Frame, events: Events) -> None:
        """Let every method make `known` from the frames beside it and the events between those."""
        truth_HW3 = known.image_HW3.astype(np.float32)
        errors_KP = np.stack(
            [
                (next(iter(method.interpolate(first, last, events, [known.t]))) - truth_HW3).ravel()
                for method in self.methods.values()
            ]
        )
        product_KK = (errors_KP @ errors_KP.T).astype(np.float64) / errors_KP.shape[1]
        # PSNR counts ratios: a hard frame must not outweigh the easy ones.
        product_KK /= product_KK.diagonal().min() + _ROUNDING
        self._errors_KK = _DECAY * self._errors_KK + product_KK
        self.checks += 1

    def follow(
        self, pairs: Iterable[Pair], is_wanted: Callable[[Frame, Frame], bool] | None = None
    ) -> Iterator[Pair]:
        """Yield the pairs of a video, each after the checks that it is part of.

        is_wanted: whether frames are made between two; the others need no check.
        """
        before: Pair | None = None
        number = 0
        for pair in pairs:
            if before is not None:
                first, known, events = before
                if is_wanted is None or is_wanted(first, pair[1]):
                    if number < FIRST_CHECKS or number % CHECKED_EVERY == 0:
                        self.check(first, known, pair[1], joined([events, pair[2]]))
                    number += 1
                yield before
            before = pair
        if before is not None:
            yield before

    def interpolate(
        self, first: Frame, second: Frame, events: Events, times: Sequence[int]
    ) -> Iterator[Image]:
        """See `Interpolation`; at a frame's own time it is that frame. Raises as the methods."""
        used = {name: weight for name, weight in self.weights.items() if weight > _LEAST}
        total = sum(used.values())
        made = [self.methods[name].interpolate(first, second, events, times) for name in used]
        for t, *frames in zip(times, *made, strict=True):
            if len(frames) == 1 or t in (first.t, second.t):
                yield first.image_HW3 if t == first.t else second.image_HW3 if t == second.t else frames[0]
                continue
            mixed_HW3 = np.zeros(frames[0].shape, np.float32)
            for image_HW3, weight in zip(frames, used.values(), strict=True):
                mixed_HW3 += np.float32(weight / total) * image_HW3
            yield to_image(mixed_HW3)


def simplex_weights(errors_KK: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights (K,), none negative, of sum 1, whose mix has the least squared error.

    errors_KK: mean products of the methods' errors. The methods are few: every set of them is tried.
    """
    count = len(errors_KK)
    best_K, least = np.eye(count)[int(np.argmin(errors_KK.diagonal()))], np.inf
    for size in range(1, count + 1):
        for chosen in map(list, combinations(range(count), size)):
            part = errors_KK[np.ix_(chosen, chosen)]
            solved = np.linalg.lstsq(part + 1e-9 * np.trace(part) * np.eye(size), np.ones(size), rcond=None)[
                0
            ]
            if solved.min() < 0 or solved.sum() <= 0:
                continue
            weights = solved / solved.sum()
            squared = float(weights @ part @ weights)
            if squared < least * (1 - 1e-6):
                best_K, least = np.zeros(count), squared
                best_K[chosen] = weights
    return best_K

"""Events of digits under three saccades, in the manner of N-MNIST.

N-MNIST (Orchard et al. 2015) was recorded from a screen while the camera made three straight moves of 100 ms along a
triangle. Here scikit-learn's 1,797 digits of 8 x 8 pixels are drawn 28 x 28 and moved over a sensor of 34 x 34.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_event_vision.recurrent.event_set import EventSet
from multiway_event_vision.simulator import SensorConfig, Simulation

SENSOR = 34
DIGIT = 28
CORNERS = np.array([(0.0, 0.0), (3.0, 6.0), (6.0, 0.0), (0.0, 0.0)])
"""(x, y) of the digit's top left pixel, at 0, 100, 200 and 300 ms."""
SACCADE_US = 100_000
_SAMPLE_US = 2_000  # at most 0.14 pixels of motion
_DARK, _LIGHT = 0.2, 0.8
_SENSOR = SensorConfig(noise_hz=1.0)


@dataclass(frozen=True)
class Saccades:
    """A picture (28, 28) of 0 to 1 under the three moves; a `FrameSource`."""

    picture_HW: NDArray[np.float32]
    width: int = SENSOR
    height: int = SENSOR

    def frames(self) -> Iterator[tuple[NDArray, int]]:
        """Yield (intensities (34, 34), microseconds)."""
        for t in range(0, 3 * SACCADE_US + 1, _SAMPLE_US):
            x, y = (np.interp(t, np.arange(4) * SACCADE_US, CORNERS[:, axis]) for axis in (0, 1))
            moved = np.array([[1, 0, x], [0, 1, y]])
            shown_HW = cv2.warpAffine(self.picture_HW, moved, (self.width, self.height))
            yield _DARK + (_LIGHT - _DARK) * shown_HW, t


def digits(*, seed: int = 0, max_samples: int | None = None) -> EventSet:
    """The recordings of all digits (or the first `max_samples`), in an order drawn from `seed`; 300 ms each.

    Each has a sensor of its own: thresholds and noise differ. Raises InputError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(
            "the digits are those of scikit-learn: pip install 'multiway-event-vision[snn-rnn]'"
        ) from error
    pictures, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))[:max_samples]
    return EventSet.of(
        (
            Simulation(
                Saccades(drawn(pictures[number].reshape(8, 8))), _SENSOR, seed + 1 + int(number)
            ).read(),
            int(labels[number]),
        )
        for number in order
    )


def drawn(picture_88: NDArray) -> NDArray[np.float32]:
    """(28, 28) of 0 to 1 from scikit-learn's (8, 8) of 0 to 16."""
    size = (DIGIT, DIGIT)
    scaled = cv2.resize((picture_88 / 16).astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    return np.clip(np.asarray(scaled, np.float32), 0, 1)

"""The sensor: every pixel compares the logarithm of its light with a level, and sends an event when it has moved away.

Between two frames the logarithm L is taken as linear in time. Pixel by pixel, with its own thresholds C_on and C_off:

* when L reaches level + C_on, an event of polarity 1 is sent at that very moment, not at the frame's, and the level
  rises by C_on; likewise down to level - C_off with polarity 0;
* the level leaks downward, so that even a still pixel sends an event now and then, always of polarity 1;
* for a refractory time after an event the pixel is blind, then its level is what it sees at that moment;
* noise adds events at random times, more of them in the dark; they leave the level as it is;
* a low-pass filter, slower in the dark, may stand before the comparison.

The model and the noise follow v2e (Hu, Liu, Delbruck: "v2e: From Video Frames to Realistic DVS Events", 2021), but for
the exact times and the level after the refractory time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from multiway_core.errors import ConfigError, InputError
from numpy.typing import NDArray

from multiway_event_vision.events import Events, check_size

_DARKNESS = 20 / 255  # what the filter sees of a black pixel: v2e's 20 of 255, and its scale of 275
_FILTER_SCALE = 275 / 255
_NOISE_IN_LIGHT = 0.25  # of that in the dark
_LEAK_JITTER = 0.1  # share, anew in every step
_LEAK_SPREAD = 0.1  # decades between pixels


@dataclass(frozen=True)
class SensorConfig:
    """The pixels' properties; the values are v2e's defaults for a sensor in daylight.

    Thresholds are in natural logarithms of intensity; rates are a pixel's, in hertz.
    """

    threshold_on: float = 0.2
    threshold_off: float = 0.2
    threshold_sigma: float = 0.03  # standard deviation between pixels
    min_threshold: float = 0.01
    black: float = 0.01  # added to an intensity of 0 to 1 before the logarithm
    leak_hz: float = 0.1
    noise_hz: float = 0.0
    refractory_us: int = 0
    cutoff_hz: float = 0.0  # of the filter in full light; 0 leaves it out

    def __post_init__(self) -> None:
        if self.min_threshold <= 0 or min(self.threshold_on, self.threshold_off) < self.min_threshold:
            raise ConfigError(
                f"thresholds {self.threshold_on} and {self.threshold_off}; expected at least {self.min_threshold} > 0"
            )
        if min(self.threshold_sigma, self.leak_hz, self.noise_hz, self.refractory_us, self.cutoff_hz) < 0:
            raise ConfigError(f"{self}: no sensor property can be negative")
        if self.black <= 0:
            raise ConfigError(
                f"black {self.black}; expected a positive intensity, the logarithm of 0 does not exist"
            )

    @classmethod
    def clean(cls) -> SensorConfig:
        """Equal pixels without leak or noise: what analytic expectations hold for."""
        return cls(threshold_sigma=0.0, leak_hz=0.0)

    @classmethod
    def noisy(cls) -> SensorConfig:
        """A sensor in the dark: slow, noisy pixels."""
        return cls(threshold_sigma=0.05, noise_hz=5.0, cutoff_hz=30.0, refractory_us=1000)


class Sensor:
    """A sensor of (height, width) pixels that is shown one frame after the other. Deterministic in `seed`."""

    def __init__(self, width: int, height: int, config: SensorConfig | None = None, *, seed: int = 0) -> None:
        check_size(width, height)
        self.width, self.height = width, height
        self.config = config = config or SensorConfig()
        self._generator = np.random.default_rng(seed)
        count = width * height

        def thresholds(mean: float) -> NDArray[np.float64]:
            drawn = mean + config.threshold_sigma * self._generator.standard_normal(count)
            return np.maximum(drawn, config.min_threshold)

        self.threshold_on_P = thresholds(config.threshold_on)
        self.threshold_off_P = thresholds(config.threshold_off)
        self._noise_gain_2P = np.concatenate(
            [config.threshold_off / self.threshold_off_P, config.threshold_on / self.threshold_on_P]
        )
        spread_P = 10 ** (_LEAK_SPREAD * self._generator.standard_normal(count))
        self._leak_P = config.leak_hz * 1e-6 * self.threshold_on_P * spread_P  # a microsecond
        self._start_P = self._generator.uniform(-0.5, 0.5, count)
        self._t: int | None = None
        self._log_P = np.zeros(count)  # L, the leak added instead of taken from the level
        self._filtered_P = np.zeros(count)  # L as the filter last gave it
        self._level_P = np.zeros(count)
        self._leaked_P = np.zeros(count)
        self._blind_until_P = np.full(count, -np.inf)

    def show(self, frame_HW: NDArray, t: int) -> Events:
        """The events since the last frame up to this one, at time `t` (microseconds); none for the first.

        frame_HW: (height, width) uint8, or float intensities from 0 to 1. Raises InputError: another shape or type,
        values out of range, or a time that is not after the last frame's.
        """
        intensity_P = self._intensity(frame_HW)
        log_P = np.log(intensity_P + self.config.black)
        if self._t is None:
            self._t, self._log_P, self._filtered_P = t, log_P, log_P
            # Pixels have seen something before: their levels lie anywhere near.
            self._level_P = log_P + self._start_P * np.minimum(self.threshold_on_P, self.threshold_off_P)
            return Events.empty(self.width, self.height)
        if t <= self._t:
            raise InputError(f"a frame of {t} us after one of {self._t} us; times must rise")
        duration = t - self._t
        if self.config.cutoff_hz:
            response_P = (intensity_P + _DARKNESS) / _FILTER_SCALE
            weight_P = np.minimum(response_P * (2 * np.pi * self.config.cutoff_hz * duration * 1e-6), 1.0)
            log_P = self._filtered_P + weight_P * (log_P - self._filtered_P)
        self._filtered_P = log_P
        if self.config.leak_hz:
            jitter_P = 1 + _LEAK_JITTER * self._generator.standard_normal(len(log_P), np.float32)
            self._leaked_P += self._leak_P * jitter_P * duration
        end_P = log_P + self._leaked_P

        at, pixels, polarities = self._crossings(self._log_P, end_P, self._t, duration)
        if self.config.noise_hz:
            noise = self._noise(intensity_P, self._t, duration)
            at, pixels, polarities = (
                np.concatenate(pair) for pair in zip((at, pixels, polarities), noise, strict=True)
            )
        self._t, self._log_P = t, end_P
        times = np.minimum(np.floor(at).astype(np.int64), t)
        order = np.lexsort((pixels, times))
        pixels = pixels[order]
        y, x = np.divmod(pixels, self.width)
        return Events(
            times[order],
            x.astype(np.uint16),
            y.astype(np.uint16),
            polarities[order].astype(np.uint8),
            self.width,
            self.height,
        )

    def _intensity(self, frame_HW: NDArray) -> NDArray[np.float64]:
        if frame_HW.shape != (self.height, self.width):
            raise InputError(
                f"a frame of shape {frame_HW.shape}; the sensor has ({self.height}, {self.width})"
            )
        if frame_HW.dtype == np.uint8:
            return frame_HW.reshape(-1) / 255.0
        if frame_HW.dtype.kind != "f":
            raise InputError(f"a frame of {frame_HW.dtype}; expected uint8, or floats from 0 to 1")
        intensity_P = frame_HW.reshape(-1).astype(np.float64)
        if not (intensity_P.min() >= 0 and intensity_P.max() <= 1):
            raise InputError(f"a frame from {intensity_P.min():g} to {intensity_P.max():g}; expected 0 to 1")
        return intensity_P

    def _crossings(
        self, start_P: NDArray, end_P: NDArray, t: int, duration: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
        """(times, pixels, polarities) of the events while L goes from `start_P` to `end_P`; levels are moved on."""
        level_P, blind_P, refractory = self._level_P, self._blind_until_P, float(self.config.refractory_us)
        slope_P = (end_P - start_P) / duration
        if refractory:  # pixels that see again within this step
            sees = np.flatnonzero((blind_P > t) & (blind_P <= t + duration))
            level_P[sees] = start_P[sees] + slope_P[sees] * (blind_P[sees] - t)
        crosses_P = (end_P >= level_P + self.threshold_on_P) & (slope_P > 0)
        crosses_P |= (end_P <= level_P - self.threshold_off_P) & (slope_P < 0)
        pixels = np.flatnonzero(crosses_P & (blind_P <= t + duration))
        found: list[tuple[NDArray, NDArray, NDArray]] = []
        # Each turn finds the next event of every pixel that has one left in this step.
        while len(pixels):
            rises = slope_P[pixels] > 0
            step = np.where(rises, self.threshold_on_P[pixels], -self.threshold_off_P[pixels])
            reached = level_P[pixels] + step
            at = t + np.clip((reached - start_P[pixels]) / slope_P[pixels], 0, duration)
            found.append((at, pixels, rises))
            if refractory:
                blind_P[pixels] = at + refractory
                # What it sees first when it sees again; beyond this step, the next one corrects it.
                reached = start_P[pixels] + slope_P[pixels] * (at + refractory - t)
            level_P[pixels] = reached
            left = end_P[pixels] - reached
            again = np.where(
                rises, left >= self.threshold_on_P[pixels], left <= -self.threshold_off_P[pixels]
            )
            pixels = pixels[again & (blind_P[pixels] <= t + duration)]
        if not found:
            return np.zeros(0), np.zeros(0, np.int64), np.zeros(0, bool)
        at, pixels, rises = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return at, pixels, rises

    def _noise(
        self, intensity_P: NDArray, t: int, duration: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
        """(times, pixels, polarities) of events that nothing caused; low thresholds send more."""
        # Drawn evenly at the highest rate of any pixel, then thinned: no work for pixels that send nothing.
        highest = self.config.noise_hz * 1e-6 * duration / 2 * float(self._noise_gain_2P.max())
        count = self._generator.poisson(highest * len(self._noise_gain_2P))
        chosen = self._generator.integers(0, len(self._noise_gain_2P), count)
        is_on, pixels = np.divmod(chosen, len(intensity_P))
        share = self._noise_gain_2P[chosen] / self._noise_gain_2P.max()
        share *= 1 - (1 - _NOISE_IN_LIGHT) * intensity_P[pixels]
        at = t + self._generator.uniform(0, duration, count)
        kept = self._generator.random(count) < share
        return at[kept], pixels[kept], is_on[kept].astype(bool)

"""Estimates the time of each turn in audio of several turns that were synthesized in one pass.

VibeVoice speaks turns in one stream and does not say where one ends. They end in pauses: of all pauses those are chosen
that divide the speech as the turns' lengths do, and longer ones sooner. An estimate; see the measure in the README.

Shape suffixes: T samples, F frames of 10 ms, C candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

_FRAME_SECONDS = 0.01
_SILENCE_DB = -32.0
"""Frames so far below the loud ones of the same sound are a pause."""
_LEAST_PAUSE = 0.06
_SPREAD = 0.3
"""How far a turn's pace differs from the average: deviation of the logarithm."""
_PAUSE_WEIGHT = 8.0
"""What a second more of pause is worth, in squared deviations."""
_WINDOW = (5.0, 0.15)
"""A turn's end is looked for so many seconds, or this share of the whole, around where the average pace has it."""


def turn_times(samples: np.ndarray, rate: int, texts: Sequence[str]) -> list[tuple[float, float]]:
    """Start and end of each text's sound in seconds, in order and apart, within the whole.

    Args:
        samples: float (T,), the texts spoken one after another.
        rate: samples a second.
        texts: at least one.
    """
    hop = max(1, round(rate * _FRAME_SECONDS))
    count = len(samples) // hop
    total = len(samples) / rate
    if count < 2 * len(texts):  # hardly any sound: equal parts
        parts = [total * index / len(texts) for index in range(len(texts) + 1)]
        return list(pairwise(parts))
    spoken_F = _spoken(samples[: count * hop].reshape(count, hop))
    first, last = (int(place) for place in np.flatnonzero(spoken_F)[[0, -1]])
    ends, starts = _boundaries(spoken_F[first : last + 1], texts)
    edges = [first, *(first + place for pair in zip(ends, starts, strict=True) for place in pair), last + 1]
    seconds = [min(edge * hop / rate, total) for edge in edges]
    return list(zip(seconds[::2], seconds[1::2], strict=True))


def _spoken(frames_FT: np.ndarray) -> np.ndarray:
    """Which frames hold speech; at least one does."""
    power_F = np.square(frames_FT, dtype=np.float64).mean(axis=1)
    loud = float(np.quantile(power_F, 0.95))
    spoken_F: np.ndarray = power_F > max(loud * 10 ** (_SILENCE_DB / 10), 1e-12)
    if not spoken_F.any():
        spoken_F[:] = True
    return spoken_F


def _boundaries(spoken_F: np.ndarray, texts: Sequence[str]) -> tuple[list[int], list[int]]:
    """Frames where turns but the last end, and where the next ones start."""
    weights = [_weight(text) for text in texts]
    clock_F = np.cumsum(spoken_F)  # frames of speech: pauses do not count
    pace = float(clock_F[-1]) / sum(weights)
    expected = [pace * weight for weight in accumulate(weights)]
    begins, lengths = _pauses(spoken_F)
    # Where there is no pause near, a turn may end at the expected place.
    missing = np.searchsorted(clock_F, expected[:-1]).astype(np.int64)
    begins_C = np.concatenate([begins, missing])
    lengths_C = np.concatenate([lengths, np.zeros(len(missing), dtype=np.int64)])
    order = np.argsort(begins_C, kind="stable")
    begins_C, lengths_C = begins_C[order], lengths_C[order]
    at_C = clock_F[np.minimum(begins_C, len(clock_F) - 1)].astype(np.float64)
    chosen = _choose(at_C, lengths_C * _FRAME_SECONDS, weights, pace, expected)
    return [int(begins_C[c]) for c in chosen], [int(begins_C[c] + lengths_C[c]) for c in chosen]


def _weight(text: str) -> float:
    """How long a text takes to say, in characters: wide ones are a syllable, digits are words."""
    return 2.0 + sum(3.0 if c.isdigit() or ord(c) >= 0x2E80 else 1.0 for c in text if c.isalnum() or c == " ")


def _pauses(spoken_F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First frames and lengths of silences that are long enough."""
    edges = np.flatnonzero(np.diff(np.concatenate([[1], spoken_F.astype(np.int8), [1]])))
    begins, lengths = edges[::2], edges[1::2] - edges[::2]
    kept = lengths * _FRAME_SECONDS >= _LEAST_PAUSE
    return begins[kept], lengths[kept]


def _choose(
    at_C: np.ndarray, pause_C: np.ndarray, weights: list[float], pace: float, expected: list[float]
) -> list[int]:
    """Candidates, ascending, one a boundary: least sum of squared deviations of the turns' paces, less pauses."""
    most = max(_WINDOW[0] / _FRAME_SECONDS, _WINDOW[1] * expected[-1])
    previous_at, previous_cost = np.zeros(1), np.zeros(1)
    windows: list[np.ndarray] = []
    back: list[np.ndarray] = []
    for turn in range(len(weights) - 1):
        window = np.flatnonzero(np.abs(at_C - expected[turn]) <= most)
        length = pace * weights[turn]
        spans = at_C[window][:, None] - previous_at[None]
        with np.errstate(divide="ignore", invalid="ignore"):
            deviation = np.where(spans > 0, np.log(np.maximum(spans, 1e-9) / length) / _SPREAD, 1e3)
        costs = previous_cost[None] + np.square(deviation)
        back.append(costs.argmin(axis=1))
        previous_cost = costs.min(axis=1) - _PAUSE_WEIGHT * np.minimum(pause_C[window], 1.0)
        previous_at = at_C[window]
        windows.append(window)
    if not windows:
        return []
    rest = np.maximum(expected[-1] - previous_at, 1e-9) / (pace * weights[-1])
    place = int((previous_cost + np.square(np.log(rest) / _SPREAD)).argmin())
    chosen: list[int] = []
    for window, links in zip(reversed(windows), reversed(back), strict=True):
        chosen.append(int(window[place]))
        place = int(links[place])
    chosen.reverse()
    return chosen

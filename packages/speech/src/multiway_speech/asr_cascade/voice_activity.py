"""Where somebody speaks, by Silero VAD (https://github.com/snakers4/silero-vad, MIT), in constant memory.

The package's network scores frames of 32 ms. Speech begins at a score of :data:`SPEECH` and ends where the score stays
:data:`HYSTERESIS` lower for :data:`MIN_SILENCE`: the rule of the package's own ``get_speech_timestamps``, which wants a
recording whole.

Shape suffixes: T samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

RATE = 16_000
FRAME = 512
"""Samples that are scored at once; the network takes no other number at 16 kHz."""
SPEECH, HYSTERESIS = 0.5, 0.15
MIN_SILENCE, MIN_SPEECH, PADDING = 0.3, 0.15, 0.1
"""Seconds: a shorter silence is a pause within speech, a shorter sound is none; what is kept on each side of it."""


@dataclass(frozen=True)
class Span:
    """Seconds of the recording in which somebody speaks."""

    start: float
    end: float


class VoiceActivity:
    """Finds the spans of one recording, which comes in pieces of any length."""

    def __init__(self) -> None:
        from silero_vad import load_silero_vad

        self._network = load_silero_vad()
        self._network.reset_states()
        self._rest_T = np.zeros(0, dtype=np.float32)
        self._frames = 0
        self._start: int | None = None
        self._quiet_from: int | None = None
        self._last_end = 0.0

    @torch.no_grad()
    def feed(self, samples_T: np.ndarray) -> Iterator[Span]:
        """The next samples, float32 at 16 kHz; yields the spans that ended in them."""
        samples_T = np.concatenate([self._rest_T, samples_T])
        whole = len(samples_T) // FRAME * FRAME
        self._rest_T = samples_T[whole:].copy()
        for begin in range(0, whole, FRAME):
            frame_T = torch.from_numpy(np.ascontiguousarray(samples_T[begin : begin + FRAME]))
            span = self._step(float(self._network(frame_T, RATE)))
            if span is not None:
                yield span

    def finish(self) -> Iterator[Span]:
        """The span that lasts to the end, if there is one."""
        if len(self._rest_T):
            yield from self.feed(np.zeros(FRAME - len(self._rest_T), dtype=np.float32))
        if self._start is not None:
            span = self._span(self._frames)
            if span is not None:
                yield span
            self._start = None

    @property
    def speaking(self) -> bool:
        """Whether speech has begun that has not ended yet."""
        return self._start is not None

    @property
    def settled(self) -> float:
        """Seconds before which nothing more will be found."""
        place = self._frames if self._start is None else self._start
        return max(self._last_end, place * FRAME / RATE - PADDING)

    def _step(self, score: float) -> Span | None:
        frame, self._frames = self._frames, self._frames + 1
        if score >= SPEECH:
            self._quiet_from = None
            if self._start is None:
                self._start = frame
        elif self._start is not None and score < SPEECH - HYSTERESIS:
            if self._quiet_from is None:
                self._quiet_from = frame
            if (frame + 1 - self._quiet_from) * FRAME >= MIN_SILENCE * RATE:
                span = self._span(self._quiet_from)
                self._start = self._quiet_from = None
                return span
        return None

    def _span(self, end: int) -> Span | None:
        """The span from the present start; it neither overlaps the one before, nor is it shorter than speech."""
        assert self._start is not None
        if (end - self._start) * FRAME < MIN_SPEECH * RATE:
            return None
        start = max(self._last_end, self._start * FRAME / RATE - PADDING)
        self._last_end = end * FRAME / RATE + PADDING
        return Span(start, self._last_end)

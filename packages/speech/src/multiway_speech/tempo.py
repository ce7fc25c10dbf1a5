"""Faster or slower speech at the same pitch (FFmpeg's WSOLA), for models without durations that could be changed."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.filter import Graph

SLOWEST, FASTEST = 0.5, 2.0
"""Speeds; beyond these, speech is not understood."""


class Tempo:
    """Takes samples in pieces and gives them back in another tempo."""

    def __init__(self, rate: int, speed: float) -> None:
        """``rate``: samples a second; ``speed``: of :data:`SLOWEST` to :data:`FASTEST`, 1 leaves all as it is."""
        self._graph: Graph | None = None
        self._rate, self._time = rate, 0
        if speed != 1.0:
            self._graph = Graph()
            source = self._graph.add_abuffer(
                sample_rate=rate, format="flt", layout="mono", time_base=Fraction(1, rate)
            )
            tempo = self._graph.add("atempo", f"{speed:.4f}")
            sink = self._graph.add("abuffersink")
            source.link_to(tempo)
            tempo.link_to(sink)
            self._graph.configure()

    def feed(self, samples_N: np.ndarray) -> np.ndarray:
        """The next samples, float32 (N,); what can be said of them so far."""
        if self._graph is None or not len(samples_N):
            return samples_N
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples_N[None], dtype=np.float32), format="flt", layout="mono"
        )
        frame.sample_rate, frame.pts = self._rate, self._time
        self._time += len(samples_N)
        self._graph.push(frame)
        return self._ready()

    def finish(self) -> np.ndarray:
        """What is left, float32 (N,)."""
        if self._graph is None or not self._time:
            return np.zeros(0, dtype=np.float32)
        self._graph.push(None)
        return self._ready()

    def _ready(self) -> np.ndarray:
        def pull() -> Iterator[np.ndarray]:
            assert self._graph is not None
            while True:
                try:
                    yield self._graph.pull().to_ndarray().reshape(-1)
                except (av.BlockingIOError, av.EOFError):
                    return

        return np.concatenate([np.zeros(0, dtype=np.float32), *pull()])

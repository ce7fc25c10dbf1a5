"""Speaker clustering by embeddings, which gives each segment its speaker.

Before the first segment is written all sound has been heard, and where the sentences in it are. They are grouped by
their embeddings (:mod:`multiway_speech.vibevoice_asr.speaker_encoder`), the most alike first, and a segment is then the
nearest group's. So a segment has its speaker at once, told by all that follows too, and keeps it in the transcript.

Shape suffixes: N columns, M mel bands, S stretches, E embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from multiway_speech.result import Segment
from multiway_speech.vibevoice_asr.speaker_encoder import SpeakerEncoder, VoiceColumns

NEAR_SECONDS, NEAR = (0.6, 2.6), (0.61, 0.765)
"""Cosine from which on two voices are one, by the seconds of the shorter stretch: what is short is less like anything.
With equal errors on the sentences of conversations that were mixed for this."""
SHORT_SECONDS = 0.6
"""Shorter stretches open no group of their own, unless there is no other."""
BREATH_SECONDS = 0.3
"""A longer pause between words may be a change of speakers."""
_COLUMN_RATE = 100
_FEWEST = 10
"""Columns of a stretch at least."""


class Embeddings:
    """The embedding of any stretch of one recording, made when it is first asked for."""

    def __init__(self, encoder: SpeakerEncoder, columns: VoiceColumns) -> None:
        self._encoder = encoder
        self._mels_NM, self._power_N = columns.finish()
        self._made: dict[tuple[int, int], np.ndarray] = {}

    def __call__(self, start: float, end: float) -> np.ndarray:
        """(E,) of the sound between two times in seconds; behind the end it is that of the last columns."""
        first = max(0, min(int(start * _COLUMN_RATE), len(self._mels_NM) - _FEWEST))
        last = max(first + _FEWEST, int(end * _COLUMN_RATE))
        if (first, last) not in self._made:
            stretch = slice(first, last)
            embedding = self._encoder.embed_columns(self._mels_NM[stretch], self._power_N[stretch])
            self._made[first, last] = embedding.float().cpu().numpy()
        return self._made[first, last]


class SpeakerClusters:
    """The voices of one recording, numbered as their segments come."""

    def __init__(self, embeddings: Embeddings, stretches: Sequence[tuple[float, float]] = ()) -> None:
        """``stretches``: start and end in seconds of what single speakers say, if known; else segments open voices."""
        self._embeddings = embeddings
        self._known = bool(stretches)
        self._sums: list[np.ndarray] = []
        self._numbers: dict[int, int] = {}
        if stretches:
            embeddings_SE = np.stack([embeddings(*stretch) for stretch in stretches])
            seconds_S = np.array([_weight(*stretch) for stretch in stretches])
            for group in cluster_embeddings(embeddings_SE, seconds_S):
                self._sums.append(seconds_S[group] @ embeddings_SE[group])

    def assign(self, segment: Segment) -> Segment:
        """The segment with its speaker's number; where nobody speaks it stays as it is."""
        if segment.speaker is None:
            return segment
        voice_E, seconds = self._embeddings(segment.start, segment.end), _weight(segment.start, segment.end)
        cosines = [float(voice_E @ sum_E / np.linalg.norm(sum_E)) for sum_E in self._sums]
        nearest = int(np.argmax(cosines)) if cosines else 0
        unlike = seconds >= SHORT_SECONDS and not self._known and cosines and cosines[nearest] < near(seconds)
        if not cosines or unlike:
            nearest = len(self._sums)
            self._sums.append(np.zeros_like(voice_E))
        self._sums[nearest] = self._sums[nearest] + seconds * voice_E
        return replace(segment, speaker=self._numbers.setdefault(nearest, len(self._numbers)))


def near(seconds: float | np.ndarray) -> np.ndarray:
    """The cosine from which on voices are one, where the shorter stretch has so many seconds."""
    return np.asarray(np.interp(seconds, NEAR_SECONDS, NEAR))


def cluster_embeddings(embeddings_SE: np.ndarray, seconds_S: np.ndarray) -> list[list[int]]:
    """Stretches of one voice each: the most alike are joined while they are near, in the mean weighted by time."""
    nearness_SS = embeddings_SE @ embeddings_SE.T - near(np.minimum.outer(seconds_S, seconds_S))
    weights_SS = np.outer(seconds_S, seconds_S)
    long = [place for place, seconds in enumerate(seconds_S) if seconds >= SHORT_SECONDS]
    groups = [[place] for place in long or [int(np.argmax(seconds_S))]]
    opened = {place for group in groups for place in group}

    def alike(one: Sequence[int], other: Sequence[int]) -> float:
        pairs = np.ix_(one, other)
        return float(np.average(nearness_SS[pairs], weights=weights_SS[pairs]))

    while len(groups) > 1:
        pairs = [(alike(groups[a], groups[b]), a, b) for b in range(len(groups)) for a in range(b)]
        nearness, a, b = max(pairs)
        if nearness < 0.0:
            break
        groups[a] += groups.pop(b)
    founders = [list(group) for group in groups]
    for place in range(len(seconds_S)):
        if place not in opened:
            nearest = max(range(len(groups)), key=lambda number: alike([place], founders[number]))
            groups[nearest].append(place)
    return groups


def _weight(start: float, end: float) -> float:
    return max(end - start, _FEWEST / _COLUMN_RATE)

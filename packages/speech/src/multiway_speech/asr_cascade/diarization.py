"""Who speaks when: embeddings of short windows of speech, clustered over the whole recording.

Windows of 1.6 s every 0.8 s, as the GE2E encoder was trained on, are embedded and clustered by average linkage, while
two clusters are nearer than a threshold in cosine, or until no more are left than were asked for. Each window answers
for what is nearest to its middle.

Shape suffixes: T samples, W windows, E embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.cluster import hierarchy

from multiway_speech.asr_cascade.voice_activity import Span
from multiway_speech.vibevoice_asr.speaker_clustering import near
from multiway_speech.vibevoice_asr.speaker_encoder import (
    WINDOW,
    SpeakerEncoder,
    VoiceColumns,
    window_starts,
)

SECONDS = 0.01
"""Of a column."""
THRESHOLD = float(near(WINDOW * SECONDS))
"""Mean cosine from which on two clusters are one: with equal errors on conversations that were mixed for this. No real
meeting had a part in it."""
MIN_WINDOWS = 3
"""A smaller cluster, of less than 2.4 s, is no speaker if there is a larger one, but two voices at once, a laugh or a
cough: its windows go to the nearest speaker."""
MAX_LINKED = 6_000
"""Windows that are linked (75 minutes of speech; memory grows with their square). Of more, evenly spaced ones are, and
the others go to the nearest cluster."""


@dataclass(frozen=True)
class Turn:
    """Seconds in which one speaker speaks."""

    start: float
    end: float
    speaker: int


class Diarizer:
    """Hears the spans of speech of one recording, then tells its turns."""

    def __init__(self, encoder: SpeakerEncoder) -> None:
        self._encoder = encoder
        self._windows: list[Span] = []
        self._embeddings: list[np.ndarray] = []

    def hear(self, span: Span, samples_T: np.ndarray) -> None:
        """A span with its samples, float32 at 16 kHz; spans come in their order."""
        columns = VoiceColumns(self._encoder.config)
        columns.feed(torch.from_numpy(np.ascontiguousarray(samples_T)))
        mels_NM, power_N = columns.finish()
        starts = window_starts(len(mels_NM))
        self._embeddings.extend(self._encoder.embed_windows(mels_NM, power_N, starts).float().numpy())
        for start in starts:
            begin = span.start + start * SECONDS
            self._windows.append(Span(begin, min(begin + WINDOW * SECONDS, span.end)))

    def turns(self, max_speakers: int | None = None) -> list[Turn]:
        """All turns in order; speakers are numbered as they first speak."""
        if not self._windows:
            return []
        labels_W = cluster(np.stack(self._embeddings), max_speakers)
        numbers: dict[int, int] = {}
        turns: list[Turn] = []
        for cell, label in zip(_cells(self._windows), labels_W.tolist(), strict=True):
            speaker = numbers.setdefault(label, len(numbers))
            if turns and turns[-1].speaker == speaker and cell.start - turns[-1].end < 1e-3:
                turns[-1] = Turn(turns[-1].start, cell.end, speaker)
            else:
                turns.append(Turn(cell.start, cell.end, speaker))
        return turns


def _cells(windows: Sequence[Span]) -> list[Span]:
    """Of each window what is nearest to its middle: neighbours that overlap meet half-way."""
    meets = [
        (one.end + other.start) / 2 if other.start < one.end else None for one, other in pairwise(windows)
    ]
    return [
        Span(window.start if before is None else before, window.end if after is None else after)
        for window, before, after in zip(windows, [None, *meets], [*meets, None], strict=True)
    ]


def cluster(embeddings_WE: np.ndarray, max_speakers: int | None = None) -> np.ndarray:
    """A label for each window (W,), by average linkage of cosine distances."""
    count = len(embeddings_WE)
    if count < 2 or max_speakers == 1:
        return np.zeros(count, dtype=int)
    linked = np.unique(np.linspace(0, count - 1, min(count, MAX_LINKED)).astype(int))
    tree = hierarchy.linkage(embeddings_WE[linked], method="average", metric="cosine")
    labels = hierarchy.fcluster(tree, 1.0 - THRESHOLD, criterion="distance")
    if max_speakers is not None and labels.max() > max_speakers:
        labels = hierarchy.fcluster(tree, max_speakers, criterion="maxclust")
    sizes = np.bincount(labels)
    kept = np.flatnonzero(sizes >= max(1, min(sizes.max(), MIN_WINDOWS)))
    centres = np.stack([embeddings_WE[linked][labels == label].mean(0) for label in kept])
    nearest_W = kept[(embeddings_WE @ (centres / np.linalg.norm(centres, axis=1, keepdims=True)).T).argmax(1)]
    firm = np.isin(labels, kept)
    nearest_W[linked[firm]] = labels[firm]
    return nearest_W

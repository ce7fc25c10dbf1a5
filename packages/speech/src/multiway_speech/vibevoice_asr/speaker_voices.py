"""Whose voice a segment has, from the acoustic frames: for small models, which tell voices apart less well than words.

A linear discriminant map of the mean and the spread of a segment's frames, fitted to segments of known speakers, and a
list of the voices so far: a segment is its nearest voice's, or a new speaker's where none is near.

Shape suffixes: F frames, D latent size, V numbers of a voice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from multiway_speech.result import Segment

if TYPE_CHECKING:  # of the recipe, which who only transcribes need not load
    from multiway_speech.vibevoice_asr.features import Features

NEAR = 2.6
"""Distance, of which the spread within a speaker is 1, up to which two voices are one: with equal errors."""
SHORT_SECONDS, NEAR_SHORT = 1.0, 1.4
"""Shorter segments are less sure, and their distance may be so many times larger."""


class VoiceMap(nn.Module):
    """Frames of a segment -> numbers of its voice."""

    def __init__(self, latent_size: int, voice_size: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(2 * latent_size))
        self.map = nn.Parameter(torch.zeros(2 * latent_size, voice_size))

    def forward(self, latents_FD: Tensor) -> Tensor:
        """(F, D) -> (V,)."""
        return (_statistics(latents_FD) - self.mean) @ self.map


class Voices:
    """The voices of one recording, in the order in which they appear."""

    def __init__(self, voice_map: VoiceMap, latents_FD: Tensor, frame_rate: float) -> None:
        self._map, self._latents_FD, self._rate = voice_map, latents_FD, frame_rate
        self._voices: list[tuple[Tensor, float]] = []

    @torch.no_grad()
    def named(self, segment: Segment) -> Segment:
        """The segment with its speaker's number; where nobody speaks it stays as it is."""
        if segment.speaker is None:
            return segment
        first = min(int(segment.start * self._rate), len(self._latents_FD) - 1)
        frames_FD = self._latents_FD[first : max(first + 1, int(segment.end * self._rate))]
        voice_V, weight = self._map(frames_FD), float(len(frames_FD))
        distances = [float((voice_V - known_V).norm()) / len(voice_V) ** 0.5 for known_V, _ in self._voices]
        near = NEAR * (NEAR_SHORT if segment.end - segment.start < SHORT_SECONDS else 1.0)
        number = int(np.argmin(distances)) if distances else 0
        if not distances or distances[number] > near:
            self._voices.append((voice_V, weight))
            return replace(segment, speaker=len(self._voices) - 1)
        known_V, before = self._voices[number]
        mixed_V = (known_V * before + voice_V * weight) / (before + weight)
        self._voices[number] = (mixed_V, before + weight)
        return replace(segment, speaker=number)


def fit_voices(features: Features, latent_size: int, voice_size: int) -> VoiceMap:
    """Linear discriminants of speakers within conversations (resampled voices are speakers of their own)."""
    spoken: dict[tuple[int, int], list[Tensor]] = {}
    for place, entry in enumerate(features.entries):
        frames_FD = torch.from_numpy(features.frames(place)[:, :latent_size].astype(np.float32))
        for start, end, speaker, _ in entry.segments:
            part_FD = frames_FD[int(start * 25) : int(end * 25)]
            if speaker is not None and len(part_FD) >= 12:
                spoken.setdefault((place, speaker), []).append(_statistics(part_FD))
    means = torch.stack([torch.stack(rows).mean(0) for rows in spoken.values()]).double()
    groups: Sequence[Tensor] = [torch.stack(rows).double() for rows in spoken.values() if len(rows) > 1]
    rest = torch.cat([(rows - rows.mean(0)) * (len(rows) / (len(rows) - 1)) ** 0.5 for rows in groups])
    within = rest.T @ rest / len(rest) + 1e-3 * torch.eye(2 * latent_size)
    white = torch.linalg.cholesky(torch.linalg.inv(within))
    _, directions = torch.linalg.eigh(white.T @ torch.cov(means.T) @ white)
    voice_map = VoiceMap(latent_size, voice_size)
    with torch.no_grad():
        voice_map.mean.copy_(means.mean(0))
        voice_map.map.copy_((white @ directions).flip(1)[:, :voice_size])
    return voice_map


def _statistics(latents_FD: Tensor) -> Tensor:
    return torch.cat([latents_FD.mean(0), latents_FD.std(0, unbiased=False)])

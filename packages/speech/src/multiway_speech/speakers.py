"""Fewer speakers than the recognizer heard: where it took one voice for two, the most alike become one.

A voice is the mean of its cepstra (the shape of the spectrum, without its level) over all stretches in which nobody
else speaks. Two voices are as far apart as their means, each coefficient in units of its spread within the speakers.
This tells voices of one recording apart, no more: no network, and nothing that would find a person in another one.

Shape suffixes: T samples, N columns, M mels, C cepstral coefficients, S speakers.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from multiway_speech.audio import Sound
from multiway_speech.result import Segment, Transcript
from multiway_speech.speech_tokenizer.spectral import log_mel

RATE, FFT_SIZE, HOP = 16_000, 512, 256
NUM_MELS, NUM_COEFFICIENTS = 40, 20
QUIET = 1.5
"""Columns whose mean log-mel is so far below the recording's loudest tenth are no voice."""


def limit_speakers(transcript: Transcript, sound: Sound, most: int) -> Transcript:
    """The transcript with at most ``most`` (1 or more) speakers, numbered by their first words; see the module.

    ``sound`` is what was transcribed; it is heard once more, unless there are no more speakers than that.
    """
    if len(transcript.speakers) <= most:
        return transcript
    groups = [{speaker} for speaker in transcript.speakers]
    if most == 1:
        groups = [set(transcript.speakers)]
    else:
        counts_S, means_SC, squares_SC = _voices(transcript.segments, sound, transcript.speakers)
        while len(groups) > most:
            one, other = _closest(counts_S, means_SC, squares_SC)
            total = counts_S[one] + counts_S[other]
            for values in (means_SC, squares_SC):
                values[one] = (counts_S[one] * values[one] + counts_S[other] * values[other]) / max(total, 1)
            counts_S[one] = total
            groups[one] |= groups.pop(other)
            counts_S, means_SC, squares_SC = (
                np.delete(values, other, axis=0) for values in (counts_S, means_SC, squares_SC)
            )
    return replace(transcript, segments=_renumbered(transcript.segments, groups))


def _voices(
    segments: tuple[Segment, ...], sound: Sound, speakers: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each speaker the number of columns (S,), and means and mean squares of the cepstra (S, C)."""
    cepstra_NC, level_N = _cepstra(sound)
    speaking_SN = np.zeros((len(speakers), len(level_N)), dtype=bool)
    for segment in segments:
        if segment.speaker is not None:
            start, end = (round(seconds * RATE / HOP) for seconds in (segment.start, segment.end))
            speaking_SN[speakers.index(segment.speaker), start:end] = True
    alone_SN = speaking_SN & (speaking_SN.sum(0) == 1)
    # Who never speaks alone is judged by what there is.
    used_SN = np.where(alone_SN.any(1, keepdims=True), alone_SN, speaking_SN)
    voiced_N = level_N > np.quantile(level_N, 0.9) - QUIET if len(level_N) else level_N > 0
    used_SN = np.where((used_SN & voiced_N).any(1, keepdims=True), used_SN & voiced_N, used_SN)
    weights_SN = used_SN / np.maximum(used_SN.sum(1, keepdims=True), 1)
    return used_SN.sum(1).astype(float), weights_SN @ cepstra_NC, weights_SN @ np.square(cepstra_NC)


def _cepstra(sound: Sound) -> tuple[np.ndarray, np.ndarray]:
    """Cepstra (N, C) without the level, and the level (N,): the mean log-mel value of each column."""
    place_M = (np.arange(NUM_MELS) + 0.5) * math.pi / NUM_MELS
    cosines_MC = np.cos(np.outer(place_M, np.arange(1, NUM_COEFFICIENTS + 1)))
    cepstra: list[np.ndarray] = []
    levels: list[np.ndarray] = []
    rest_T = np.zeros(0, dtype=np.float32)
    for piece_T in sound.pieces(RATE):
        heard_T = np.concatenate([rest_T, piece_T])
        columns = max(0, (len(heard_T) - FFT_SIZE) // HOP + 1)
        rest_T = heard_T[columns * HOP :]
        if columns:
            part_1T = torch.from_numpy(heard_T[: (columns - 1) * HOP + FFT_SIZE])[None]
            mels_NM = log_mel(part_1T, fft_size=FFT_SIZE, hop=HOP, num_mels=NUM_MELS, sample_rate=RATE)[
                0
            ].T.numpy()
            cepstra.append(mels_NM @ cosines_MC)
            levels.append(mels_NM.mean(1))
    if not cepstra:
        return np.zeros((0, NUM_COEFFICIENTS)), np.zeros(0)
    return np.concatenate(cepstra), np.concatenate(levels)


def _closest(counts_S: np.ndarray, means_SC: np.ndarray, squares_SC: np.ndarray) -> tuple[int, int]:
    """The two most alike; who is not heard at all is like whoever speaks most."""
    for silent in np.flatnonzero(counts_S == 0)[::-1]:
        other = int(np.argmax(counts_S))
        return (min(other, int(silent)), max(other, int(silent))) if other != silent else (0, 1)
    within_C = np.average(squares_SC - np.square(means_SC), axis=0, weights=counts_S)
    scaled_SC = means_SC / np.sqrt(np.maximum(within_C, 1e-6))
    distance_SS = np.square(scaled_SC[:, None] - scaled_SC[None]).sum(-1)
    distance_SS[np.tril_indices(len(distance_SS))] = np.inf
    one, other = np.unravel_index(np.argmin(distance_SS), distance_SS.shape)
    return int(one), int(other)


def _renumbered(segments: tuple[Segment, ...], groups: list[set[int]]) -> tuple[Segment, ...]:
    """Each speaker's group as a number, counted by the first segment."""
    numbers: dict[int, int] = {}
    found = []
    for segment in segments:
        if segment.speaker is not None:
            group = next(index for index, members in enumerate(groups) if segment.speaker in members)
            segment = replace(segment, speaker=numbers.setdefault(group, len(numbers)))
        found.append(segment)
    return tuple(found)

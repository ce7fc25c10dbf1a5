"""Segments are given to speakers by their voices, and hold the words that were recognized."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from multiway_speech.result import Segment
from multiway_speech.vibevoice_asr.speaker_clustering import (
    Embeddings,
    SpeakerClusters,
    cluster_embeddings,
    near,
)
from multiway_speech.vibevoice_asr.speaker_encoder import SpeakerEncoderConfig, VoiceColumns
from multiway_speech.vibevoice_asr.transcript_correction import TranscriptCorrector
from multiway_speech.vibevoice_asr.whisper import Word
from torch import Tensor


class NoEncoder(torch.nn.Module):
    """In the place of the speaker encoder: a voice is the spectrum that it has in the middle of the stretch."""

    def embed_columns(self, mels_NM: Tensor, power_N: Tensor) -> Tensor:
        assert len(mels_NM) == len(power_N) > 0
        return torch.nn.functional.normalize(mels_NM.mean(0), dim=0)


def hummed(turns: list[tuple[int, float]]) -> Embeddings:
    """So many seconds of each voice, which hums a tone of its own."""
    columns = VoiceColumns(SpeakerEncoderConfig())
    for voice, seconds in turns:
        columns.feed(torch.sin(torch.arange(int(seconds * 16_000)) * (0.1 + 0.25 * voice)) * 0.1)
    return Embeddings(NoEncoder(), columns)


def times(turns: list[tuple[int, float]]) -> list[tuple[float, float]]:
    ends = np.cumsum([seconds for _, seconds in turns]).tolist()
    return list(zip([0.0, *ends[:-1]], ends, strict=True))


def speakers(voices: SpeakerClusters, stretches: list[tuple[float, float]]) -> list[int | None]:
    return [voices.assign(Segment(start, end, 7, "Yes.")).speaker for start, end in stretches]


@pytest.mark.parametrize("ahead", [True, False])
def test_voices_are_told_apart_and_found_again(ahead: bool) -> None:
    turns = [(2, 2.0), (0, 2.0), (2, 1.5), (1, 3.0), (0, 2.0)]
    voices = SpeakerClusters(hummed(turns), times(turns) if ahead else ())
    assert speakers(voices, times(turns)) == [0, 1, 0, 2, 1]
    assert voices.assign(Segment(0.0, 2.0, None, "[Noise]")).speaker is None
    assert voices.assign(Segment(11.0, 12.0, 0, "Behind the end.")).speaker == 1


def test_short_stretches_open_no_voice_but_the_first() -> None:
    turns = [(0, 0.4), (1, 2.0), (2, 0.5), (1, 2.0)]
    assert len(set(speakers(SpeakerClusters(hummed(turns), times(turns)), times(turns)))) == 1
    assert speakers(SpeakerClusters(hummed(turns[:1]), times(turns[:1])), times(turns[:1])) == [0]
    assert speakers(SpeakerClusters(hummed(turns)), [(0.0, 0.0), (0.4, 2.4)]) == [0, 1]


def test_groups_are_joined_by_their_mean() -> None:
    angles = np.array([0.0, 0.4, 0.8, 2.0, 1.0])  # the last one is short, and nearest to the third
    points_SE = np.stack([np.cos(angles), np.sin(angles)], 1)
    assert math.cos(0.4) > (math.cos(0.4) + math.cos(0.8)) / 2 > near(2.0) > math.cos(0.8)
    groups = cluster_embeddings(points_SE, np.array([2.0, 2.0, 2.0, 2.0, 0.3]))
    assert sorted(map(sorted, groups)) == [[0, 1, 2, 4], [3]]


def test_what_is_written_is_kept_to_what_was_recognized() -> None:
    said = "We met Sambrana there. I see. It works"
    words = [Word(word, 0.5 * place, 0.5 * place + 0.4) for place, word in enumerate(said.split())]
    copied = TranscriptCorrector(words, "Zambrana, Mesner")
    first = copied.checked(Segment(0.0, 1.8, 0, "We met met Zambrana her."))
    assert first.text == "We met Zambrana there."
    second = copied.checked(Segment(2.0, 3.2, 1, "I see see it."))
    assert second.text == "I see"
    assert copied.checked(Segment(3.2, 3.9, None, "[Noise]")).text == "[Noise]"
    assert copied.checked(Segment(3.0, 4.0, 1, "It worked")).text == "It works"
    assert copied.checked(Segment(4.0, 4.5, 1, "Nothing more")).text == "Nothing more"


def test_no_recognized_word_is_lost_where_the_decoder_ends_too_early() -> None:
    said = [
        ("And", 0.0),
        ("so", 1.0),
        ("it", 1.5),
        ("goes.", 2.0),
        ("Mister", 2.5),
        ("Sambrana", 3.6),
        ("hm", 9.0),
    ]
    words = [Word(text, start, start + 0.45) for text, start in said]
    copied = TranscriptCorrector(words, "Zambrana")
    segments = [Segment(0.0, 0.5, 0, "And"), Segment(8.5, 9.9, None, "[Noise]")]
    assert copied.checked(segments[0]).text == "And"
    rest = copied.rest(segments)
    assert [(segment.start, segment.end, segment.text) for segment in rest] == [
        (1.0, 2.45, "so it goes."),
        (2.5, 2.95, "Mister"),
        (3.6, 4.05, "Zambrana"),
    ]
    assert copied.rest(segments) == []


def test_a_word_is_not_said_twice_where_its_segment_is_too_short() -> None:
    copied = TranscriptCorrector([Word("eight", 0.0, 0.5)], "")
    segment = Segment(0.0, 0.0, 0, "88")
    assert copied.checked(segment) == Segment(0.0, 0.5, 0, "eight")
    assert copied.rest([segment]) == []

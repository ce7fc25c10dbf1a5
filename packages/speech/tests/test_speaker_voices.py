"""Segments are given to speakers by their voices, and hold the words that were recognized."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from multiway_speech.result import Segment
from multiway_speech.vibevoice_asr.copied_words import CopiedWords
from multiway_speech.vibevoice_asr.features import Features
from multiway_speech.vibevoice_asr.speaker_voices import Voices, fit_voices
from multiway_speech.vibevoice_asr.whisper_reader import Word


def spoken(centres: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Two seconds of each voice: frames around its centre."""
    return np.concatenate([centre + rng.standard_normal((50, 4)) * 0.5 for centre in centres])


def test_voices_are_told_apart_and_found_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, lines = [], []
    for number in range(30):
        first, second = rng.standard_normal((2, 4)) * 2
        rows.append(spoken([first, second, first, second], rng))
        said = [[2.0 * turn, 2.0 * turn + 2.0, turn % 2, "Yes."] for turn in range(4)]
        lines.append(json.dumps({"start": 200 * number, "frames": 200, "seconds": 8.0, "segments": said}))
    np.save(tmp_path / "frames.npy", np.concatenate(rows).astype(np.float16))
    np.save(tmp_path / "labels.npy", np.zeros((6000, 2), dtype=np.uint8))
    (tmp_path / "index.jsonl").write_text("\n".join(lines))
    voice_map = fit_voices(Features([tmp_path]), 4, 3)

    high, low = np.full(4, 2.0), np.full(4, -2.0)
    latents = torch.from_numpy(spoken([high, low, high, low, high], rng)).float()
    voices = Voices(voice_map, latents, frame_rate=25.0)
    segments = [Segment(2.0 * turn, 2.0 * turn + 2.0, 7, "Yes.") for turn in range(5)]
    assert [voices.named(segment).speaker for segment in segments] == [0, 1, 0, 1, 0]
    assert voices.named(Segment(0.0, 2.0, None, "[Noise]")).speaker is None
    assert voices.named(Segment(11.0, 12.0, 0, "Behind the end.")).speaker is not None


def test_what_is_written_is_kept_to_what_was_recognized() -> None:
    said = "We met Sambrana there. I see. It works"
    words = [Word(word, 0.5 * place, 0.5 * place + 0.4) for place, word in enumerate(said.split())]
    copied = CopiedWords(words, "Zambrana, Mesner")
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
    copied = CopiedWords(words, "Zambrana")
    segments = [Segment(0.0, 0.5, 0, "And"), Segment(8.5, 9.9, None, "[Noise]")]
    assert copied.checked(segments[0]).text == "And"
    rest = copied.rest(segments)
    assert [(segment.start, segment.end, segment.text) for segment in rest] == [
        (1.0, 2.45, "so it goes."),
        (2.5, 2.95, "Mister"),
        (3.6, 4.05, "Zambrana"),
    ]
    assert copied.rest(segments) == []

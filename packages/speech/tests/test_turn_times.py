"""When turns were spoken: sound with known gaps, made of tones whose lengths follow their texts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from multiway_speech.turn_times import turn_times

RATE = 16_000


def spoken(turns, rng, *, gap=(0.2, 0.5), inner=0.12):
    """Noise for each text, a word at a time with short pauses between some; and the true times."""
    parts, times, count = [], [], 0
    for index, text in enumerate(turns):
        if index:
            parts.append(np.zeros(int(RATE * rng.uniform(*gap))))
        start = sum(map(len, parts))
        pace = rng.uniform(0.05, 0.075)
        for number, word in enumerate(text.split()):
            if number and number % 4 == 0:
                parts.append(np.zeros(int(RATE * inner)))
            parts.append(rng.normal(size=int(RATE * pace * (len(word) + 1))) * 0.1)
        count = sum(map(len, parts))
        times.append((start / RATE, count / RATE))
    return np.concatenate(parts).astype(np.float32), times


def test_turns_end_in_the_pauses_that_fit_their_lengths() -> None:
    rng = np.random.default_rng(0)
    words = ["speech", "is", "made", "of", "turns", "and", "pauses", "between", "them", "always"]
    errors = []
    for _ in range(20):
        turns = [" ".join(rng.choice(words, size=rng.integers(2, 15))) for _ in range(6)]
        sound, true = spoken(turns, rng)
        found = turn_times(sound, RATE, turns)
        assert len(found) == 6
        assert all(start < end for start, end in found)
        assert all(one[1] <= other[0] for one, other in pairwise(found))
        errors += [abs(one[0] - other[0]) for one, other in zip(found, true, strict=True)]
    assert np.median(errors) < 0.02
    assert np.mean(np.array(errors) < 0.25) > 0.9


def test_one_turn_is_the_sound_without_the_silence_around_it() -> None:
    sound = np.zeros(3 * RATE)
    sound[RATE : 2 * RATE] = 0.1
    assert turn_times(sound, RATE, ["Hello."]) == [(pytest.approx(1.0), pytest.approx(2.0))]


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(100), np.zeros(RATE), np.ones(RATE)])
def test_sound_without_pauses_is_divided_by_the_lengths_of_the_texts(samples) -> None:
    found = turn_times(samples, RATE, ["One two three four.", "Five."])
    assert len(found) == 2
    assert 0 <= found[0][0] <= found[0][1] <= found[1][0] <= found[1][1] <= len(samples) / RATE
    if len(samples) == RATE:
        assert found[0][1] == pytest.approx(18 * 0.04, abs=0.15)


def test_many_turns_are_quick() -> None:
    rng = np.random.default_rng(1)
    sound, true = spoken(["some words are said in this turn"] * 300, rng)
    found = turn_times(sound, RATE, ["some words are said in this turn"] * 300)
    assert np.mean([abs(one[0] - other[0]) < 0.5 for one, other in zip(found, true, strict=True)]) > 0.8

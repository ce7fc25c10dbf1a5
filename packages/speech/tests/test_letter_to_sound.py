"""The letter-to-sound model: alignment, smoothing, pruning and search by small cases, and the bundled one's measure."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from multiway_speech.pronunciation import graphones, ngram, recipe
from multiway_speech.pronunciation.letter_to_sound import LetterToSound, letter_to_sound, save

WORDS = [
    (word, tuple(phones.split()))
    for word, phones in (
        ("cat", "K AE1 T"), ("hat", "HH AE1 T"), ("fox", "F AA1 K S"), ("fax", "F AE1 K S"), ("that", "DH AE1 T"),
        ("thin", "TH IH1 N"), ("then", "DH EH1 N"), ("knit", "N IH1 T"), ("knot", "N AA1 T"), ("tin", "T IH1 N"),
        ("hit", "HH IH1 T"), ("hot", "HH AA1 T"), ("box", "B AA1 K S"), ("tax", "T AE1 K S"), ("kit", "K IH1 T"),
    )
]  # fmt: skip


def test_words_are_taken_apart() -> None:
    table = graphones.estimate(WORDS)
    assert table.sum() == pytest.approx(1.0)
    parts = dict(zip((word for word, _ in WORDS), graphones.take_apart(WORDS, table), strict=True))
    assert parts["cat"] == [("c", ("K",)), ("a", ("AE1",)), ("t", ("T",))]
    assert parts["fox"] == [("f", ("F",)), ("o", ("AA1",)), ("x", ("K", "S"))]
    assert parts["knit"] == [("k", ()), ("n", ("N",)), ("i", ("IH1",)), ("t", ("T",))]
    for word, phones in WORDS:
        found = parts[word]
        assert found is not None
        assert "".join(letter for letter, _ in found) == word
        assert tuple(itertools.chain.from_iterable(said for _, said in found)) == phones


def test_too_many_phones_cannot_be_taken_apart() -> None:
    table = graphones.estimate(WORDS)
    assert graphones.take_apart([("a", ("K", "AE1", "T"))], table) == [None]


def sequences(seed: int = 0, count: int = 400) -> list[list[int]]:
    """Sequences over five symbols, each likely to follow a certain other."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        sequence = [int(random.integers(2, 7))]
        while random.random() < 0.8:
            sequence.append(
                2 + (sequence[-1] + 1) % 5 if random.random() < 0.7 else int(random.integers(2, 7))
            )
        made.append(sequence)
    return made


def probability(model: ngram.Model, context: list[int], symbol: int) -> float:
    """By the definition: the longest n-gram that there is, and the factors of the contexts on the way to it."""
    factor = 1.0
    for begin in range(len(context) + 1):
        n = len(context) - begin
        key = sum(s << (model.bits * (n - i)) for i, s in enumerate([*context[begin:], symbol]))
        place = int(np.searchsorted(model.keys[n], np.uint64(key)))
        if place < len(model.keys[n]) and model.keys[n][place] == key:
            return factor * float(model.p[n][place])
        before = int(np.searchsorted(model.keys[n - 1], np.uint64(key >> model.bits)))
        if n and before < len(model.keys[n - 1]) and model.keys[n - 1][before] == key >> model.bits:
            factor *= float(model.backoffs(n - 1)[before])
    return 0.0


@pytest.mark.parametrize("threshold", [None, 2000.0])
def test_probabilities_sum_to_one(threshold: float | None) -> None:
    model = ngram.estimate(sequences(), 4)
    if threshold is not None:
        full, model = model, ngram.prune(model, threshold)
        assert 50 < len(model) < 0.7 * len(full)
    for context in ([], [0], [0, 3], [2, 4, 6], [6, 6, 6], [3, 5]):
        total = sum(probability(model, context, symbol) for symbol in (1, 2, 3, 4, 5, 6))
        assert total == pytest.approx(1.0, abs=0.02)


def test_longer_contexts_tell_more() -> None:
    def entropy(model: ngram.Model) -> float:
        costs = []
        for sequence in sequences(seed=1, count=60):
            text = [0, *sequence, 1]
            order = len(model.keys)
            costs += [
                -math.log(probability(model, text[max(0, i - order + 1) : i], text[i]))
                for i in range(1, len(text))
            ]
        return float(np.mean(costs))

    one, two = ngram.estimate(sequences(), 1), ngram.estimate(sequences(), 2)
    assert entropy(two) < entropy(one) - 0.2
    assert entropy(ngram.prune(two, 50.0)) < entropy(one) - 0.2


def test_too_long_ngrams_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 63 bits"):
        ngram.estimate([[2, 1000]], 7)


def test_search_finds_the_best(tmp_path: Path) -> None:
    """Against every combination of graphones, by the probabilities' definition."""
    table = graphones.estimate(WORDS)
    parted = [parts for parts in graphones.take_apart(WORDS, table) if parts is not None]
    known = sorted({graphone for parts in parted for graphone in parts})
    symbol = {graphone: place + 2 for place, graphone in enumerate(known)}
    model = ngram.estimate([[symbol[graphone] for graphone in parts] for parts in parted], 3)
    save(tmp_path / "model.xz", known, ngram.tree(model))
    pronounce = LetterToSound((tmp_path / "model.xz").read_bytes())
    for word in ("thot", "kax", "fit", "hax", "thin"):
        ways = itertools.product(*([g for g in known if g[0] == letter] for letter in word))

        def cost(way: tuple[graphones.Graphone, ...]) -> float:
            text = [0, *(symbol[graphone] for graphone in way), 1]
            return -sum(
                math.log(max(probability(model, text[max(0, i - 2) : i], text[i]), 1e-9))
                for i in range(1, len(text))
            )

        best = min((cost(way), way) for way in ways)
        said = pronounce(word)
        best_phones = tuple(itertools.chain.from_iterable(phones for _, phones in best[1]))
        assert said == best_phones
    assert pronounce("") == ()
    assert pronounce("?") == ()


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("blit", "B L IH1 T"),
        ("splood", "S P L UW1 D"),
        ("quibbing", "K W IH1 B IH0 NG"),
    ],
)
def test_bundled_model_reads_invented_words(word: str, phones: str) -> None:
    assert " ".join(letter_to_sound(word)) == phones


def test_bundled_model_on_words_that_it_has_not_seen() -> None:
    result = recipe.measure(letter_to_sound, recipe.held_out(150))
    assert result["phone_error_rate"] < 0.16
    assert result["word_error_rate_without_stress"] < 0.48


def test_held_out_words_go_by_their_stems() -> None:
    for family in (
        ("accept", "accepts", "accepted", "accepting"),
        ("walk", "walks", "walked", "walker", "walk's"),
    ):
        assert len({recipe.is_held_out(word) for word in family}) == 1
    words = recipe.dictionary()
    assert 0.04 < sum(map(recipe.is_held_out, words)) / len(words) < 0.06


def test_errors_are_edits() -> None:
    rates = recipe.measure(lambda word: tuple("sitting"), {"x": [tuple("kitten"), tuple("kittens")]})
    assert (rates["phone_error_rate"], rates["word_error_rate"]) == (0.5, 1.0)  # 3 of 6, of the nearest
    assert recipe.measure(lambda word: (), {"x": [("K",)]})["phone_error_rate"] == 1.0

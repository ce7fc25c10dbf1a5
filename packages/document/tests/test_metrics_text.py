"""Word F1, NED, CER, WER, ANLS, parsable share: hand-computed cases and a naive dynamic programme."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from multiway_document import metrics


def naive_distance(a: Sequence[str], b: Sequence[str]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("the cat sat", "the cat sat", 1.0),
        ("sat  the\ncat", "the cat sat", 1.0),  # order and kind of white space do not matter
        ("The cat", "the cat", 0.5),  # case does
        ("a a a", "a", 0.5),  # a repeated word counts once per occurrence: P 1/3, R 1
        ("", "a", 0.0),
        ("a", "", 0.0),
        ("", " \n", 1.0),
    ],
)
def test_word_f1_by_hand(prediction: str, reference: str, expected: float) -> None:
    assert metrics.word_f1(prediction, reference) == pytest.approx(expected)


def test_word_counts_add_up() -> None:
    pairs = [("a b c d", "a b c d"), ("x", "y z")]
    counts = metrics.count_words(*pairs[0]) + metrics.count_words(*pairs[1])
    # 4 matched of 5 predicted and 6 expected, not the mean of 1.0 and 0.0
    assert counts.f1 == pytest.approx(2 * 4 / 11)
    assert (counts.precision, counts.recall) == (pytest.approx(4 / 5), pytest.approx(4 / 6))
    assert metrics.WordCounts().f1 == 1.0


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("kitten", "sitting", 1 - 3 / 7),
        ("abc", "abc", 1.0),
        ("a  b\t c", "a b c", 1.0),
        ("a\nb", "a b", 1 - 1 / 3),  # a line break is a character
        ("a \r\n b", "a\nb", 1.0),
        ("", "abcd", 0.0),
        ("", "", 1.0),
    ],
)
def test_ned_by_hand(prediction: str, reference: str, expected: float) -> None:
    assert metrics.ned(prediction, reference) == pytest.approx(expected)
    assert metrics.ned(reference, prediction) == pytest.approx(expected)


def test_error_rates_by_hand() -> None:
    assert metrics.cer("kitten", "sitting") == pytest.approx(3 / 7)
    assert metrics.cer("abcdef", "abc") == 1.0
    assert metrics.cer("a  b", " a\nb ") == 0.0
    assert metrics.wer("the cat sat down", "the cat sits") == pytest.approx(2 / 3)
    for rate in (metrics.cer, metrics.wer):
        assert (rate("", ""), rate("x", ""), rate("", "x y")) == (0.0, 1.0, 1.0)


def test_corpus_rates_sum_edits_and_lengths() -> None:
    pairs = [("ab", "ab"), ("x", "abcdef gh")]
    assert metrics.corpus_cer(pairs) == pytest.approx((0 + 9) / (2 + 9))
    assert metrics.corpus_cer([]) == 0.0


def test_edit_distances_equal_the_naive_dynamic_programme() -> None:
    rng = random.Random(0)
    for _ in range(200):
        a, b = ("".join(rng.choice("abé中 ") for _ in range(rng.randint(0, 20))) for _ in range(2))
        squeezed = " ".join(a.split()), " ".join(b.split())
        assert metrics.character_edits(a, b) == (naive_distance(*squeezed), len(squeezed[1]))
        longest = max(map(len, squeezed))
        expected = 1 - naive_distance(*squeezed) / longest if longest else 1.0
        assert metrics.ned(a, b) == pytest.approx(expected)
        assert metrics.word_edits(a, b) == (naive_distance(a.split(), b.split()), len(b.split()))

"""Word F1 of OCREval (KOSMOS-2.5 paper, appendix A.2).

The paper counts true positive, false positive and false negative words but gives no matching rule. Ours: the
multiset intersection of whitespace-separated, case-sensitive words of one image; a category's score is the
F1 of the summed counts (micro average).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class WordCounts:
    """Words in both texts, in the prediction and in the reference; counts of images add up with ``+``."""

    matched: int = 0
    predicted: int = 0
    expected: int = 0

    def __add__(self, other: WordCounts) -> WordCounts:
        return WordCounts(
            self.matched + other.matched, self.predicted + other.predicted, self.expected + other.expected
        )

    @property
    def precision(self) -> float:
        """Matched / predicted; with nothing predicted 1.0 if nothing was expected either, else 0.0."""
        return self.matched / self.predicted if self.predicted else float(not self.expected)

    @property
    def recall(self) -> float:
        """Matched / expected; with nothing expected 1.0 if nothing was predicted either, else 0.0."""
        return self.matched / self.expected if self.expected else float(not self.predicted)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1.0 when both texts are empty."""
        total = self.predicted + self.expected
        return 2 * self.matched / total if total else 1.0


def count_words(prediction: str, reference: str) -> WordCounts:
    """The word counts of one image."""
    predicted, expected = Counter(prediction.split()), Counter(reference.split())
    return WordCounts((predicted & expected).total(), predicted.total(), expected.total())


def word_f1(prediction: str, reference: str) -> float:
    """Word F1 of one image, 0 to 1."""
    return count_words(prediction, reference).f1

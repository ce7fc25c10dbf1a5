"""Scores of labels, tags and rankings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def macro_f1(pairs: Iterable[tuple[str, str]]) -> float:
    """Mean over the labels of F1, of (predicted, right) pairs; a label that occurs in neither does not count."""
    pairs = list(pairs)
    values = []
    for label in {label for pair in pairs for label in pair}:
        hits = sum(predicted == right == label for predicted, right in pairs)
        total = sum((predicted == label) + (right == label) for predicted, right in pairs)
        values.append(2 * hits / total)
    return float(np.mean(values))


def spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """What BIO tags mark: (first word, word behind the last, label). ``I-X`` behind another thing begins a new one,
    as the script of CoNLL-2000 reads it; a tag without prefix marks its own word, ``O`` nothing."""
    found: list[tuple[int, int, str]] = []
    for place, tag in enumerate(tags):
        prefix, dash, label = tag.partition("-")
        if not dash or prefix not in ("B", "I"):
            if tag != "O":
                found.append((place, place + 1, tag))
        elif prefix == "I" and place and tags[place - 1] in (f"B-{label}", f"I-{label}"):
            found[-1] = (found[-1][0], place + 1, label)
        else:
            found.append((place, place + 1, label))
    return set(found)


def span_f1(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> float:
    """Micro F1 of the things marked by (predicted, right) tags of sentences: the words and the label must be right."""
    hits = total = 0
    for predicted, right in pairs:
        first, second = spans(predicted), spans(right)
        hits += len(first & second)
        total += len(first) + len(second)
    return 2 * hits / total if total else 0.0


def spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Rank correlation; equal values share the mean of their ranks."""
    ranks = [_ranks(np.asarray(values, np.float64)) for values in (one, other)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    return (ends - (counts - 1) / 2)[place]

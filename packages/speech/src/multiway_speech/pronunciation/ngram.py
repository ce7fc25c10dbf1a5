"""An n-gram model of symbols: interpolated Kneser-Ney smoothing, entropy pruning, and its form as a tree of arrays.

Symbols are characters, sequences are texts, so that n-grams are slices. Chen & Goodman, "An empirical study of
smoothing techniques for language modeling" (1999), give the smoothing with three discounts; Stolcke, "Entropy-based
pruning of backoff language models" (1998), the pruning.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BEGIN, END = "\x00", "\x01"
STEPS_PER_NAT = 16
"""Logarithms are kept in steps of 1/16, as bytes: from 0 to -16."""


@dataclass
class Tree:
    """The n-grams in order of their length, then of their symbols; node 0 is the empty one.

    Attributes:
        symbol: uint16 (N,), the last symbol of each n-gram.
        children: uint16 (N,), how many n-grams go on from each; they stand together, in the order of their parents.
        cost: uint8 (N,), -log p of the last symbol given those before, in steps.
        backoff: uint8 (N,), -log of the factor of shorter n-grams for what does not go on from here, in steps.
    """

    symbol: NDArray[np.uint16]
    children: NDArray[np.uint16]
    cost: NDArray[np.uint8]
    backoff: NDArray[np.uint8]


def _counts(sequences: list[str], order: int) -> list[dict[str, int]]:
    """Of n = 0 to ``order``: n-grams and how often they occur."""
    counts: list[Counter[str]] = [Counter() for _ in range(order + 1)]
    for sequence in sequences:
        text = BEGIN + sequence + END
        for n in range(1, order + 1):
            counts[n].update(text[i : i + n] for i in range(len(text) - n + 1))
    return [dict(count) for count in counts]


def _discounts(counts: dict[str, int]) -> tuple[float, float, float]:
    of = Counter(min(count, 4) for count in counts.values())
    y = of[1] / max(1, of[1] + 2 * of[2])
    d = [k - (k + 1) * y * of[k + 1] / max(1, of[k]) for k in (1, 2, 3)]
    return min(max(d[0], 0.1), 1.0), min(max(d[1], 0.1), 2.0), min(max(d[2], 0.1), 3.0)


def estimate(sequences: list[str], order: int) -> tuple[dict[str, float], dict[str, int]]:
    """Probability of the last symbol of every n-gram given those before it; and how often each occurs."""
    raw = _counts(sequences, order)
    p: dict[str, float] = {}
    for n in range(1, order + 1):
        counts = raw[n]
        if n < order:  # how many different symbols stand before it
            counts = defaultdict(int)
            for gram in raw[n + 1]:
                counts[gram[1:]] += 1
            counts.update((gram, count) for gram, count in raw[n].items() if gram[0] == BEGIN)
            counts = {gram: count for gram, count in counts.items() if gram != BEGIN}
        discounts = _discounts(counts)
        total: dict[str, int] = defaultdict(int)
        freed: dict[str, float] = defaultdict(float)
        for gram, count in counts.items():
            total[gram[:-1]] += count
            freed[gram[:-1]] += discounts[min(count, 3) - 1]
        for gram, count in counts.items():
            context = gram[:-1]
            lower = p[gram[1:]] if n > 1 else 1.0 / len(counts)
            kept = count - discounts[min(count, 3) - 1]
            p[gram] = (kept + freed[context] * lower) / total[context]
    occurrences = {gram: count for counts in raw[1:] for gram, count in counts.items()}
    return p, occurrences


def _backoffs(p: dict[str, float]) -> dict[str, float]:
    """Of each context: what its longer n-grams leave, over what shorter ones would give to others."""
    left: dict[str, float] = defaultdict(lambda: 1.0)
    lower: dict[str, float] = defaultdict(lambda: 1.0)
    for gram, value in p.items():
        if len(gram) > 1:
            left[gram[:-1]] -= value
            lower[gram[:-1]] -= probability(gram[1:], p, None)
    return {context: max(left[context], 1e-6) / max(lower[context], 1e-6) for context in left}


def probability(gram: str, p: dict[str, float], backoffs: dict[str, float] | None) -> float:
    """Of the last symbol of ``gram``; without ``backoffs``, of the longest n-gram that there is at its end."""
    factor = 1.0
    while gram not in p:
        if len(gram) == 1:
            return 1e-9
        if backoffs is not None:
            factor *= backoffs.get(gram[:-1], 1.0)
        gram = gram[1:]
    return factor * p[gram]


def prune(p: dict[str, float], occurrences: dict[str, int], threshold: float) -> dict[str, float]:
    """Without the n-grams whose loss changes the likelihood by less than ``threshold`` nats per million symbols."""
    backoffs = _backoffs(p)
    symbols = sum(count for gram, count in occurrences.items() if len(gram) == 1) / 1e6
    needed: set[str] = set()
    kept: dict[str, float] = {}
    for gram in sorted(p, key=len, reverse=True):
        if len(gram) > 1 and gram not in needed:
            shorter = backoffs.get(gram[:-1], 1.0) * probability(gram[1:], p, backoffs)
            gain = occurrences[gram] / symbols * (math.log(p[gram]) - math.log(shorter))
            if gain < threshold:
                continue
        kept[gram] = p[gram]
        needed.add(gram[:-1])
        if len(gram) > 2:
            needed.add(gram[1:])
    return kept


def tree(p: dict[str, float]) -> Tree:
    """Arrays of a model. Every n-gram's beginning is there as well."""
    grams = sorted({gram[:n] for gram in p for n in range(1, len(gram) + 1)}, key=lambda gram: (len(gram), gram))
    backoffs = _backoffs(p)
    children = Counter(gram[:-1] for gram in grams)

    def steps(value: float) -> int:
        return min(255, max(0, round(-math.log(value) * STEPS_PER_NAT)))

    return Tree(
        np.array([0, *(ord(gram[-1]) for gram in grams)], dtype=np.uint16),
        np.array([children[""], *(children[gram] for gram in grams)], dtype=np.uint16),
        np.array([0, *(steps(p[gram]) if gram in p else 255 for gram in grams)], dtype=np.uint8),
        np.array([0, *(steps(backoffs.get(gram, 1.0)) for gram in grams)], dtype=np.uint8),
    )

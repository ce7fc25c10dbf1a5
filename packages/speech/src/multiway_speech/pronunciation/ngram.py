"""An n-gram model of symbols: interpolated Kneser-Ney smoothing, entropy pruning, and its form as a tree of arrays.

Chen & Goodman, "An empirical study of smoothing techniques for language modeling" (1999), give the smoothing with
three discounts; Stolcke, "Entropy-based pruning of backoff language models" (1998), the pruning.

An n-gram is a number: its symbols' numbers in ``bits`` bits each, the last lowest. Then the n-gram without its last
symbol is ``key >> bits``, that without its first a mask away, and sorted keys have those with one beginning together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BEGIN, END = 0, 1
"""Symbols around every sequence."""
STEPS_PER_NAT = 16
"""Logarithms are kept in steps of 1/16, as bytes: from 0 to -16."""

Keys = NDArray[np.uint64]
Reals = NDArray[np.float64]


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


@dataclass
class Model:
    """Of each length from 1: the n-grams, their numbers of occurrences, and p of the last symbol given the others."""

    bits: int
    keys: list[Keys]
    counts: list[NDArray[np.intp]]
    p: list[Reals]

    def __len__(self) -> int:
        return sum(map(len, self.keys))

    def beginnings(self, n: int) -> NDArray[np.intp]:
        """For the n-grams at ``n`` (from 1): the places of what stands before their last symbols."""
        return np.searchsorted(self.keys[n - 1], self.keys[n] >> np.uint64(self.bits))

    def endings(self, n: int) -> NDArray[np.intp]:
        """For the n-grams at ``n`` (from 1): the places of what stands behind their first symbols."""
        mask = np.uint64((1 << (self.bits * n)) - 1)
        return np.searchsorted(self.keys[n - 1], self.keys[n] & mask)

    def backoffs(self, n: int) -> Reals:
        """For the n-grams at ``n``: what longer ones leave, over what shorter ones would give to others."""
        if n + 1 == len(self.keys):
            return np.ones(len(self.keys[n]))
        before, size = self.beginnings(n + 1), len(self.keys[n])
        left = 1.0 - np.bincount(before, self.p[n + 1], size)
        shorter = 1.0 - np.bincount(before, self.p[n][self.endings(n + 1)], size)
        return np.maximum(left, 1e-6) / np.maximum(shorter, 1e-6)


def estimate(sequences: list[list[int]], order: int) -> Model:
    """A model of n-grams up to ``order``. Symbols count from 2.

    Raises:
        ValueError: so many symbols in n-grams of such a length do not fit 63 bits.
    """
    around = [symbol for sequence in sequences for symbol in (BEGIN, *sequence, END)]
    text = np.array(around, dtype=np.uint64)
    word = np.repeat(np.arange(len(sequences)), [len(sequence) + 2 for sequence in sequences])
    bits = int(text.max()).bit_length()
    if bits * order > 63:
        raise ValueError(f"{order} symbols of {bits} bits do not fit 63 bits")
    model = Model(bits, [], [], [])
    window = text
    for n in range(1, order + 1):
        if n > 1:
            window = (window[:-1] << np.uint64(bits)) | text[n - 1 :]
        inside = word[: len(window)] == word[n - 1 :]
        keys, counts = np.unique(window[inside], return_counts=True)
        model.keys.append(keys)
        model.counts.append(counts)
    for n in range(order):
        model.p.append(_smoothed(model, n))
    return model


def _smoothed(model: Model, n: int) -> Reals:
    keys, counts = model.keys[n], model.counts[n].copy()
    if n + 1 < len(model.keys):  # how many different symbols stand before it; none stands before a beginning
        begins = keys >> np.uint64(model.bits * n) == BEGIN
        counts = np.where(begins, counts, np.bincount(model.endings(n + 1), minlength=len(keys)))
    if n == 0:
        counts[keys == BEGIN] = 0
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    if n == 0:
        predicted = keys != BEGIN
        return np.asarray((counts - discounts + predicted * discounts.sum() / predicted.sum()) / counts.sum())
    before, size = model.beginnings(n), len(model.keys[n - 1])
    total, freed = np.bincount(before, counts, size), np.bincount(before, discounts, size)
    return np.asarray((counts - discounts + freed[before] * model.p[n - 1][model.endings(n)]) / total[before])


def _discounts(counts: NDArray[np.intp]) -> Reals:
    """What is taken from a count of 0, 1, 2, and 3 or more."""
    of = np.bincount(np.minimum(counts, 5), minlength=6)[:5].astype(float)
    y = of[1] / max(1.0, of[1] + 2 * of[2])
    return np.array(
        [0.0, *(min(max(k - (k + 1) * y * of[k + 1] / max(1.0, of[k]), 0.1), k) for k in (1, 2, 3))]
    )


def prune(model: Model, threshold: float) -> Model:
    """Without the n-grams whose loss changes the log likelihood by less than ``threshold`` nats per million symbols."""
    symbols = model.counts[0].sum() / 1e6
    kept = [np.ones(len(keys), dtype=bool) for keys in model.keys]
    needed = [np.zeros(len(keys), dtype=bool) for keys in model.keys]
    for n in range(len(kept) - 1, 0, -1):
        before, behind = model.beginnings(n), model.endings(n)
        shorter = model.backoffs(n - 1)[before] * model.p[n - 1][behind]
        gain = model.counts[n] / symbols * np.log(model.p[n] / shorter)
        kept[n] = (gain >= threshold) | needed[n]
        needed[n - 1][before[kept[n]]] = True
        needed[n - 1][behind[kept[n]]] = True
    chosen = [np.flatnonzero(keep) for keep in kept]
    return Model(
        model.bits,
        [keys[places] for keys, places in zip(model.keys, chosen, strict=True)],
        [counts[places] for counts, places in zip(model.counts, chosen, strict=True)],
        [p[places] for p, places in zip(model.p, chosen, strict=True)],
    )


def tree(model: Model) -> Tree:
    """Arrays of a model."""
    last = np.uint64((1 << model.bits) - 1)
    children = [np.array([len(model.keys[0])])]
    for n in range(1, len(model.keys)):
        children.append(np.bincount(model.beginnings(n), minlength=len(model.keys[n - 1])))
    children.append(np.zeros(len(model.keys[-1]), dtype=np.intp))
    backoffs = [model.backoffs(n) for n in range(len(model.keys))]
    return Tree(
        np.concatenate([[0], *(keys & last for keys in model.keys)]).astype(np.uint16),
        np.concatenate(children).astype(np.uint16),
        _steps(np.concatenate([[1.0], *model.p])),
        _steps(np.concatenate([[1.0], *backoffs])),
    )


def _steps(value: Reals) -> NDArray[np.uint8]:
    return np.clip(np.rint(-np.log(np.maximum(value, 1e-9)) * STEPS_PER_NAT), 0, 255).astype(np.uint8)

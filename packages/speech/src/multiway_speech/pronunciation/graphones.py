"""Graphones: a one-to-many alignment of letters and phones.

A graphone is a letter with the none, one or two phones that it is said as (Bisani & Ney, "Joint-sequence models for
grapheme-to-phoneme conversion", 2008, with one letter each). Their probabilities come from expectation-maximization
on a dictionary; each word is then taken apart in the most probable way. Words of as many letters and as many phones go
through the recursions together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiway_speech.pronunciation.phones import CONSONANTS, STRESSES, VOWELS

Graphone = tuple[str, tuple[str, ...]]
"""A letter and its phones."""
Entry = tuple[str, tuple[str, ...]]
"""A word in letters ``a`` to ``z`` and apostrophes, and its phones."""

LETTERS = "'abcdefghijklmnopqrstuvwxyz"
MAX_PHONES = 2
_PHONES = (*CONSONANTS, *(vowel + stress for vowel in VOWELS for stress in STRESSES))
_CHUNKS = 1 + len(_PHONES) + len(_PHONES) ** 2
"""What a letter may be said as: nothing, a phone, or two."""


@dataclass
class _Group:
    """Words of L letters and P phones.

    Attributes:
        places: of the words in the whole list.
        letters: (N, L).
        chunks: for none, one and two phones: the number of the chunk that begins at each phone, (N, P + 1 - taken).
    """

    places: list[int]
    letters: NDArray[np.int64]
    chunks: list[NDArray[np.int64]]

    def scores(self, table: NDArray[np.float64], letter: int) -> list[NDArray[np.float64]]:
        return [table[self.letters[:, letter, None], chunks] for chunks in self.chunks]


def _groups(words: list[Entry]) -> Iterator[_Group]:
    number = {phone: place for place, phone in enumerate(_PHONES)}
    places: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, (spelling, phones) in enumerate(words):
        if 0 < len(phones) <= MAX_PHONES * len(spelling):
            places[len(spelling), len(phones)].append(place)
    for (_, count), members in sorted(places.items()):
        letters = np.array([[LETTERS.index(c) for c in words[place][0]] for place in members])
        phones_NP = np.array([[number[phone] for phone in words[place][1]] for place in members])
        none = np.zeros((len(members), count + 1), dtype=np.int64)
        two = 1 + len(_PHONES) + len(_PHONES) * phones_NP[:, :-1] + phones_NP[:, 1:]
        yield _Group(members, letters, [none, 1 + phones_NP, two])


def estimate(words: list[Entry], rounds: int = 8) -> NDArray[np.float64]:
    """Probabilities of graphones, (letters, chunks)."""
    groups = list(_groups(words))
    table = np.full((len(LETTERS), _CHUNKS), 0.2)
    table[:, 1 : 1 + len(_PHONES)] = 1.0  # one phone a letter is likeliest
    for _ in range(rounds):
        uses = np.zeros(table.size)
        for group in groups:
            _expect(group, table, uses)
        table = (uses / uses.sum()).reshape(table.shape)
        table[table < 1e-9] = 0.0
    return table


def _expect(group: _Group, table: NDArray[np.float64], uses: NDArray[np.float64]) -> None:
    """Adds the expected number of uses of each graphone (forward-backward)."""
    count, length = group.letters.shape
    phones = group.chunks[0].shape[1] - 1
    scores = [group.scores(table, i) for i in range(length)]
    forward = np.zeros((length + 1, count, phones + 1))
    backward = np.zeros_like(forward)
    forward[0, :, 0] = backward[length, :, phones] = 1.0
    for i in range(length):
        for taken, score in enumerate(scores[i]):
            forward[i + 1, :, taken:] += forward[i, :, : phones + 1 - taken] * score
    total = np.maximum(forward[length, :, phones], 1e-300)[:, None]
    for i in range(length - 1, -1, -1):
        for taken, score in enumerate(scores[i]):
            through = score * backward[i + 1, :, taken:]
            backward[i, :, : phones + 1 - taken] += through
            used = forward[i, :, : phones + 1 - taken] * through / total
            graphone = group.letters[:, i, None] * _CHUNKS + group.chunks[taken]
            uses += np.bincount(graphone.ravel(), used.ravel(), uses.size)


def take_apart(words: list[Entry], table: NDArray[np.float64]) -> list[list[Graphone] | None]:
    """The most probable graphones of each word, or None if there are none (Viterbi)."""
    parts: list[list[Graphone] | None] = [None] * len(words)
    with np.errstate(divide="ignore"):
        costs = -np.log(table)
    for group in _groups(words):
        count, length = group.letters.shape
        phones = group.chunks[0].shape[1] - 1
        best = np.full((count, phones + 1), np.inf)
        best[:, 0] = 0.0
        taken_at = np.zeros((length, count, phones + 1), dtype=np.int8)
        for i in range(length):
            through = np.full((MAX_PHONES + 1, count, phones + 1), np.inf)
            for taken, score in enumerate(group.scores(costs, i)):
                through[taken, :, taken:] = best[:, : phones + 1 - taken] + score
            taken_at[i] = through.argmin(axis=0)
            best = through.min(axis=0)
        for row in np.flatnonzero(np.isfinite(best[:, phones])):
            spelling, said = words[group.places[row]]
            end, found = phones, []
            for i in range(length - 1, -1, -1):
                begin = end - int(taken_at[i, row, end])
                found.append((spelling[i], said[begin:end]))
                end = begin
            parts[group.places[row]] = found[::-1]
    return parts

"""Which letter stands for which phones: a one-to-many alignment of spellings and pronunciations.

A graphone is a letter with the none, one or two phones that it is said as (Bisani & Ney, "Joint-sequence models for
grapheme-to-phoneme conversion", 2008, with letters of one). Their probabilities come from expectation-maximization on
a dictionary; each word is then taken apart in the most probable way.
"""

from __future__ import annotations

import math
from collections import defaultdict

Graphone = tuple[str, tuple[str, ...]]
"""A letter and its phones."""

MOST_PHONES = 2


def _steps(spelling: str, phones: tuple[str, ...]) -> list[tuple[int, int, int, Graphone]]:
    """Every graphone that may be used: letters before, phones before, phones behind, and itself."""
    letters, count = len(spelling), len(phones)
    return [
        (i, j, j + taken, (spelling[i], phones[j : j + taken]))
        for i in range(letters)
        for j in range(max(0, count - MOST_PHONES * (letters - i)), min(count, MOST_PHONES * i) + 1)
        for taken in range(min(MOST_PHONES, count - j) + 1)
        if count - j - taken <= MOST_PHONES * (letters - i - 1)
    ]


def _expect(spelling: str, phones: tuple[str, ...], p: dict[Graphone, float], counts: dict[Graphone, float]) -> None:
    """Adds one word's expected number of uses of each graphone (forward-backward)."""
    steps = _steps(spelling, phones)
    end = (len(spelling), len(phones))
    forward: dict[tuple[int, int], float] = defaultdict(float, {(0, 0): 1.0})
    for i, j, k, graphone in steps:
        forward[i + 1, k] += forward[i, j] * p.get(graphone, 0.0)
    total = forward[end]
    if total <= 0.0:
        return
    backward: dict[tuple[int, int], float] = defaultdict(float, {end: 1.0})
    for i, j, k, graphone in reversed(steps):
        through = p.get(graphone, 0.0) * backward[i + 1, k]
        backward[i, j] += through
        counts[graphone] += forward[i, j] * through / total


def estimate(words: list[tuple[str, tuple[str, ...]]], rounds: int = 6) -> dict[Graphone, float]:
    """Probabilities of graphones, of ``words`` of spelling and phones."""
    p: dict[Graphone, float] = {}
    for spelling, phones in words:
        for _, _, _, graphone in _steps(spelling, phones):
            p[graphone] = 1.0 / (1.0 + 4.0 * abs(len(graphone[1]) - 1))  # one phone a letter is likeliest
    for _ in range(rounds):
        counts: dict[Graphone, float] = defaultdict(float)
        for spelling, phones in words:
            _expect(spelling, phones, p, counts)
        total = sum(counts.values())
        p = {graphone: count / total for graphone, count in counts.items() if count > 1e-3}
    return p


def take_apart(spelling: str, phones: tuple[str, ...], p: dict[Graphone, float]) -> list[Graphone] | None:
    """The most probable graphones of a word, or None if there are none."""
    best: dict[tuple[int, int], tuple[float, tuple[int, int], Graphone]] = {}
    score: dict[tuple[int, int], float] = {(0, 0): 0.0}
    for i, j, k, graphone in _steps(spelling, phones):
        if (i, j) not in score or graphone not in p:
            continue
        through = score[i, j] + math.log(p[graphone])
        if through > score.get((i + 1, k), -math.inf):
            score[i + 1, k] = through
            best[i + 1, k] = (through, (i, j), graphone)
    place = (len(spelling), len(phones))
    if place not in best:
        return None
    parts: list[Graphone] = []
    while place != (0, 0):
        _, place, graphone = best[place]
        parts.append(graphone)
    return parts[::-1]

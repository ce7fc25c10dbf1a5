"""Pronunciation of out-of-vocabulary words: beam search over graphones.

``letter_to_sound.xz`` holds the model (``train``); the search keeps the best few beginnings from letter to letter.
"""

from __future__ import annotations

import io
import lzma
from array import array
from bisect import bisect_left
from dataclasses import asdict
from functools import cache, lru_cache
from importlib.resources import files
from itertools import accumulate
from pathlib import Path

import numpy as np

from multiway_speech.pronunciation.graphones import Graphone
from multiway_speech.pronunciation.ngram import END, Tree

BEAM = 12
LONGEST = 40
"""Longer words are read in pieces of so many letters, lest time grow with the square of the length."""


def save(path: Path, graphones: list[Graphone], tree: Tree) -> None:
    """Writes a model: its graphones, in the order of their symbols, as text, and its tree's arrays."""
    text = "\n".join(" ".join((letter, *phones)) for letter, phones in graphones)
    memory = io.BytesIO()
    np.savez(memory, graphones=np.frombuffer(text.encode("ascii"), dtype=np.uint8), **asdict(tree))
    path.write_bytes(lzma.compress(memory.getvalue(), preset=9 | lzma.PRESET_EXTREME))


class LetterToSound:
    """A joint n-gram model of letters and phones, and its beam search."""

    def __init__(self, packed: bytes) -> None:
        """``packed``: what ``save`` wrote."""
        with np.load(io.BytesIO(lzma.decompress(packed)), allow_pickle=False) as arrays:
            lines = arrays["graphones"].tobytes().decode("ascii").split("\n")
            # Python searches its own arrays several times faster than numpy's, item by item.
            self._symbol = array("H", arrays["symbol"].tobytes())
            self._cost = array("B", arrays["cost"].tobytes())
            self._backoff = array("B", arrays["backoff"].tobytes())
            self._first = array("I", accumulate(arrays["children"].tolist(), initial=1))
        self._phones = [(), (), *(tuple(line.split(" ")[1:]) for line in lines)]
        letters = [line[0] for line in lines]
        self._range = {
            letter: (letters.index(letter) + 2, len(letters) - letters[::-1].index(letter) + 2)
            for letter in set(letters)
        }

    def __call__(self, spelling: str) -> tuple[str, ...]:
        """Phones of a word of ``a`` to ``z`` and apostrophes; other characters have none."""
        # A beginning: its cost in steps, the tree's nodes of its endings from the longest, and its graphones.
        start = self._follow([0], 0)
        beam: list[tuple[int, list[int], tuple[int, ...]]] = [(0, start, ())]
        for letter in spelling:
            if letter not in self._range:
                continue
            longer = [
                (cost + step, nodes, (*parts, symbol))
                for cost, nodes, parts in beam
                for symbol, step in self._next(nodes, *self._range[letter]).items()
            ]
            longer.sort(key=lambda beginning: beginning[0])
            beam = [(cost, self._follow(nodes, parts[-1]), parts) for cost, nodes, parts in longer[:BEAM]]
        ended = [(cost + self._next(nodes, END, END + 1)[END], parts) for cost, nodes, parts in beam]
        return tuple(phone for symbol in min(ended)[1] for phone in self._phones[symbol])

    def _child(self, node: int, symbol: int) -> int | None:
        first, end = self._first[node], self._first[node + 1]
        place = bisect_left(self._symbol, symbol, first, end)
        return place if place < end and self._symbol[place] == symbol else None

    def _follow(self, nodes: list[int], symbol: int) -> list[int]:
        """Nodes of the endings that are one symbol longer, and of the empty one."""
        longer = [child for node in nodes if (child := self._child(node, symbol)) is not None]
        return [*longer, 0]

    def _next(self, nodes: list[int], low: int, high: int) -> dict[int, int]:
        """Symbols from ``low`` to below ``high`` with their costs behind the endings ``nodes``."""
        found: dict[int, int] = {}
        backoff = 0
        for node in nodes:
            end = self._first[node + 1]
            place = bisect_left(self._symbol, low, self._first[node], end)
            while place < end and self._symbol[place] < high:
                found.setdefault(self._symbol[place], backoff + self._cost[place])
                place += 1
            backoff += self._backoff[node]
        return found


@lru_cache(maxsize=4096)
def letter_to_sound(spelling: str) -> tuple[str, ...]:
    """Phones of a word of ``a`` to ``z`` and apostrophes, by the model of the package."""
    pieces = (spelling[begin : begin + LONGEST] for begin in range(0, len(spelling), LONGEST))
    return tuple(phone for piece in pieces for phone in _bundled()(piece))


@cache
def _bundled() -> LetterToSound:
    return LetterToSound((files(__package__) / "letter_to_sound.xz").read_bytes())

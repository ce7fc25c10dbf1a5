"""Parallel sentences out of two collections, by the margin of their cosines.

A cosine says little by itself: some sentences are near to everything. The margin divides it by the mean of what both
sentences have with their nearest neighbours (Artetxe and Schwenk 2019, arXiv 1811.01136, equation 2, as a ratio):

    margin(x, y) = cos(x, y) / (sum of x's k nearest cosines / 2k + sum of y's k nearest cosines / 2k)

A pair is kept where each is the other's best. Shape suffixes: N sentences of the first side, M of the second, K
neighbours, E width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_text.documents import read_lines
from multiway_text.search.pipeline import SearchPipeline
from multiway_text.search.vectors import nearest_rows

NEIGHBOURS = 4
THRESHOLD = 1.015
"""Best on five languages of Tatoeba for `multilingual-small`, whose cosines lie close together. LASER's is 1.06."""
_BLOCK = 8192
_SAMPLE = 100  # sentences by which a file's language is told
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Sentences:
    """The different lines of a file that are not empty, and the number of each, from 1, where it stands first."""

    path: Path
    texts: tuple[str, ...]
    lines: tuple[int, ...]

    @classmethod
    def read(cls, path: Path) -> Sentences:
        """Raises InputError: no text; DataError: it cannot be read, or is no text."""
        first: dict[str, int] = {}
        for number, line in read_lines(Path(path)):
            if "\0" in line:
                raise InputError(f"{path}:{number}: binary data, not text")
            if text := " ".join(line.split()):
                first.setdefault(text, number)
        if not first:
            raise InputError(f"{path}: no sentence; expected a text file with a sentence in each line")
        return cls(Path(path), tuple(first), tuple(first.values()))

    def without(self, texts: set[str]) -> Sentences:
        """But for some texts."""
        kept = [row for row, text in enumerate(self.texts) if text not in texts]
        return Sentences(
            self.path, tuple(self.texts[row] for row in kept), tuple(self.lines[row] for row in kept)
        )


@dataclass(frozen=True)
class MinedPair:
    """Two sentences with their margin, and the lines where they stand."""

    score: float
    text: str
    pair: str
    line: int
    pair_line: int


@dataclass(frozen=True)
class MinedPairs:
    """The pairs of two files, best first.

    Attributes:
        sentences: how many of each file were compared.
        common: lines that stand in both files, which are no translations and were left out.
        notes: what a user should know about the files.
    """

    pairs: tuple[MinedPair, ...]
    sentences: tuple[int, int]
    common: int
    notes: tuple[str, ...] = ()


def mine_files(
    pipeline: SearchPipeline,
    first: Path,
    second: Path,
    *,
    neighbours: int = NEIGHBOURS,
    threshold: float = THRESHOLD,
    on_progress: OnProgress | None = None,
) -> MinedPairs:
    """The sentences of two files, of any lengths, that are translations of each other.

    Memory: two bytes for each number of a vector, and the texts. Raises InputError: both are the same file, or one
    holds no sentence of its own; DataError.
    """
    if Path(first).exists() and Path(second).exists() and Path(first).samefile(second):
        raise InputError(f"{first} and {second} are the same file; give a file for each language")
    one, other = Sentences.read(first), Sentences.read(second)
    common = set(one.texts) & set(other.texts)
    one, other = one.without(common), other.without(common)
    for side in (one, other):
        if not side.texts:
            raise InputError(
                f"all sentences of {side.path} stand in the other file too; expected two languages"
            )
    total = len(one.texts) + len(other.texts)
    first_NE = _embed(pipeline, one.texts, 0, total, on_progress)
    second_ME = _embed(pipeline, other.texts, len(one.texts), total, on_progress)
    found = mine(first_NE, second_ME, neighbours=neighbours, threshold=threshold)
    return MinedPairs(
        tuple(
            MinedPair(score, one.texts[row], other.texts[column], one.lines[row], other.lines[column])
            for row, column, score in found
        ),
        (len(one.texts), len(other.texts)),
        len(common),
        tuple(note for side in (one, other) for note in _notes(pipeline, side)),
    )


def mine(
    first_NE: NDArray[Any],
    second_ME: NDArray[Any],
    *,
    neighbours: int = NEIGHBOURS,
    threshold: float = THRESHOLD,
) -> list[tuple[int, int, float]]:
    """(row, column, margin) of vectors of length 1 that are each other's best, at least ``threshold``, best first."""
    columns_NK, forward_NK = nearest_rows(first_NE, second_ME, neighbours)
    rows_MK, backward_MK = nearest_rows(second_ME, first_NE, neighbours)
    means_N, means_M = forward_NK.mean(1), backward_MK.mean(1)
    margins_NK = 2 * forward_NK / (means_N[:, None] + means_M[columns_NK])
    margins_MK = 2 * backward_MK / (means_M[:, None] + means_N[rows_MK])
    best_N, best_M = margins_NK.argmax(1), margins_MK.argmax(1)
    found = []
    for row, place in enumerate(best_N):
        column = int(columns_NK[row, place])
        if int(rows_MK[column, best_M[column]]) == row and margins_NK[row, place] >= threshold:
            found.append((row, column, float(margins_NK[row, place])))
    return sorted(found, key=lambda pair: (-pair[2], pair[:2]))


def _notes(pipeline: SearchPipeline, side: Sentences) -> list[str]:
    unknown = pipeline.unknown_language(" ".join(side.texts[:_SAMPLE]))
    known = ", ".join(pipeline.languages)
    return (
        [f"{side.path} seems to be in {unknown}; {pipeline.name} knows {known}: few pairs will be right"]
        if unknown
        else []
    )


def _embed(
    pipeline: SearchPipeline, texts: Sequence[str], done: int, total: int, on_progress: OnProgress | None
) -> NDArray[np.float16]:
    """Both sides with the prompt of queries: neither is a passage that answers the other."""
    vectors_NE = np.empty((len(texts), pipeline.encoder.sentence.width), np.float16)
    for start in range(0, len(texts), _BLOCK):
        some = texts[start : start + _BLOCK]
        vectors_NE[start : start + len(some)] = pipeline.embed(some, prompt="query")
        if on_progress is not None:
            on_progress(done + start + len(some), total)
    return vectors_NE

"""Vectors of a vocabulary's words, from a text file (.vec, GloVe) or from an array with its words beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from multiway_core.errors import DataError, InputError
from numpy.typing import NDArray

from multiway_recsys.data.vectors import read_vectors
from multiway_recsys.text.tokens import Vocabulary


def read_word_vectors(
    path: Path, vocabulary: Vocabulary, *, width: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors (words, width) float32 of a vocabulary and which words have one; the others, and padding, are zero.

    ``path``: lines ``word number number ...`` (a first line with two integers, as word2vec writes, is no harm), or
    ``NAME.npy`` (rows, width) with the words in ``NAME.txt``, one a line. Raises DataError, InputError.
    """
    words = vocabulary.words[1:]
    if path.suffix == ".npy":
        vectors, found = _of_array(path, words)
    else:
        vectors, found = read_vectors(path, words, width=width)
    if width is not None and vectors.shape[1] != width:
        raise InputError(f"{path}: vectors of {vectors.shape[1]} numbers, expected {width}")
    padding = np.zeros((1, vectors.shape[1]), np.float32)
    return np.concatenate([padding, vectors]), np.concatenate([np.zeros(1, np.bool_), found])


def _of_array(path: Path, words: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    names = path.with_suffix(".txt")
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
        rows = {word: row for row, word in enumerate(names.read_text(encoding="utf-8").splitlines())}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected an array here and its words in {names.name}: {error}") from error
    if table.ndim != 2 or len(table) < len(rows):
        raise DataError(f"{path}: shape {list(table.shape)} for {len(rows)} words in {names.name}")
    vectors = np.zeros((len(words), table.shape[1]), np.float32)
    found = np.array([word in rows for word in words], np.bool_)
    vectors[found] = table[[rows[word] for word in words if word in rows]]
    return vectors, found

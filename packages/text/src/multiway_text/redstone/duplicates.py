"""Which documents and lines are duplicates, whatever the order and the number of shards that they come in."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import numpy as np

from multiway_text.redstone.minhash import hash64

_DIGIT = re.compile(r"\d")


def band_edges(ids: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Pairs of documents with an equal key in one band: from the one of the smallest id to each other one.

    Args:
        ids: N ids, of a dtype that sorts.
        keys: uint64 of shape (N,).

    Returns:
        int64 of shape (2, E): indices into ``ids``.
    """
    by_key = np.lexsort((ids, keys))
    is_first = np.concatenate(([True], keys[by_key][1:] != keys[by_key][:-1]))[: len(by_key)]
    starts = np.flatnonzero(is_first)
    first = np.repeat(by_key[starts], np.diff(np.concatenate((starts, [len(by_key)]))))
    return np.stack((first, by_key))[:, ~is_first]


def representatives(ids: np.ndarray, edges: Iterable[np.ndarray]) -> np.ndarray:
    """For each document, which document stands for it: the one of the smallest id that edges lead to, also over others.

    Args:
        ids: N ids, of a dtype that sorts.
        edges: int64 arrays of shape (2, E) with indices into ``ids``, such as each band's `band_edges`.

    Returns:
        int64 of shape (N,): an index into ``ids``; a document that stands for itself is kept.
    """
    order = np.argsort(ids, kind="stable")
    rank = np.empty(len(ids), np.int64)
    rank[order] = np.arange(len(ids))
    left, right = rank[np.concatenate([np.zeros((2, 0), np.int64), *edges], axis=1)]
    label = np.arange(len(ids))
    while True:  # labels sink along edges and jump to their label's label
        low = np.minimum(label[left], label[right])
        before = label.copy()
        np.minimum.at(label, label[left], low)
        np.minimum.at(label, label[right], low)
        while not np.array_equal(label, jumped := label[label]):
            label = jumped
        if np.array_equal(label, before):
            return order[label[rank]]


def line_form(line: str) -> str:
    """CCNet's normal form of a line: trimmed, NFKC, lower case, digits as 0, no punctuation or control characters."""
    line = _DIGIT.sub("0", unicodedata.normalize("NFKC", line.strip()).lower())
    return "".join(c for c in line if unicodedata.category(c)[0] not in "PC")


def line_hashes(text: str) -> np.ndarray:
    """uint64, eight bytes of SHA-1 of each line's normal form; 0 for an empty line, which is no line."""
    return np.array([hash64(line_form(line)) if line.strip() else 0 for line in text.split("\n")], np.uint64)


def repeated_lines(hashes: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Which lines are repeats: all but the first, by owner and then by place, of those with one hash.

    Args:
        hashes: uint64, one for each line of all documents; 0 is no line.
        owners: of each line, the document's id, of a dtype that sorts; a document's lines lie in their order.
    """
    order = np.lexsort((owners, hashes))
    is_repeat = np.zeros(len(hashes), bool)
    is_repeat[order[1:][hashes[order][1:] == hashes[order][:-1]]] = True
    return is_repeat & (hashes != 0)

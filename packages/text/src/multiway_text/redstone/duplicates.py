"""Which documents and lines are duplicates, whatever the order and the number of shards that they come in."""

from __future__ import annotations

import re
import unicodedata

import numpy as np

from multiway_text.redstone.minhash import hash64

_DIGIT = re.compile(r"\d")


def duplicates(ids: np.ndarray, keys_NB: np.ndarray) -> np.ndarray:
    """For each document, which document stands for it: the one of the smallest id that bands connect it to.

    Args:
        ids: N unique ids, of a dtype that sorts.
        keys_NB: uint64, the band keys; two documents with an equal key are connected, also over others.

    Returns:
        int64 of shape (N,): an index into ``ids``; a document that stands for itself is kept.
    """
    order = np.argsort(ids, kind="stable")
    rank = np.empty(len(ids), np.int64)
    rank[order] = np.arange(len(ids))
    firsts, others = [], []
    for keys in keys_NB.T:  # edges from the first of a group to each of the group, bands one after the other
        by_key = np.lexsort((rank, keys))
        is_same = keys[by_key][1:] == keys[by_key][:-1]
        starts = np.flatnonzero(np.concatenate(([True], ~is_same)))[: len(by_key)]
        first = np.repeat(by_key[starts], np.diff(np.concatenate((starts, [len(by_key)]))))
        is_edge = first != by_key
        firsts.append(rank[first[is_edge]])
        others.append(rank[by_key[is_edge]])
    return order[_components(len(ids), np.concatenate(firsts), np.concatenate(others))[rank]]


def _components(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The smallest node of each node's component: labels sink along edges and jump to their label's label."""
    label = np.arange(count)
    while True:
        low = np.minimum(label[left], label[right])
        before = label.copy()
        np.minimum.at(label, label[left], low)
        np.minimum.at(label, label[right], low)
        while not np.array_equal(label, jumped := label[label]):
            label = jumped
        if np.array_equal(label, before):
            return label


def line_form(line: str) -> str:
    """CCNet's normal form of a line: trimmed, NFKC, lower case, digits as 0, no punctuation or control characters."""
    line = _DIGIT.sub("0", unicodedata.normalize("NFKC", line.strip()).lower())
    return "".join(c for c in line if unicodedata.category(c)[0] not in "PC")


def line_hashes(text: str) -> np.ndarray:
    """uint64, eight bytes of SHA-1 of each line's normal form; 0 for a line without one, never a duplicate."""
    forms = map(line_form, text.split("\n"))
    return np.array([hash64(form) if form else 0 for form in forms], np.uint64)


def repeated_lines(hashes: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Which lines are repeats: all but the first, by owner and then by place, of those with one hash.

    Args:
        hashes: uint64, one for each line of all documents; 0 is no line.
        owners: of each line, the document's rank by id; a document's lines lie in their order.
    """
    order = np.lexsort((np.arange(len(hashes)), owners, hashes))
    is_repeat = np.zeros(len(hashes), bool)
    same = hashes[order][1:] == hashes[order][:-1]
    is_repeat[order[1:][same]] = True
    return is_repeat & (hashes != 0)

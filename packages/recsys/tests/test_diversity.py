"""Diversity, coverage, novelty and spread against their definitions on lists that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_recsys.data.tables import Ragged
from multiway_recsys.metrics import diversity

LISTS = np.array([[1, 2, 3], [1, 1, 0], [4, 0, 0], [0, 0, 0]])
VECTORS = np.array([[0, 0], [1, 0], [0, 2], [-3, 0], [1, 1]], np.float32)
CATEGORIES = np.array([0, 1, 2, 1, 0])


def test_distance_is_the_mean_over_pairs():
    distance = diversity.intra_list_distance(LISTS, VECTORS)
    assert distance[:2] == pytest.approx([(1 + 2 + 1) / 3, 0.0])
    assert np.isnan(distance[2:]).all()
    random = np.random.default_rng(0)
    vectors = random.normal(size=(50, 8))
    lists = random.integers(1, 50, (20, 10))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = [
        np.mean([1 - units[row[i]] @ units[row[j]] for i in range(10) for j in range(10) if i != j])
        for row in lists
    ]
    assert diversity.intra_list_distance(lists, vectors) == pytest.approx(expected, abs=1e-12)


def test_categories():
    entropy = diversity.category_entropy(LISTS, CATEGORIES)
    assert entropy[0] == pytest.approx(-(2 / 3 * np.log2(2 / 3) + 1 / 3 * np.log2(1 / 3)))
    assert entropy[1] == 0
    assert np.isnan(entropy[2:]).all()  # news 4 has no known category


def test_novelty_is_in_bits():
    clicks = np.array([0, 3, 0, 0, 0])
    bits = diversity.novelty(LISTS, clicks)
    assert bits[1] == pytest.approx(-np.log2(4 / 7))
    assert bits[2] == pytest.approx(-np.log2(1 / 7))
    assert bits[0] == pytest.approx((bits[1] + 2 * bits[2]) / 3)
    assert np.isnan(bits[3])


def test_coverage_and_gini():
    shown = diversity.exposure(LISTS, 6)
    assert shown.tolist() == [0, 3, 1, 1, 1, 0]
    assert diversity.coverage(LISTS, 6) == pytest.approx(4 / 5)
    assert diversity.coverage(LISTS, 6, np.array([True, True, False, False, False, True])) == 0.5
    assert diversity.gini(np.array([9, 2, 2, 2])) == pytest.approx(0)
    assert diversity.gini(np.array([0, 0, 0, 0, 8])) == pytest.approx(3 / 4)
    counts = np.array([1, 5, 2, 9])
    expected = np.abs(counts[:, None] - counts).sum() / (2 * 4 * counts.sum())
    assert diversity.gini(np.concatenate([[0], counts])) == pytest.approx(expected)
    assert np.isnan(diversity.gini(np.zeros(4, np.int64)))


def test_top_candidates():
    candidates = Ragged.from_rows([[3, 1, 2], [], [4]])
    top = diversity.top_candidates(np.array([0.1, 0.9, 0.5, 1.0]), candidates, 2)
    assert top.tolist() == [[1, 2], [0, 0], [4, 0]]

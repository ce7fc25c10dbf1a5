"""Sentences that are translations of each other: the margin against a slow version, neighbours, files and bad ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from multiway_core.errors import DataError, InputError
from multiway_text.search import bitext
from multiway_text.search.pipeline import SearchPipeline
from multiway_text.search.store import as_unit
from multiway_text.search.vectors import nearest_rows


def slow_pairs(first: np.ndarray, second: np.ndarray, k: int) -> dict[tuple[int, int], float]:
    """All margins, from their definition; then each other's best."""
    cosines = [[float(np.dot(x, y)) for y in second] for x in first]
    of_row = [sum(sorted(row, reverse=True)[:k]) / (2 * k) for row in cosines]
    of_column = [sum(sorted(column, reverse=True)[:k]) / (2 * k) for column in zip(*cosines, strict=True)]
    margins = np.array(
        [[c / (of_row[i] + of_column[j]) for j, c in enumerate(row)] for i, row in enumerate(cosines)]
    )
    near = np.array(cosines)
    is_near = (np.argsort(np.argsort(-near, 1), 1) < k), (np.argsort(np.argsort(-near, 0), 0) < k)
    forward, backward = (np.where(kept, margins, -np.inf) for kept in is_near)
    best = [(i, int(forward[i].argmax())) for i in range(len(first))]
    return {(i, j): float(margins[i, j]) for i, j in best if int(backward[:, j].argmax()) == i}


def test_margins_are_those_of_the_definition() -> None:
    random = np.random.default_rng(0)
    first = as_unit(random.normal(size=(60, 8)) + 1)  # all near to each other, as sentences are
    second = as_unit(
        np.concatenate([first[:40] + random.normal(size=(40, 8)) / 4, random.normal(size=(9, 8))])
    )
    expected = slow_pairs(first, second, 4)
    found = bitext.mine(first, second, neighbours=4, threshold=0.0)
    assert {(i, j) for i, j, _ in found} == set(expected)
    scores = [score for *_, score in found]
    np.testing.assert_allclose(scores, sorted(expected.values(), reverse=True), rtol=1e-5)
    sure = bitext.mine(first, second, neighbours=4, threshold=1.1)
    assert 0 < len(sure) < len(found)
    assert sum(i == j for i, j, _ in sure) > 0.8 * len(sure)


def test_neighbours_in_blocks_and_by_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    queries, keys = (as_unit(random.normal(size=(count, 16))) for count in (30, 300))
    cosines = queries @ keys.T
    order = np.argsort(-cosines, 1, kind="stable")[:, :5]
    monkeypatch.setattr("multiway_text.search.vectors._QUERIES", 7)
    monkeypatch.setattr("multiway_text.search.vectors._KEYS", 64)
    places, found = nearest_rows(queries, keys, 5)
    np.testing.assert_array_equal(places, order)
    np.testing.assert_allclose(found, np.take_along_axis(cosines, order, 1), atol=1e-6)
    graph_places, near = nearest_rows(queries, keys, 5, exact=100)
    assert np.mean([len(set(a) & set(b)) / 5 for a, b in zip(graph_places, order, strict=True)]) > 0.95
    np.testing.assert_allclose(near[:, 0], found[:, 0], atol=5e-3)
    assert nearest_rows(queries, keys[:3], 5)[0].shape == (30, 3)


@pytest.fixture(scope="module")
def pipeline(tiny_encoder: Path) -> SearchPipeline:
    return SearchPipeline.from_pretrained(str(tiny_encoder))


def test_files_of_unequal_length(pipeline: SearchPipeline, tmp_path: Path) -> None:
    one, other = tmp_path / "a.txt", tmp_path / "b.txt"
    one.write_text("\nanna lives in paris\ntom  was bad\nlondon\nanna lives in paris\n2024\n")
    other.write_text("a very bad film\ntom was bad .\nanna lives in paris .\n\n2024\nit was good\n")
    found = bitext.mine_files(pipeline, one, other, neighbours=2, threshold=0.0)
    assert found.sentences == (3, 4)
    assert found.common == 1
    rows = {(pair.text, pair.pair, pair.line, pair.pair_line) for pair in found.pairs}
    assert ("anna lives in paris", "anna lives in paris .", 2, 3) in rows
    assert ("tom was bad", "tom was bad .", 3, 2) in rows


def test_bad_files_are_one_line(pipeline: SearchPipeline, tmp_path: Path) -> None:
    good = tmp_path / "good.txt"
    good.write_text("anna\n")
    cases = {
        "empty": (b" \n\n", "no sentence"),
        "nul": (b"a\0b\n", "nul:1: binary data, not text"),
        "binary": (b"fine\n\xff\xfe\n", "binary:2: not UTF-8 text"),
        "copy": (b"anna\n", "all sentences of .* stand in the other file too"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises((InputError, DataError), match=message):
            bitext.mine_files(pipeline, good, tmp_path / name)
    with pytest.raises(InputError, match="are the same file"):
        bitext.mine_files(pipeline, good, tmp_path / "." / "good.txt")
    with pytest.raises(DataError, match="cannot read"):
        bitext.mine_files(pipeline, good, tmp_path / "nowhere")

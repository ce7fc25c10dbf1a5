"""The click graph against a Counter over Python tuples, its order, its rules, and its errors."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from multiway_core.errors import InputError
from multiway_recsys.data.tables import Ragged
from multiway_recsys.graph import RELEASED_COUNTING, ClickGraph, CountingRules, entity_graph, top_neighbours
from multiway_recsys.graph.pair_counts import count_pairs, iter_pair_counts, rows_of_users

NUM_NEWS = 60


def made_log(seed: int = 0, rows: int = 400) -> tuple[Ragged, np.ndarray]:
    """Histories with repeats, loops, unknown news, empty rows, and several rows of one user (10^4 events)."""
    generator = np.random.default_rng(seed)
    users = generator.integers(0, rows // 2, rows)
    popularity = 1 / np.arange(1, NUM_NEWS + 1)
    lengths = generator.integers(0, 50, rows)
    histories = [
        generator.choice(NUM_NEWS, length, p=popularity / popularity.sum()).astype(np.int32)
        for length in lengths
    ]
    return Ragged.from_rows(histories), users


def longest(histories: Ragged, users: np.ndarray) -> dict[int, tuple[int, ...]]:
    chosen: dict[int, tuple[int, ...]] = {}
    for row, user in enumerate(users.tolist()):
        history = tuple(histories[row].tolist())
        chosen[user] = max(chosen.get(user, ()), history, key=lambda h: (len(h), h))
    return chosen


def edges_of(graph: ClickGraph) -> dict[tuple[int, int], int]:
    sources, targets, weights = graph.forward_edges()
    return {(int(i), int(j)): int(w) for i, j, w in zip(sources, targets, weights, strict=True)}


def test_edges_are_those_of_a_counter() -> None:
    histories, users = made_log()
    assert len(histories.values) > 9_000
    expected: Counter[tuple[int, int]] = Counter()
    for history in longest(histories, users).values():
        expected.update({(i, j) for i, j in pairwise(history) if i != j and i and j})
    graph = ClickGraph.build(histories, users, NUM_NEWS)
    assert edges_of(graph) == expected
    assert graph.indptr.dtype == np.int64
    assert graph.indices.dtype == np.int32
    assert graph.weights.dtype == np.float32
    backwards = ClickGraph.build(histories, users, NUM_NEWS, direction="in")
    assert edges_of(backwards) == expected
    both = ClickGraph.build(histories, users, NUM_NEWS, direction="both")
    assert edges_of(both) == {
        pair: expected[pair] + expected[pair[::-1]]
        for pair in set(expected) | {pair[::-1] for pair in expected}
    }


def test_released_rules_count_as_the_papers_code_does() -> None:
    histories, users = made_log(1)
    expected: Counter[tuple[int, int]] = Counter()
    seen = set()
    for row, user in enumerate(users.tolist()):
        if user not in seen:
            seen.add(user)
            expected.update((i, j) for i, j in pairwise(histories[row].tolist()) if i and j)
    assert edges_of(ClickGraph.build(histories, users, NUM_NEWS, rules=RELEASED_COUNTING)) == expected


@pytest.mark.parametrize("window", [1, 3, 20])
@pytest.mark.parametrize("repeats", [False, True])
def test_counting_in_parts_is_counting_at_once(window: int, repeats: bool) -> None:
    histories, users = made_log(2, 120)
    rules = CountingRules(repeats=repeats)
    expected: Counter[tuple[int, int]] = Counter()
    for history in longest(histories, users).values():
        steps = [
            (i, j)
            for place, i in enumerate(history)
            for j in history[place + 1 : place + 1 + window]
            if i != j and i and j
        ]
        expected.update(steps if repeats else set(steps))
    for pairs_at_once in (1, 500, 1 << 20):
        parts = list(
            iter_pair_counts(
                histories, users, NUM_NEWS, window=window, rules=rules, pairs_at_once=pairs_at_once
            )
        )
        keys = np.concatenate([part.keys for part in parts])
        assert (np.diff(keys) > 0).all()
        counts = np.concatenate([part.counts for part in parts])
        assert {divmod(int(key), NUM_NEWS): int(c) for key, c in zip(keys, counts, strict=True)} == expected


@pytest.mark.parametrize("direction", ["out", "in", "both"])
def test_rows_are_ordered_and_the_order_of_the_log_does_not_matter(direction) -> None:
    histories, users = made_log(3)
    graph = ClickGraph.build(histories, users, NUM_NEWS, direction=direction)
    forward = edges_of(ClickGraph.build(histories, users, NUM_NEWS))
    popularity = Counter()
    for (_, target), weight in forward.items():
        popularity[target] += weight
    for news in range(NUM_NEWS):
        row = slice(graph.indptr[news], graph.indptr[news + 1])
        keys = [
            (-w, -popularity[j], j)
            for j, w in zip(graph.indices[row].tolist(), graph.weights[row], strict=True)
        ]
        assert keys == sorted(keys)
    order = np.random.default_rng(0).permutation(len(users))
    shuffled = ClickGraph.build(histories.take(order), users[order], NUM_NEWS, direction=direction)
    for name in ("indptr", "indices", "weights"):
        assert getattr(shuffled, name).tobytes() == getattr(graph, name).tobytes()


def test_one_history_of_a_user_counts() -> None:
    histories = Ragged.from_rows([[1, 2], [1, 2, 3], [4, 5], [4, 6], [], [7, 7]])
    users = np.array([5, 5, 9, 9, 2, 7])
    rows = rows_of_users(histories, users, CountingRules())
    assert rows.tolist() == [1, 3, 4, 5]  # the longest; of equal ones the lexicographically largest
    assert edges_of(ClickGraph.build(histories, users, 8)) == {(1, 2): 1, (2, 3): 1, (4, 6): 1}
    assert edges_of(ClickGraph.build(histories, None, 8)) == {(1, 2): 2, (2, 3): 1, (4, 5): 1, (4, 6): 1}
    same = Ragged.from_rows([[1, 2]] * 3)
    assert rows_of_users(same, np.array([1, 1, 1]), CountingRules()).tolist() == [0]


def test_until_leaves_later_rows_out() -> None:
    histories = Ragged.from_rows([[1, 2], [1, 2, 3]])
    users, times = np.array([0, 0]), np.array([100, 200])
    early = ClickGraph.build(histories, users, 4, times=times, until=150)
    assert edges_of(early) == {(1, 2): 1}
    assert early.until == 150
    whole = ClickGraph.build(histories, users, 4, times=times)
    assert whole.until == 200
    whole.require_before(200)
    early.require_before(199)
    with pytest.raises(InputError, match="first impression to be judged is of 1970-01-01 00:02:30"):
        whole.require_before(150)


def test_min_weight_and_top_neighbours() -> None:
    histories = Ragged.from_rows([[1, 2, 3], [1, 2, 4], [1, 3], [5, 3], [1, 4]])
    graph = ClickGraph.build(histories, None, 7)
    # 1 -> 2 (weight 2), then 3 before 4 at weight 1: three clicks lead to 3, two to 4.
    assert graph.neighbours(1).tolist() == [2, 3, 4]
    assert graph.neighbours(2).tolist() == [3, 4]
    assert top_neighbours(graph, 2).tolist() == [[0, 0], [2, 3], [3, 4], [0, 0], [0, 0], [3, 0], [0, 0]]
    assert top_neighbours(graph, 5).shape == (7, 5)
    assert edges_of(ClickGraph.build(histories, None, 7, min_weight=2)) == {(1, 2): 2}
    assert graph.num_edges == 6
    wider = graph.with_num_news(9)
    assert len(wider) == 9
    assert top_neighbours(wider, 2)[7:].tolist() == [[0, 0], [0, 0]]


def test_entity_graph_is_the_product_of_both_ends() -> None:
    histories, users = made_log(4, 60)
    generator = np.random.default_rng(5)
    entities = Ragged.from_rows(
        [generator.integers(0, 20, generator.integers(0, 8)) for _ in range(NUM_NEWS)]
    )
    for loops in (False, True):
        expected: Counter[tuple[int, int]] = Counter()
        graph = ClickGraph.build(histories, users, NUM_NEWS)
        for (i, j), weight in edges_of(graph).items():
            for one, other in product(entities[i][:5].tolist(), entities[j][:5].tolist()):
                if one and other and (loops or one != other):
                    expected[one, other] += weight
                    expected[other, one] += weight
        made = entity_graph(graph, entities, 20, loops=loops)
        assert edges_of(made) == expected
        assert len(made) == 20
    backwards = ClickGraph.build(histories, users, NUM_NEWS, direction="in")
    assert edges_of(entity_graph(backwards, entities, 20, loops=True)) == expected


def test_graphs_of_nothing_and_of_one_news() -> None:
    empty = ClickGraph.build(Ragged.from_rows([]), None, 1)
    assert (len(empty), empty.num_edges) == (1, 0)
    lonely = ClickGraph.build(Ragged.from_rows([[1, 1, 1], [1], []]), None, 2, direction="both")
    assert lonely.num_edges == 0
    assert top_neighbours(lonely, 3).tolist() == [[0, 0, 0], [0, 0, 0]]
    circle = ClickGraph.build(Ragged.from_rows([[1, 2, 3, 1]]), None, 4)
    assert edges_of(circle) == {(1, 2): 1, (2, 3): 1, (3, 1): 1}
    unknown = ClickGraph.build(Ragged.from_rows([[1, 0, 2]]), None, 3)
    assert unknown.num_edges == 0  # what lay between is not known


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="history 1 holds news 9; with 5 news the ids are 0 to 4"):
        ClickGraph.build(Ragged.from_rows([[1], [2, 9]]), None, 5)
    with pytest.raises(InputError, match="holds news -1"):
        ClickGraph.build(Ragged.from_rows([[-1]]), None, 5)
    with pytest.raises(InputError, match="1 users for 2 histories"):
        ClickGraph.build(Ragged.from_rows([[1], [2]]), np.array([1]), 5)
    with pytest.raises(InputError, match="direction 'up'"):
        ClickGraph.build(Ragged.from_rows([[1]]), None, 5, direction="up")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="2 times for 1 histories"):
        ClickGraph.build(Ragged.from_rows([[1]]), None, 5, times=np.array([1, 2]))
    with pytest.raises(InputError, match="window of 0"):
        count_pairs(Ragged.from_rows([[1]]), None, 5, window=0)

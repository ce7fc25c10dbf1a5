"""Long chains against walks in plain Python, one node at a time."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from multiway_core.errors import InputError
from multiway_recsys.data.tables import Ragged
from multiway_recsys.graph import (
    INTENDED,
    RELEASED_CHAINS,
    ChainConfig,
    ClickGraph,
    CoReaders,
    random_chains,
    select_chains,
    shuffled_chains,
)

NUM_NEWS = 80


@pytest.fixture(scope="module")
def world():
    """Histories, graphs both ways, co-readers, vectors (one news without), categories."""
    generator = np.random.default_rng(0)
    histories = Ragged.from_rows(
        [generator.integers(1, NUM_NEWS - 3, generator.integers(2, 25)) for _ in range(60)]
    )
    vectors = generator.normal(size=(NUM_NEWS, 12)).astype(np.float32)
    vectors[[0, 7]] = 0
    return {
        "out": ClickGraph.build(histories, None, NUM_NEWS),
        "in": ClickGraph.build(histories, None, NUM_NEWS, direction="in"),
        "co_readers": CoReaders.build(histories, None, NUM_NEWS, cap=11),
        "vectors": vectors,
        "categories": generator.integers(0, 4, NUM_NEWS).astype(np.int32),
    }


def brute_force(world, config: ChainConfig, start: int) -> list[list[int]]:
    """The rule as it is written down, with dictionaries and a beam of Python lists."""
    graph, co, vectors, categories = world["out"], world["co_readers"], world["vectors"], world["categories"]
    pairs = co.pairs()
    together = dict(
        zip(zip(pairs.sources.tolist(), pairs.targets.tolist(), strict=True), pairs.counts, strict=True)
    )

    def cosine(one: int, other: int) -> float:
        norm = float(np.linalg.norm(vectors[one])) * float(np.linalg.norm(vectors[other]))
        return float(vectors[one] @ vectors[other]) / norm if norm else 0.0

    def score(path: list[int], news: int, weight: float) -> int:
        reads = int(co.reads[news])
        value = config.weight * math.log1p(weight) + config.similarity * cosine(path[-1], news)
        value += config.support * sum(math.log1p(together.get((v, news), 0) / math.sqrt(reads)) for v in path)
        value += config.anchor * cosine(path[0], news) + config.category * (
            categories[path[0]] == categories[news]
        )
        return round((value - config.hubs * math.log1p(reads)) * 1e6)

    beam: list[tuple[list[int], list[int], bool]] = [([start], [], True)]
    for _ in range(config.length):
        following = []
        for path, scores, walking in beam:
            begin = graph.indptr[path[-1]]
            end = min(graph.indptr[path[-1] + 1], begin + config.branches)
            steps = [
                (news, made)
                for news, weight in zip(
                    graph.indices[begin:end].tolist(), graph.weights[begin:end], strict=True
                )
                if walking and news not in path
                for made in [score(path, news, float(weight))]
                if config.min_score is None or made >= config.min_score * 1e6
            ]
            following += [([*path, news], [*scores, made], True) for news, made in steps]
            if not steps:
                following.append((path, scores, False))
        following.sort(key=lambda item: -sum(item[1]) / max(len(item[1]), 1))
        beam = following[: config.beam or config.num_chains]
    chains = [path[1:] + [0] * (config.length + 1 - len(path)) for path, _, _ in beam][: config.num_chains]
    return chains + [[0] * config.length] * (config.num_chains - len(chains))


@pytest.mark.parametrize(
    "config",
    [
        ChainConfig(),
        ChainConfig(support=0, hubs=0.2, anchor=0.4, category=0.1, branches=3, length=5),
        ChainConfig(num_chains=3, beam=4, length=5),
        ChainConfig(num_chains=2, min_score=0.9, branches=5),
        ChainConfig(weight=0, similarity=1, support=0, beam=3, length=4),
    ],
)
def test_chains_are_those_of_the_rule(world, config: ChainConfig) -> None:
    chains = select_chains(
        world["out"], world["co_readers"], world["vectors"], config=config, categories=world["categories"]
    )
    assert chains.shape == (NUM_NEWS, config.num_chains, config.length)
    assert chains.dtype == np.int32
    assert (chains[:, 0] > 0).any(1).sum() > 50
    for start in range(0, NUM_NEWS, 2):
        assert chains[start].tolist() == brute_force(world, config, start), start
    some = np.array([5, 3, 70])
    part = select_chains(
        world["out"],
        world["co_readers"],
        world["vectors"],
        config=config,
        categories=world["categories"],
        nodes=some,
    )
    assert part.tolist() == chains[some].tolist()


def neighbours(graph: ClickGraph, news: int, count: int) -> list[int]:
    return graph.neighbours(news)[:count].tolist()


def test_intended_equals_a_walk_by_hand(world) -> None:
    graph, vectors = world["in"], world["vectors"]
    chains = select_chains(graph, None, vectors, config=INTENDED)
    assert chains.shape == (NUM_NEWS, 1, 10)
    revisits = 0
    for start in range(1, NUM_NEWS):
        expected, here = [], start
        for _ in range(6 if vectors[start].any() else 0):
            eligible = [news for news in neighbours(graph, here, 3) if vectors[news].any()]
            if not eligible:
                break
            here = max(eligible, key=lambda news: round(float(vectors[start] @ vectors[news]), 6))
            expected.append(here)
        revisits += len(set(expected)) < len(expected)
        assert chains[start, 0].tolist() == expected + [0] * (10 - len(expected))
    assert revisits  # the released walk has no set of visited news: it may go to and fro


def test_released_is_six_copies_and_four_zeros(world) -> None:
    graph, vectors = world["in"], np.abs(world["vectors"])
    full = np.flatnonzero((graph.degrees >= 3) & vectors.any(1))
    assert len(full) > 40
    chains = select_chains(graph, None, vectors, config=RELEASED_CHAINS)[:, 0]
    for start in full:
        best = max(
            neighbours(graph, start, 3), key=lambda news: round(float(vectors[start] @ vectors[news]), 6)
        )
        assert chains[start].tolist() == [best] * 6 + [0] * 4
    assert not chains[graph.degrees == 0].any()
    assert not chains[7].any()  # a click without a vector


def test_released_equals_the_released_loop(world) -> None:
    """Its one way of moving: all neighbours' scores negative and an empty slot, which scores 0, among the three."""
    graph, vectors = world["in"], world["vectors"]
    chains = select_chains(graph, None, vectors, config=RELEASED_CHAINS)[:, 0]
    moved = 0
    for start in range(1, NUM_NEWS):
        expected, here, stopped = [], start, False
        for _ in range(6 if vectors[start].any() else 0):
            group = neighbours(graph, here, 3)
            group += [0] * (3 - len(group))
            scores = [float(vectors[news] @ vectors[start]) if news else 0.0 for news in group]
            best = scores.index(max(scores))
            origin = here
            if not stopped and max(scores) == 0:
                others = [place for place, value in enumerate(scores) if value != 0]
                if others:
                    best = max(others, key=lambda place: scores[place])
                    here = group[best]
                else:
                    stopped = True
            expected.append(0 if stopped else group[best])
            moved += here != origin
        assert chains[start].tolist() == expected + [0] * (10 - len(expected)), start
    assert moved


def test_circles_and_dead_ends() -> None:
    graph = ClickGraph.build(Ragged.from_rows([[1, 2, 3, 1], [4, 5]]), None, 7)
    config = ChainConfig(support=0, length=4)
    assert select_chains(graph, None, None, config=config)[:, 0].tolist() == [
        [0, 0, 0, 0],
        [2, 3, 0, 0],
        [3, 1, 0, 0],
        [1, 2, 0, 0],
        [5, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    nothing = ClickGraph.build(Ragged.from_rows([]), None, 1)
    assert select_chains(nothing, None, None, config=config).tolist() == [[[0, 0, 0, 0]]]


def test_co_readers_keep_the_circle_of_readers() -> None:
    """Readers of 1 go 1 2 3; more readers of others go 2 4: weight alone leaves the circle, support stays in it."""
    log = Ragged.from_rows([*[[1, 2, 3]] * 3, *[[5, 2, 4]] * 4])
    graph, co_readers = ClickGraph.build(log, None, 6), CoReaders.build(log, None, 6)
    by_weight = select_chains(graph, None, None, config=ChainConfig(support=0, length=2))
    by_readers = select_chains(graph, co_readers, None, config=ChainConfig(length=2))
    assert by_weight[1, 0].tolist() == [2, 4]
    assert by_readers[1, 0].tolist() == [2, 3]


def test_half_precision_vectors_and_batches_make_no_difference(world, monkeypatch) -> None:
    arguments = world["out"], world["co_readers"], world["vectors"].astype(np.float16)
    whole = select_chains(*arguments)
    monkeypatch.setattr("multiway_recsys.graph.chains.NODES_AT_ONCE", 7)
    monkeypatch.setattr("multiway_recsys.graph.chain_scores.ROWS_AT_ONCE", 11)
    assert select_chains(*arguments).tobytes() == whole.tobytes()


def test_controls_keep_the_shape_and_lose_the_meaning(world) -> None:
    chains = select_chains(
        world["out"], world["co_readers"], world["vectors"], config=ChainConfig(num_chains=2)
    )
    drawn = random_chains(chains, world["out"], seed=1)
    assert ((drawn != 0) == (chains != 0)).all()
    assert (drawn != np.arange(NUM_NEWS)[:, None, None]).all(where=drawn != 0)
    assert (world["out"].degrees[np.unique(drawn[drawn != 0])] > 0).mean() > 0.9
    assert (drawn != chains).mean(where=chains != 0) > 0.9
    shuffled = shuffled_chains(chains, seed=1)
    filled = (chains != 0).any((1, 2))
    assert sorted(map(bytes, shuffled[filled])) == sorted(map(bytes, chains[filled]))
    assert not shuffled[~filled].any()
    own = (shuffled == chains).all((1, 2))[filled]
    assert own.mean() < 0.1  # only where two news have the same chain
    third, again, fourth = (random_chains(chains, world["out"], seed=seed).tobytes() for seed in (3, 3, 4))
    assert third == again != fourth


def test_bad_input_is_named(world) -> None:
    graph = world["out"]
    with pytest.raises(InputError, match="chains of direction in on a graph of direction out"):
        select_chains(graph, None, world["vectors"], config=INTENDED)
    with pytest.raises(InputError, match="co-readers are missing"):
        select_chains(graph, None, None)
    with pytest.raises(InputError, match="vectors of 5 news for a graph of 80"):
        select_chains(graph, world["co_readers"], world["vectors"][:5])
    with pytest.raises(InputError, match=r"vectors of shape \(80,\)"):
        select_chains(graph, world["co_readers"], world["vectors"][:, 0])
    with pytest.raises(InputError, match="compares the vectors"):
        select_chains(world["in"], None, None, config=INTENDED)
    with pytest.raises(InputError, match="categories are missing"):
        select_chains(graph, world["co_readers"], None, config=ChainConfig(category=1))
    with pytest.raises(ValueError, match="length is 0"):
        ChainConfig(length=0)
    with pytest.raises(ValueError, match="4 slots hold no chain of 8"):
        ChainConfig(slots=4)
    with pytest.raises(ValueError, match="beam of 1"):
        ChainConfig(num_chains=2, beam=1)
    with pytest.raises(ValueError, match="makes one chain"):
        replace(INTENDED, num_chains=2)

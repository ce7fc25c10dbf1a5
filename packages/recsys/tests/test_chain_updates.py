"""A day's update of the chain table equals the choice of all chains, and chooses fewer."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_core.errors import InputError
from multiway_recsys.data.tables import Ragged
from multiway_recsys.graph import INTENDED, ChainConfig, ClickGraph, CoReaders, select_chains
from multiway_recsys.graph.chain_updates import affected_starts, update_chains

OLD_NEWS, NEW_NEWS = 400, 440


@pytest.fixture(scope="module")
def days():
    """Readers move through news in the order of publication; on the last day some of them read on."""
    generator = np.random.default_rng(0)

    def read(first: int, clicks: int, last: int) -> np.ndarray:
        return np.minimum(first + np.cumsum(generator.integers(1, 5, clicks)), last).astype(np.int32)

    before = [read(generator.integers(0, OLD_NEWS), 12, OLD_NEWS - 1) for _ in range(250)]
    late = [row for row, history in enumerate(before) if history[-1] > OLD_NEWS - 40]
    after = list(before)
    for row in late:
        after[row] = np.append(before[row], read(OLD_NEWS - 10, 6, NEW_NEWS - 1))
    changed = Ragged.from_rows([before[row] for row in late]), Ragged.from_rows([after[row] for row in late])
    vectors = generator.normal(size=(NEW_NEWS, 8)).astype(np.float32)
    return Ragged.from_rows(before), Ragged.from_rows(after), changed, vectors


@pytest.mark.parametrize(
    "config",
    [ChainConfig(length=4), ChainConfig(num_chains=2, beam=3, length=3, hubs=0.1, anchor=0.2), INTENDED],
)
def test_an_update_equals_a_choice_of_all(days, config) -> None:
    before, after, changed, vectors = days
    best = config.rule == "best"
    graph = ClickGraph.build(before, None, OLD_NEWS, direction=config.direction)
    whole = CoReaders.build(before, None, OLD_NEWS, cap=None)
    chains = select_chains(graph, whole.capped(10) if best else None, vectors[:OLD_NEWS], config=config)

    new_graph = graph.with_num_news(NEW_NEWS).updated(*changed)
    new_whole = whole.with_num_news(NEW_NEWS).updated(*changed)
    rebuilt = ClickGraph.build(after, None, NEW_NEWS, direction=config.direction)
    assert new_graph.indices.tobytes() == rebuilt.indices.tobytes()

    old, new = (graph, whole.capped(10)), (new_graph, new_whole.capped(10))
    expected = select_chains(new_graph, new[1] if best else None, vectors, config=config)
    made = update_chains(chains, old, new, vectors, config=config)
    assert made.tobytes() == expected.tobytes()
    assert (made[:OLD_NEWS] != chains).any()
    affected = affected_starts(old, new, config)
    assert affected[OLD_NEWS:].all()
    assert 0 < affected[:OLD_NEWS].mean() < 0.5

    moved = vectors.copy()
    moved[[5, 50]] *= -1
    marks = np.zeros(NEW_NEWS, bool)
    marks[[5, 50]] = True
    again = update_chains(made, new, new, moved, config=config, changed_vectors=marks)
    assert (
        again.tobytes() == select_chains(new_graph, new[1] if best else None, moved, config=config).tobytes()
    )
    assert affected_starts(new, new, config).sum() == 0


def test_bad_input_is_named(days) -> None:
    before, _, _, vectors = days
    graph = ClickGraph.build(before, None, OLD_NEWS)
    with pytest.raises(InputError, match=r"chains of shape \(400, 1, 8\) for a graph of 400 news"):
        update_chains(
            np.zeros((400, 1, 8), np.int32),
            (graph, None),
            (graph, None),
            vectors,
            config=ChainConfig(length=4),
        )
    with pytest.raises(InputError, match="co-readers are missing"):
        affected_starts((graph, None), (graph, None), ChainConfig())
    with pytest.raises(InputError, match="more than the 400 of the new one"):
        affected_starts((graph.with_num_news(500), None), (graph, None), ChainConfig(support=0))

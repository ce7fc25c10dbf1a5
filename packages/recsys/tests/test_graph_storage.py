"""The graph on disk, and the subgraphs around histories."""

from __future__ import annotations

import json

import numpy as np
import pytest
from multiway_core.errors import DataError, InputError, OutputError
from multiway_recsys.data.tables import Ragged
from multiway_recsys.graph import ChainConfig, ClickGraph, CoReaders, select_chains
from multiway_recsys.graph.storage import StoredGraph

NUM_NEWS = 50


def made_graph(order_seed: int | None = None) -> StoredGraph:
    generator = np.random.default_rng(0)
    histories = Ragged.from_rows(
        [generator.integers(0, NUM_NEWS, generator.integers(0, 20)) for _ in range(40)]
    )
    users = generator.integers(0, 30, 40)
    if order_seed is not None:
        order = np.random.default_rng(order_seed).permutation(40)
        histories, users = histories.take(order), users[order]
    vectors = generator.normal(size=(NUM_NEWS, 4)).astype(np.float32)
    graph = ClickGraph.build(histories, users, NUM_NEWS, until=1_573_000_000)
    co_readers = CoReaders.build(histories, users, NUM_NEWS, cap=8)
    config = ChainConfig(length=5, num_chains=2)
    chains = select_chains(graph, co_readers, vectors, config=config)
    ids = ("", *(f"N{number}" for number in range(1, NUM_NEWS)))
    return StoredGraph(graph, co_readers, chains, config, "tf-idf-4", ids)


def bytes_of(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_comes_back_mapped_and_equal(tmp_path) -> None:
    made = made_graph()
    made.save(tmp_path / "graph")
    loaded = StoredGraph.load(tmp_path / "graph")
    for one, other in ((made.graph, loaded.graph), (made.co_readers, loaded.co_readers)):
        for name, value in vars(one).items():
            assert np.array_equal(value, getattr(other, name)), name
    assert loaded.chains.tobytes() == made.chains.tobytes()
    assert (loaded.chain_config, loaded.vectors, loaded.news_ids) == (
        made.chain_config,
        "tf-idf-4",
        made.news_ids,
    )
    assert not loaded.graph.indices.flags.writeable
    assert isinstance(loaded.graph.indices.base, np.memmap)


def test_the_bytes_do_not_depend_on_the_order_of_the_log(tmp_path) -> None:
    made_graph().save(tmp_path / "one")
    made_graph(order_seed=3).save(tmp_path / "other")
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "other")


def test_a_graph_alone(tmp_path) -> None:
    graph = made_graph().graph
    StoredGraph(graph).save(tmp_path / "graph")
    assert sorted(bytes_of(tmp_path / "graph")) == ["indices.npy", "indptr.npy", "meta.json", "weights.npy"]
    loaded = StoredGraph.load(tmp_path / "graph").graph
    assert loaded.until == 1_573_000_000
    assert loaded.indices.tolist() == graph.indices.tolist()
    StoredGraph(ClickGraph.build(Ragged.from_rows([]), None, 1)).save(tmp_path / "empty")
    assert StoredGraph.load(tmp_path / "empty").graph.num_edges == 0
    with pytest.raises(OutputError, match="not empty"):
        StoredGraph(graph).save(tmp_path / "graph")


@pytest.mark.parametrize("name", ["indptr", "indices", "weights", "chains", "co_readers_counts"])
def test_a_damaged_or_missing_file_is_named(tmp_path, name) -> None:
    folder = tmp_path / "graph"
    made_graph().save(folder)
    path = folder / f"{name}.npy"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=f"{name}.npy: not a whole NumPy file"):
        StoredGraph.load(folder)
    np.save(path, np.zeros(3))
    with pytest.raises(DataError, match=f"{name}.npy: float64 of shape"):
        StoredGraph.load(folder)
    path.unlink()
    with pytest.raises(DataError, match=f"{name}.npy: no such file"):
        StoredGraph.load(folder)


def test_bad_content_is_named(tmp_path) -> None:
    folder = tmp_path / "graph"
    made_graph().save(folder)
    indices = np.load(folder / "indices.npy")
    np.save(folder / "indices.npy", indices + 40)
    with pytest.raises(DataError, match=r"indices.npy: news outside 0 to 49"):
        StoredGraph.load(folder)
    np.save(folder / "indices.npy", indices)
    indptr = np.load(folder / "indptr.npy")
    np.save(folder / "indptr.npy", indptr[::-1].copy())
    with pytest.raises(DataError, match="row starts must ascend"):
        StoredGraph.load(folder)
    np.save(folder / "indptr.npy", indptr)
    (folder / "news_ids.txt").write_text("\nN1\n", encoding="utf-8")
    with pytest.raises(DataError, match="2 ids, expected 50"):
        StoredGraph.load(folder)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"schema": "other/9"}))
    with pytest.raises(DataError, match="schema 'other/9', this version reads"):
        StoredGraph.load(folder)
    (folder / "meta.json").write_text("{")
    with pytest.raises(DataError, match="build the graph anew"):
        StoredGraph.load(folder)
    with pytest.raises(DataError, match="no click graph"):
        StoredGraph.load(tmp_path)
    with pytest.raises(InputError, match="give both or neither"):
        StoredGraph(made_graph().graph, chains=np.zeros((NUM_NEWS, 1, 8), np.int32))

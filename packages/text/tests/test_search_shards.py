"""Vectors made in shards: the same as an index makes itself, however the texts are divided, and by Ray Data."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from multiway_core.errors import InputError
from multiway_text.search.pipeline import SearchPipeline
from multiway_text.search.shards import ShardEmbedder, add_shard
from multiway_text.search.store import Index

TEXTS = {str(n): "Anna lives in Paris. " * (n % 4) + f"Tom was {'good ' * n}in London." for n in range(30)}


def contents(index: Index) -> dict[tuple[Any, ...], Any]:
    rows = index.connection.execute(
        "SELECT d.path, c.start, c.end, c.text, v.vector FROM documents d JOIN chunks c ON c.document = d.id "
        "JOIN vectors v ON v.chunk = c.id WHERE d.whole"
    )
    return {row[:4]: np.frombuffer(row[4], np.float16).astype(float) for row in rows}


def shards(size: int) -> list[dict[str, Any]]:
    items = list(TEXTS.items())
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    return [{"id": [id for id, _ in part], "text": [text for _, text in part]} for part in parts]


def same(one: Index, other: Index) -> None:
    first, second = contents(one), contents(other)
    assert first.keys() == second.keys()
    for key, vector_E in first.items():
        np.testing.assert_allclose(vector_E, second[key], atol=2e-3)


def test_shards_give_the_vectors_of_the_index(tiny_encoder: Path, tmp_path: Path) -> None:
    pipeline = SearchPipeline.from_pretrained(str(tiny_encoder))
    with (
        pipeline.open(tmp_path / "one", create=True, tokens=16) as one,
        pipeline.open(tmp_path / "other", create=True, tokens=16) as other,
    ):
        count = pipeline.add(one, TEXTS)
        embedder = pickle.loads(
            pickle.dumps(ShardEmbedder(str(tiny_encoder), tokens=16))
        )  # as an engine sends it
        made = [embedder(shard) for shard in reversed(shards(7))]
        assert sum(add_shard(pipeline, other, rows) for rows in made) == count
        same(one, other)
        add_shard(pipeline, other, made[0])  # again: in place of what was there
        same(one, other)
        assert pipeline.query(other, "anna", mode="bm25").hits
        with pytest.raises(InputError, match="columns id and text; there are body"):
            embedder({"body": []})


@pytest.mark.requires("ray", "pandas")
def test_ray_data_gives_the_same_vectors(tiny_encoder: Path, tmp_path: Path) -> None:
    import ray

    pipeline = SearchPipeline.from_pretrained(str(tiny_encoder))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        rows = ray.data.from_items([{"id": id, "text": text} for id, text in TEXTS.items()])
        rows = rows.map_batches(
            ShardEmbedder,
            fn_constructor_args=[str(tiny_encoder)],
            fn_constructor_kwargs={"tokens": 16},
            concurrency=2,
            batch_size=8,
        )
        with (
            pipeline.open(tmp_path / "one", create=True, tokens=16) as one,
            pipeline.open(tmp_path / "other", create=True, tokens=16) as other,
        ):
            pipeline.add(one, TEXTS)
            for batch in rows.iter_batches(batch_size=None, batch_format="numpy"):
                add_shard(pipeline, other, batch)
            same(one, other)
    finally:
        ray.shutdown()

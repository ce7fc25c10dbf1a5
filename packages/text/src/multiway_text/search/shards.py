"""Passages and vectors of many texts, made in batches by any engine (Ray Data, Spark), then put into an index.

    rows = ray.data.read_parquet("texts").map_batches(
        ShardEmbedder, fn_constructor_args=["bundled:minilm-l6"], concurrency=8, batch_size=1024)
    with pipeline.open(folder, create=True) as index:
        for batch in rows.iter_batches(batch_size=None, batch_format="numpy"):  # whole blocks
            add_shard(pipeline, index, batch)

The engine may divide the texts as it likes; an embedder is sent by its model's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from multiway_core.errors import InputError

from multiway_text.search.chunks import Chunk, ChunkSettings
from multiway_text.search.extract import Section
from multiway_text.search.pipeline import SearchPipeline
from multiway_text.search.store import Index
from multiway_text.search.vectors import extend_graph

Columns = dict[str, Any]


class ShardEmbedder:
    """A function of batches of rows: the columns ``id`` and ``text`` in, passages with their vectors out.

    The model is loaded with the first batch, so that an embedder is small to send.
    """

    def __init__(self, model: str, *, tokens: int = 200, overlap: int = 0) -> None:
        self.model, self.settings = model, ChunkSettings(tokens, overlap)

    @cached_property
    def pipeline(self) -> SearchPipeline:
        """Of this process."""
        return SearchPipeline.from_pretrained(self.model)

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "settings": self.settings}

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> Columns:
        """The columns ``id``, ``start``, ``end``, ``text``, ``vector`` (float16, of length 1) of the passages.

        Raises InputError: a column is not there.
        """
        missing = {"id", "text"} - set(batch)
        if missing:
            raise InputError(f"a shard needs the columns id and text; there are {', '.join(sorted(batch))}")
        chunks = [
            (str(id), chunk)
            for id, text in zip(batch["id"], batch["text"], strict=True)
            for chunk in self.pipeline.split(Section(str(text)), self.settings)
        ]
        return {
            "id": np.array([id for id, _ in chunks], object),
            "start": np.array([chunk.start for _, chunk in chunks], np.int64),
            "end": np.array([chunk.end for _, chunk in chunks], np.int64),
            "text": np.array([chunk.text for _, chunk in chunks], object),
            "vector": self.pipeline.embed([chunk.text for _, chunk in chunks]).astype(np.float16),
        }


def add_shard(pipeline: SearchPipeline, index: Index, rows: Mapping[str, Sequence[Any]]) -> int:
    """Put what a `ShardEmbedder` made into an index of the same model; how many passages they are.

    All passages of a text must be in ``rows``, one behind the other. Raises InputError (another model), OutputError.
    """
    pipeline.check(index)
    vectors = [np.asarray(vector, np.float16) for vector in rows["vector"]]
    numbers = range(len(vectors))
    with index.writing():
        with index.transaction():
            for id, group in groupby(numbers, key=lambda row: str(rows["id"][row])):
                own = list(group)
                parts = [Chunk(str(rows["text"][r]), int(rows["start"][r]), int(rows["end"][r])) for r in own]
                document = index.begin(id, "text", parts[-1].end, 0, "", whole=True)
                index.add(document, parts, np.stack([vectors[row] for row in own]))
                index.set(document, sections=1)
        extend_graph(index)
    return len(numbers)

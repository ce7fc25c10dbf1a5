"""The features of the news, as arrays with one row a news; row 0 is padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_recsys.data.tables import News
from multiway_recsys.glocim.statistics import ClickStatistics


@dataclass(frozen=True)
class Features:
    """Static arrays over N news. What a model does not use may be None; what it needs and lacks is an InputError.

    tokens (N, T) int32: word ids of the titles, 0 behind the end. abstract_tokens (N, A) likewise.
    text_vectors (N, d) float32: given text vectors.
    categories, subcategories (N,) int32, 0 = unknown; ``num_categories`` and ``num_subcategories`` count the 0.
    entities (N, 5) int32: entities of the title, 0 behind the last. entity_neighbours (entities, 10) int32.
    graph: ``indices[indptr[i]:indptr[i + 1]]`` are the news whose messages reach news i (with a ClickGraph's rows:
    its successors for direction "out"), with ``weights``.
    chains (N, K, L) int32: long chains of each news, 0 behind the last.
    statistics: earlier clicks and age of a news at a time, for the popularity term.
    """

    categories: NDArray[np.int32]
    subcategories: NDArray[np.int32]
    num_categories: int
    num_subcategories: int
    tokens: NDArray[np.int32] | None = None
    abstract_tokens: NDArray[np.int32] | None = None
    num_words: int = 0
    text_vectors: NDArray[np.float32] | None = None
    entities: NDArray[np.int32] | None = None
    entity_neighbours: NDArray[np.int32] | None = None
    num_entities: int = 0
    graph_indptr: NDArray[np.int64] | None = None
    graph_indices: NDArray[np.int32] | None = None
    graph_weights: NDArray[np.float32] | None = None
    chains: NDArray[np.int32] | None = None
    statistics: ClickStatistics | None = None

    def __post_init__(self) -> None:
        rows = len(self.categories)
        for name in ("subcategories", "tokens", "abstract_tokens", "text_vectors", "entities", "chains"):
            array = getattr(self, name)
            if array is not None and len(array) != rows:
                raise InputError(f"features: {name} has {len(array)} rows, but there are {rows} news")
        if self.graph_indptr is not None and len(self.graph_indptr) != rows + 1:
            raise InputError(
                f"features: the graph has {len(self.graph_indptr) - 1} news, but there are {rows}: "
                "build it over the same news"
            )

    def __len__(self) -> int:
        return len(self.categories)

    @property
    def text_dim(self) -> int:
        """Width of the given text vectors; 0 without."""
        return 0 if self.text_vectors is None else self.text_vectors.shape[1]

    @classmethod
    def of_news(
        cls,
        news: News,
        *,
        tokens: NDArray[np.int32] | None = None,
        abstract_tokens: NDArray[np.int32] | None = None,
        num_words: int = 0,
        text_vectors: NDArray[np.float32] | None = None,
        entities_per_news: int = 5,
        entity_neighbours: NDArray[np.int32] | None = None,
        graph: tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]] | None = None,
        chains: NDArray[np.int32] | None = None,
        statistics: ClickStatistics | None = None,
    ) -> Features:
        """Features of a catalogue; ``graph`` = (indptr, indices, weights) of a ClickGraph. Raises InputError."""
        indptr, indices, weights = graph if graph is not None else (None, None, None)
        return cls(
            categories=news.categories,
            subcategories=news.subcategories,
            num_categories=len(news.category_names),
            num_subcategories=len(news.subcategory_names),
            tokens=tokens,
            abstract_tokens=abstract_tokens,
            num_words=num_words,
            text_vectors=text_vectors,
            entities=first_values(news.entities.values, news.entities.offsets, entities_per_news),
            entity_neighbours=entity_neighbours,
            num_entities=len(news.entity_ids),
            graph_indptr=indptr,
            graph_indices=indices,
            graph_weights=weights,
            chains=chains,
            statistics=statistics,
        )

    def need(self, name: str, purpose: str) -> NDArray[np.generic]:
        """The array of that name. Raises InputError saying what it is for if there is none."""
        array: NDArray[np.generic] | None = getattr(self, name)
        if array is None:
            raise InputError(f"features: {name} is missing, and {purpose} needs it")
        return array


def first_values(values: NDArray[np.int32], offsets: NDArray[np.int64], width: int) -> NDArray[np.int32]:
    """The first ``width`` values of each row of a ragged table, 0 behind the last: (rows, width) int32."""
    places = offsets[:-1, None] + np.arange(width)
    inside = places < offsets[1:, None]
    padded = np.concatenate([values, np.zeros(1, np.int32)])
    return np.where(inside, padded[np.where(inside, places, len(values))], 0).astype(np.int32)


def last_values(
    values: NDArray[np.int32], offsets: NDArray[np.int64], rows: NDArray[np.integer], width: int
) -> NDArray[np.int32]:
    """The last ``width`` values of the given rows, right-aligned behind zeros: (len(rows), width) int32."""
    places = offsets[rows + 1][:, None] - np.arange(width, 0, -1)
    inside = places >= offsets[rows][:, None]
    padded = np.concatenate([values, np.zeros(1, np.int32)])
    return np.where(inside, padded[np.where(inside, places, len(values))], 0).astype(np.int32)

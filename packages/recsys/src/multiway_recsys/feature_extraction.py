"""From a log to the arrays that a network reads: features of texts, the click graph and the long chains along it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from multiway_core.errors import ConfigError
from numpy.typing import NDArray

from multiway_recsys.data.tables import NO_NEWS, Behaviors, News, Ragged
from multiway_recsys.glocim.config import GlocimConfig
from multiway_recsys.glocim.features import Features
from multiway_recsys.glocim.statistics import ClickStatistics
from multiway_recsys.graph import (
    INTENDED,
    ChainConfig,
    ClickGraph,
    CoReaders,
    entity_graph,
    select_chains,
    top_neighbours,
)
from multiway_recsys.serving.text_source import MINILM, EncoderSource, TextSource, TfidfSource, WordSource
from multiway_recsys.text.tfidf import TfidfEncoder, news_text
from multiway_recsys.text.tokens import Vocabulary

TEXT_WIDTH, TERMS = 64, 10_000  # of TF-IDF-SVD vectors


@dataclass(frozen=True)
class ClickStructure:
    """What the clicks say of the news: the graph, and the long chains chosen in it."""

    graph: ClickGraph
    chains: NDArray[np.int32]  # (N, K, L)


def text_source(news: News, config: GlocimConfig, text: str, seed: int) -> TextSource:
    """What turns the texts into features: words of the titles, TF-IDF-SVD fitted on them, or MiniLM."""
    if config.text == "words":
        abstracts = news.abstracts[1:] if config.abstract_length else ()
        return WordSource(Vocabulary.of_texts((*news.titles[1:], *abstracts)))
    if text == "minilm":
        return EncoderSource(MINILM)
    texts = [news_text(*row) for row in zip(news.titles[1:], news.abstracts[1:], strict=True)]
    return TfidfSource(TfidfEncoder.fit(texts, width=TEXT_WIDTH, max_terms=TERMS, seed=seed))


def with_texts(news: News, source: TextSource, config: GlocimConfig) -> Features:
    """Features of texts, categories and entities; no clicks yet."""
    arrays: dict[str, Any] = source.features(
        news.titles, news.abstracts, title_length=config.title_length, abstract_length=config.abstract_length
    )
    for array in arrays.values():
        array[NO_NEWS] = 0
    num_words = len(source.vocabulary) if isinstance(source, WordSource) else 0
    return Features.of_news(news, num_words=num_words, entities_per_news=config.entities_per_news, **arrays)


def chain_config(config: GlocimConfig) -> ChainConfig:
    """How chains are chosen for a network: its number and length of them."""
    if config.chain == "released":
        return INTENDED
    return ChainConfig(length=config.chain_length, num_chains=config.chains_per_news)


def click_structure(
    behaviors: Behaviors,
    features: Features,
    news: News,
    config: GlocimConfig,
    *,
    chains: ChainConfig | None = None,
    until: int | None = None,
) -> ClickStructure:
    """Graph of all histories of a log, and chains along it.

    until: seconds since 1970 of the last click, if it is known; otherwise it is the time of the latest impression.
    Chains are chosen by the given text vectors where there are some.
    """
    chains = chains or chain_config(config)
    num_news = len(news)
    histories, users = behaviors.histories, behaviors.users
    if until is None and len(behaviors):
        until = int(behaviors.times.max())
    graph = ClickGraph.build(histories, users, num_news, direction=chains.direction, until=until)
    if config.chain == "none":
        return ClickStructure(graph, np.zeros((num_news, 1, 1), np.int32))
    co_readers = CoReaders.build(histories, users, num_news)
    vectors = features.text_vectors
    if vectors is None and chains.rule != "best":
        raise ConfigError(f"chains by the rule {chains.rule!r} need text vectors to choose by")
    return ClickStructure(
        graph, select_chains(graph, co_readers, vectors, config=chains, categories=news.categories)
    )


def with_clicks(
    features: Features,
    structure: ClickStructure,
    news: News,
    config: GlocimConfig,
    *,
    statistics_of: Behaviors | Sequence[Behaviors] | None = None,
) -> Features:
    """The features with graph and chains and, where the network wants them, neighbours of entities and popularity."""
    graph, num_entities = structure.graph, len(news.entity_ids)
    entities = None
    if config.entities:
        around = entity_graph(graph, news.entities, num_entities, per_news=config.entities_per_news)
        entities = top_neighbours(around, config.neighbours_per_entity)
    statistics = None
    if config.popularity and statistics_of is not None:
        statistics = ClickStatistics.build(statistics_of, len(news), published=news.published)
    return replace(
        features,
        graph_indptr=graph.indptr,
        graph_indices=graph.indices,
        graph_weights=graph.weights,
        chains=structure.chains,
        entity_neighbours=entities,
        statistics=statistics,
    )


def renumbered(news: News, known: News) -> News:
    """The news with the categories and entities numbered as in ``known``; what that does not know is 0."""
    if news is known:
        return news

    def numbers(names: tuple[str, ...], known_names: tuple[str, ...]) -> NDArray[np.int32]:
        number_of = {name: number for number, name in enumerate(known_names)}
        return np.array([number_of.get(name, 0) for name in names], np.int32)

    entities = numbers(news.entity_ids, known.entity_ids)[news.entities.values]
    return replace(
        news,
        categories=numbers(news.category_names, known.category_names)[news.categories],
        subcategories=numbers(news.subcategory_names, known.subcategory_names)[news.subcategories],
        entities=Ragged(entities, news.entities.offsets),
        category_names=known.category_names,
        subcategory_names=known.subcategory_names,
        entity_ids=known.entity_ids,
    )

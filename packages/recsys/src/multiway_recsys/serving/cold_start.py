"""Cold-start news: added after training, with text and category, without clicks and chains."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_recsys.data.tables import News
from multiway_recsys.glocim.features import Features, first_values
from multiway_recsys.glocim.statistics import ClickStatistics
from multiway_recsys.serving.folder import TrainedRecommender


def with_cold_start_news(parts: TrainedRecommender, news: News) -> TrainedRecommender:
    """The recommender over a larger catalogue, whose first news are its own (as ``read_news(..., known=)`` gives).

    New rows get features from their texts; categories and entities that training did not know become unknown.

    Raises InputError: the catalogue does not begin with the recommender's, or its texts cannot be turned into features.
    """
    known = len(parts.news)
    if news.ids[:known] != parts.news.ids:
        raise InputError(
            "the news do not begin with those the model knows; read them with known=recommender.news"
        )
    if len(news) == known:
        return parts
    config, features = parts.model.config, parts.features
    made: dict[str, NDArray[np.generic]] = {}
    if parts.text is not None:
        made = parts.text.features(
            news.titles[known:],
            news.abstracts[known:],
            title_length=config.title_length if features.tokens is None else features.tokens.shape[1],
            abstract_length=0 if features.abstract_tokens is None else features.abstract_tokens.shape[1],
        )
    changed: dict[str, Any] = {}
    for name in ("tokens", "abstract_tokens", "text_vectors"):
        own = getattr(features, name)
        if own is None:
            continue
        if name not in made:
            raise InputError(
                f"{len(news) - known} news are new to the model, and it keeps nothing to turn their texts into {name}"
            )
        changed[name] = np.concatenate([own, made[name].astype(own.dtype)])
    if features.chains is not None:
        more = np.zeros((len(news) - known, *features.chains.shape[1:]), np.int32)
        changed["chains"] = np.concatenate([features.chains, more])
    graph = parts.graph.with_num_news(len(news))
    entities = first_values(news.entities.values, news.entities.offsets, 5)
    return replace(
        parts,
        news=news,
        graph=graph,
        features=replace(
            features,
            categories=_known(news.categories, features.num_categories),
            subcategories=_known(news.subcategories, features.num_subcategories),
            entities=_known(entities, features.num_entities),
            graph_indptr=graph.indptr,
            statistics=_statistics(features, news),
            **changed,
        ),
    )


def _known(numbers: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    return np.where(numbers < count, numbers, 0).astype(np.int32)


def _statistics(features: Features, news: News) -> ClickStatistics | None:
    """Without clicks for the new ones; their publication where it is told."""
    own = features.statistics
    if own is None:
        return None
    more = len(news) - len(own.published)
    published = np.concatenate([own.published, np.zeros(more, np.int64)])
    if news.published is not None:
        published[-more:] = np.maximum(news.published[-more:], 0)
    values = {item.name: getattr(own, item.name) for item in fields(own)}
    for name in ("click_offsets", "show_offsets"):
        values[name] = np.concatenate([values[name], np.full(more, values[name][-1])])
    return ClickStatistics(**(values | {"published": published}))

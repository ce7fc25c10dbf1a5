"""A little world of random news, graph and impressions for the tests of the models."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from multiway_recsys.data.tables import Behaviors, Ragged
from multiway_recsys.glocim.config import PRESETS, GlocimConfig
from multiway_recsys.glocim.features import Features
from multiway_recsys.glocim.model import Glocim
from multiway_recsys.glocim.statistics import ClickStatistics

NUM_USERS = 9


@dataclass(frozen=True)
class World:
    """Features over ``num_news`` news and labelled impressions of them."""

    features: Features
    behaviors: Behaviors


def make_world(*, num_news: int = 60, num_impressions: int = 30, seed: int = 0) -> World:
    """News 0 is padding; the first impression has no history, and some have one candidate only."""
    rng = np.random.default_rng(seed)
    news = np.arange(1, num_news)
    histories = [rng.choice(news, rng.integers(1, 12)) for _ in range(num_impressions)]
    histories[0] = histories[0][:0]
    candidates = [rng.choice(news, rng.integers(1, 9), replace=False) for _ in range(num_impressions)]
    labels = [np.arange(len(row)) == rng.integers(len(row)) for row in candidates]
    behaviors = Behaviors(
        impression_ids=tuple(str(row) for row in range(num_impressions)),
        users=rng.integers(1, NUM_USERS, num_impressions).astype(np.int32),
        user_ids=tuple(f"U{user}" for user in range(NUM_USERS)),
        times=1_573_000_000 + 1000 * np.arange(num_impressions),
        histories=Ragged.from_rows(histories),
        candidates=Ragged.from_rows(candidates),
        labels=np.concatenate(labels).astype(np.int8),
    )
    edges = Ragged.from_rows(
        [rng.choice(news, rng.integers(0, 6), replace=False) if row else [] for row in range(num_news)]
    )
    chains = np.zeros((num_news, 2, 16), np.int32)
    for row in news[:-5]:  # the last ones have no chain
        for chain in range(2):
            length = rng.integers(1, 9)
            chains[row, chain, :length] = rng.choice(news, length)
    tokens = rng.integers(1, 50, (num_news, 30)) * (np.arange(30) < rng.integers(1, 30, (num_news, 1)))
    entities = rng.integers(0, 20, (num_news, 5))
    features = Features(
        categories=rng.integers(0, 5, num_news).astype(np.int32),
        subcategories=rng.integers(0, 9, num_news).astype(np.int32),
        num_categories=5,
        num_subcategories=9,
        tokens=tokens.astype(np.int32),
        abstract_tokens=tokens[::-1].astype(np.int32),
        num_words=50,
        text_vectors=rng.standard_normal((num_news, 12)).astype(np.float32),
        entities=entities.astype(np.int32),
        entity_neighbours=rng.integers(0, 20, (20, 10)).astype(np.int32),
        num_entities=20,
        graph_indptr=edges.offsets,
        graph_indices=edges.values,
        graph_weights=rng.integers(1, 9, len(edges.values)).astype(np.float32),
        chains=chains,
        statistics=ClickStatistics.build(behaviors, num_news),
    )
    return World(features, behaviors)


def tiny(preset: str, features: Features, **changes: object) -> GlocimConfig:
    """A preset with 2 heads of 4 and short texts, at the sizes of the features."""
    config = replace(
        PRESETS[preset],
        num_heads=2,
        head_dim=4,
        attention_hidden_size=6,
        word_dim=6,
        title_length=7,
        abstract_length=min(9, PRESETS[preset].abstract_length),
        entity_dim=8,
        category_dim=3,
        history_length=8,
    )
    return replace(config, **changes).fitted(features, num_users=NUM_USERS)  # type: ignore[arg-type]


def new_model(config: GlocimConfig, seed: int = 0) -> Glocim:
    """A model whose every tensor is random: norms start at one and zeros hide mistakes."""
    torch.manual_seed(seed)
    model = Glocim(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            size = 0.3 if parameter.dim() == 1 else parameter.shape[-1] ** -0.5  # attention stays soft
            parameter.add_(size * torch.randn_like(parameter))
            if name in ("entity_table.weight", "local_news_encoder.words.weight"):
                parameter[0] = 0
    return model.eval()

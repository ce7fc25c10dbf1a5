"""One batch: every news that it touches once, and who clicked and was shown which.

Shape suffixes: N news of the batch, G nodes of the graph, R clicked news, C candidates, U different candidates,
B impressions, H clicks, K chains, L hops, T tokens or entities, S statistics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from multiway_core.errors import InputError
from numpy.typing import NDArray
from torch import Tensor

from multiway_recsys.data.tables import NO_NEWS
from multiway_recsys.glocim.config import GlocimConfig
from multiway_recsys.glocim.features import Features
from multiway_recsys.glocim.local_news_encoder import NewsInput
from multiway_recsys.glocim.neighbour_interest import Messages
from multiway_recsys.glocim.subgraph import Adjacency, Subgraph, around, disjoint_union, reached

ENTITY_PURPOSE = "the entity encoder (switch it off with entities=False)"


@dataclass(frozen=True)
class Batch:
    """Tensors of one forward pass. Row 0 of the news and of the clicked news is no news (padding)."""

    news: NewsInput  # N rows
    clicks_BH: Tensor  # int64 into the clicked news, right-aligned
    clicks_mask_BH: Tensor  # bool
    candidates_U: Tensor  # int64 into the news
    candidates_BC: Tensor  # int64 into candidates_U
    candidates_mask_BC: Tensor  # bool
    users_B: Tensor  # int64
    num_clicked: int
    graph_nodes_G: Tensor | None = None  # int64 into the news; None: node g is news g
    messages: Messages | None = None
    chains_RKL: Tensor | None = None  # int64 into the news, 0 = none
    clicked_entities_RT: Tensor | None = None  # int64
    candidate_entities_UT: Tensor | None = None
    candidate_neighbours_UT: Tensor | None = None
    statistics_BCS: Tensor | None = None  # float32

    def __len__(self) -> int:
        return len(self.clicks_BH)


class BatchMaker:
    """Makes batches of news numbers: gathers features and the part of the graph that they need."""

    def __init__(self, features: Features, config: GlocimConfig) -> None:
        self.features, self.config = features, config
        self.graph = (
            Adjacency.of_features(features, edge_weight=config.edge_weight)
            if config.neighbour != "none"
            else None
        )
        self.chains = None
        if config.chain != "none":
            chains = features.need("chains", "the long-chain interest")
            if chains.ndim != 3 or chains.shape[2] < config.chain_length:
                wanted = f"({len(features)}, chains, {config.chain_length} or more)"
                raise InputError(f"features: chains have the shape {chains.shape}, expected {wanted}")
            self.chains = chains[:, : config.chains_per_news, : config.chain_length]
        check_features(features, config)

    def __call__(
        self,
        histories_BH: NDArray[np.integer],
        candidates_BC: NDArray[np.integer],
        *,
        candidates_mask_BC: NDArray[np.bool_] | None = None,
        users_B: NDArray[np.integer] | None = None,
        times_B: NDArray[np.int64] | None = None,
    ) -> Batch:
        """A batch of news numbers; 0 in a history is padding before the oldest click."""
        config, features = self.config, self.features
        num_news = len(features)
        if candidates_mask_BC is None:
            candidates_mask_BC = np.ones(candidates_BC.shape, bool)
        clicked, clicks_BH, subgraph = self._clicked(histories_BH)

        # Every news of the batch once: first the clicked ones and what sends them messages, then the others.
        needed = np.zeros(num_news, bool)
        needed[candidates_BC.ravel()] = True
        chains_RKL = None if self.chains is None else self.chains[clicked]
        if chains_RKL is not None:
            needed[chains_RKL.ravel()] = True
        number = np.full(num_news, -1, np.int64)
        graph_nodes: NDArray[np.int64] | None = None
        first = clicked if subgraph is None else subgraph.nodes
        if config.neighbour != "none" and config.graph_batch == "blockdiag":
            assert subgraph is not None
            needed[subgraph.nodes] = True
            needed[NO_NEWS] = False
            first = np.array([NO_NEWS])
        number[first] = np.arange(len(first))
        others = np.flatnonzero(needed & (number < 0))
        number[others] = len(first) + np.arange(len(others))
        news = np.concatenate([first, others])
        if subgraph is not None and config.graph_batch == "blockdiag":
            graph_nodes = number[subgraph.nodes]

        shown = np.zeros(num_news, bool)
        shown[candidates_BC.ravel()] = True
        candidates = np.flatnonzero(shown)
        place = np.zeros(num_news, np.int64)
        place[candidates] = np.arange(len(candidates))
        entities = features.entities if config.entities else None
        statistics = None
        if config.popularity:
            if times_B is None:
                raise ValueError("the popularity term needs the times of the impressions")
            assert features.statistics is not None
            moments = np.repeat(times_B, candidates_BC.shape[1])
            statistics = torch.from_numpy(features.statistics.at(candidates_BC.ravel(), moments))
            statistics = statistics.unflatten(0, candidates_BC.shape)
        return Batch(
            news=news_input(features, config, news),
            clicks_BH=_int64(clicks_BH),
            clicks_mask_BH=torch.from_numpy(histories_BH != NO_NEWS),
            candidates_U=_int64(number[candidates]),
            candidates_BC=_int64(place[candidates_BC]),
            candidates_mask_BC=torch.from_numpy(candidates_mask_BC),
            users_B=_int64(np.zeros(len(histories_BH)) if users_B is None else users_B),
            num_clicked=len(clicked),
            graph_nodes_G=None if graph_nodes is None else _int64(graph_nodes),
            messages=None if subgraph is None else messages_of(subgraph),
            chains_RKL=None if chains_RKL is None else _int64(number[chains_RKL]),
            clicked_entities_RT=None if entities is None else _int64(entities[clicked]),
            candidate_entities_UT=None if entities is None else _int64(entities[candidates]),
            candidate_neighbours_UT=(
                None
                if entities is None
                else _int64(neighbour_entities(features, entities[candidates], config))
            ),
            statistics_BCS=statistics,
        )

    def _clicked(
        self, histories_BH: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Subgraph | None]:
        """Clicked news (row 0 first, as padding), the histories in their rows, and the graph around them."""
        config, num_news = self.config, len(self.features)
        if self.graph is not None and config.graph_batch == "blockdiag":
            return self._clicked_apart(histories_BH)
        flags = np.zeros(num_news, bool)
        flags[histories_BH.ravel()] = True
        flags[NO_NEWS] = True
        clicked = np.flatnonzero(flags)
        number = np.zeros(num_news, np.int64)
        number[clicked] = np.arange(len(clicked))
        if self.graph is None:
            return clicked, number[histories_BH], None
        if config.graph_batch == "full":
            subgraph = reached(self.graph, clicked, num_layers=config.graph_layers)
        else:
            subgraph = around(
                self.graph,
                clicked,
                hops=config.hops,
                per_hop=config.neighbours_per_hop,
                num_layers=config.graph_layers,
                max_nodes=None,
            )
        return clicked, number[histories_BH], subgraph

    def _clicked_apart(
        self, histories_BH: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Subgraph]:
        # One copy of a node for each reader, so that no message crosses from one reader to another.
        config = self.config
        assert self.graph is not None
        parts, clicks_BH = [], np.zeros(histories_BH.shape, np.int64)
        groups = [np.zeros(1, np.int64), *(np.unique(row[row != NO_NEWS]) for row in histories_BH)]
        start = 0
        for row, group in enumerate(groups):
            parts.append(
                around(
                    self.graph,
                    group.astype(np.int64),
                    hops=config.hops,
                    per_hop=config.neighbours_per_hop,
                    num_layers=config.graph_layers,
                    max_nodes=config.max_nodes_per_user,
                )
            )
            if row:
                real = histories_BH[row - 1] != NO_NEWS
                clicks_BH[row - 1, real] = start + np.searchsorted(group, histories_BH[row - 1, real])
            start += len(group)
        subgraph, _places = disjoint_union(parts, start)
        return np.concatenate(groups).astype(np.int64), clicks_BH, subgraph


def check_features(features: Features, config: GlocimConfig) -> None:
    """Raises InputError if the features lack what the model looks at."""
    if config.text == "vectors":
        features.need("text_vectors", 'a model with text "vectors"')
    else:
        features.need("tokens", 'a model with text "words"')
        if config.abstract_length:
            features.need("abstract_tokens", "a model that reads abstracts")
    if config.entities:
        features.need("entities", ENTITY_PURPOSE)
        features.need("entity_neighbours", ENTITY_PURPOSE)
    if config.popularity:
        features.need("statistics", "the popularity term")


def news_input(features: Features, config: GlocimConfig, rows: NDArray[np.integer] | slice) -> NewsInput:
    """The rows of the features that the local news encoder reads."""
    tokens = abstract = vectors = None
    if config.text == "words":
        tokens = _int64(features.need("tokens", "the title encoder")[rows, : config.title_length])
        if config.abstract_length:
            abstract = _int64(
                features.need("abstract_tokens", "the abstract encoder")[rows, : config.abstract_length]
            )
    else:
        vectors = torch.from_numpy(np.asarray(features.need("text_vectors", "the text")[rows], np.float32))
    return NewsInput(
        categories_N=_int64(features.categories[rows]),
        subcategories_N=_int64(features.subcategories[rows]),
        tokens_NT=tokens,
        abstract_tokens_NT=abstract,
        vectors_ND=vectors,
    )


def neighbour_entities(
    features: Features, entities_UT: NDArray[np.integer], config: GlocimConfig
) -> NDArray[np.integer]:
    """Neighbours of each news' entities, entity by entity: (U, entities x neighbours)."""
    table = features.need("entity_neighbours", ENTITY_PURPOSE)
    found = table[entities_UT][..., : config.neighbours_per_entity]
    return np.where(entities_UT[..., None] > 0, found, 0).reshape(len(entities_UT), -1)


def messages_of(subgraph: Subgraph) -> Messages:
    """The edges of a subgraph as tensors."""
    return Messages(
        indptr=torch.from_numpy(np.asarray(subgraph.indptr, np.int64)),
        indices_X=torch.from_numpy(np.array(subgraph.indices, np.int64)),
        weights_X=torch.from_numpy(np.array(subgraph.weights, np.float32)),
        levels=subgraph.levels,
    )


Part = TypeVar("Part", Batch, NewsInput, Messages)


def moved(part: Part, device: torch.device) -> Part:
    """The same tensors on the device."""
    if device.type == "cpu":
        return part
    from multiway_core.training.data import to_device  # beside the trainer, which takes a second to import

    result: Part = to_device(part, device)
    return result


def _int64(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.int64))

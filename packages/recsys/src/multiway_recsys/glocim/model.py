"""The network: GLoCIM and, with parts left out, NRMS, NAML, LSTUR and GLORY.

Per clicked news three views (local, gate(neighbour, long chain), entities) -> click -> reader; per candidate (local,
entities, neighbours of entities) -> candidate; the score is their dot product.

Shape suffixes: N news, R clicked news, U candidates, B readers, H clicks, C candidates of an impression, K chains,
L hops, E hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from multiway_recsys.glocim.batch import (
    Batch,
    check_features,
    messages_of,
    moved,
    neighbour_entities,
    news_input,
)
from multiway_recsys.glocim.candidate_encoder import CandidateEncoder
from multiway_recsys.glocim.click_encoder import ClickEncoder
from multiway_recsys.glocim.config import GlocimConfig
from multiway_recsys.glocim.entity_encoder import GlobalEntityEncoder, LocalEntityEncoder
from multiway_recsys.glocim.features import Features
from multiway_recsys.glocim.gate import FeatureGate
from multiway_recsys.glocim.local_news_encoder import LocalNewsEncoder
from multiway_recsys.glocim.long_chain_encoder import HierarchicalChainEncoder, ReleasedChainEncoder
from multiway_recsys.glocim.neighbour_interest import GatedGraphNetwork
from multiway_recsys.glocim.popularity import PopularityTerm
from multiway_recsys.glocim.subgraph import Adjacency, whole_graph
from multiway_recsys.glocim.user_encoder import AttentionUserEncoder, LsturUserEncoder


@dataclass(frozen=True)
class ClickedNews:
    """What is known of each clicked news before a reader comes in; parts that the model lacks are None."""

    local_RE: Tensor
    neighbour_RE: Tensor | None = None
    chain_RE: Tensor | None = None  # the chains of each news, at news level
    has_chain_R: Tensor | None = None  # bool
    entity_RE: Tensor | None = None
    chains_RKL: Tensor | None = None  # into source_NE, 0 = none: for the released chain encoder
    source_NE: Tensor | None = None


@dataclass(frozen=True)
class EncodedNews:
    """All news of a catalogue, encoded once: as clicks and as candidates."""

    clicked: ClickedNews  # R = all N news
    candidates_NE: Tensor


class Glocim(nn.Module):
    """The model that a config describes; see `config.PRESETS`."""

    def __init__(self, config: GlocimConfig) -> None:
        super().__init__()
        self.config = config
        width, hidden = config.hidden_size, config.attention_hidden_size
        self.local_news_encoder = LocalNewsEncoder(config)
        self.entity_table: nn.Embedding | None = None
        if config.entities:
            self.entity_table = nn.Embedding(max(1, config.num_entities), config.entity_dim, padding_idx=0)
            self.local_entity_encoder = LocalEntityEncoder(config)
            self.global_entity_encoder = GlobalEntityEncoder(config)
        self.neighbour_interest = (
            GatedGraphNetwork(width, config.graph_layers, smooth=config.residual)
            if config.neighbour != "none"
            else None
        )
        self.chain_encoder: HierarchicalChainEncoder | ReleasedChainEncoder | None = None
        if config.chain == "hierarchical":
            self.chain_encoder = HierarchicalChainEncoder(config)
        elif config.chain == "released":
            self.chain_encoder = ReleasedChainEncoder(config)
        is_fused = config.neighbour != "none" and config.chain != "none" and config.gate == "gated"
        self.gate = FeatureGate(width, residual=config.residual) if is_fused else None
        views = self._num_click_views()
        self.click_encoder = (
            ClickEncoder(width, hidden, places=views if config.place_scores else 0) if views > 1 else None
        )
        self.user_encoder: AttentionUserEncoder | LsturUserEncoder
        if config.user.startswith("lstur"):
            self.user_encoder = LsturUserEncoder(config)
        else:
            self.user_encoder = AttentionUserEncoder(config)
        has_cold_user = config.cold_user and not config.user.startswith("lstur")
        self.cold_user = nn.Parameter(torch.zeros(width)) if has_cold_user else None
        self.candidate_encoder = CandidateEncoder(
            width,
            hidden,
            num_views=3 if config.entities else 1,
            projected=config.candidate_projection,
            residual=config.residual,
        )
        self.popularity = PopularityTerm() if config.popularity else None

    def _num_click_views(self) -> int:
        config = self.config
        graph_views = int(config.neighbour != "none") + int(config.chain != "none")
        if config.gate != "none":
            graph_views = min(1, graph_views)
        return 1 + graph_views + int(config.entities)

    def forward(self, batch: Batch) -> Tensor:
        """Scores (B, C) float32 of the candidates; what ``candidates_mask`` leaves out has a score without meaning."""
        local_NE = self.local_news_encoder(batch.news)
        clicked = self._clicked(batch, local_NE)
        user_BE = self.users(clicked, batch.clicks_BH, batch.clicks_mask_BH, batch.users_B)
        candidate_UE = self._candidates(
            local_NE.index_select(0, batch.candidates_U),
            batch.candidate_entities_UT,
            batch.candidate_neighbours_UT,
        )
        shown_BCE = nn.functional.embedding(batch.candidates_BC, candidate_UE)
        scores_BC = (shown_BCE @ user_BE.unsqueeze(-1)).squeeze(-1).float()
        if self.popularity is not None:
            scores_BC = scores_BC + self.popularity(batch.statistics_BCS)
        return scores_BC

    def _clicked(self, batch: Batch, local_NE: Tensor) -> ClickedNews:
        graph_GE = local_NE if batch.graph_nodes_G is None else local_NE.index_select(0, batch.graph_nodes_G)
        neighbour_RE = None
        if self.neighbour_interest is not None:
            assert batch.messages is not None
            neighbour_RE = self.neighbour_interest(graph_GE[: batch.messages.levels[-1]], batch.messages)
        clicked = ClickedNews(
            local_RE=graph_GE[: batch.num_clicked],
            neighbour_RE=neighbour_RE,
            entity_RE=self._entities(batch.clicked_entities_RT),
        )
        return self._with_chains(clicked, local_NE, batch.chains_RKL)

    def _with_chains(self, clicked: ClickedNews, source_NE: Tensor, chains_RKL: Tensor | None) -> ClickedNews:
        if self.chain_encoder is None:
            return clicked
        assert chains_RKL is not None
        source_NE = source_NE if self.config.chain_gradient else source_NE.detach()
        mask_RKL = chains_RKL > 0
        if isinstance(self.chain_encoder, ReleasedChainEncoder):
            return replace(clicked, chains_RKL=chains_RKL, source_NE=source_NE)
        values_RKLE = nn.functional.embedding(chains_RKL, source_NE)
        return replace(
            clicked,
            chain_RE=self.chain_encoder.news_level(values_RKLE, mask_RKL),
            has_chain_R=mask_RKL.flatten(1).any(dim=1),
        )

    def _entities(self, entities: Tensor | None) -> Tensor | None:
        if self.entity_table is None or entities is None:
            return None
        return self.local_entity_encoder(entities, self.entity_table)

    def _candidates(self, local_UE: Tensor, entities: Tensor | None, neighbours: Tensor | None) -> Tensor:
        views = [local_UE]
        if self.entity_table is not None:
            assert entities is not None
            assert neighbours is not None
            views.append(self.local_entity_encoder(entities, self.entity_table))
            views.append(self.global_entity_encoder(neighbours, self.entity_table))
        return self.candidate_encoder(views)

    def users(
        self, clicked: ClickedNews, clicks_BH: Tensor, mask_BH: Tensor, users_B: Tensor | None = None
    ) -> Tensor:
        """Reader vectors (B, E) from clicks, which are rows of ``clicked``; ``mask``: which are real."""
        clicks_BHE = self.clicks(clicked, clicks_BH, mask_BH)
        user_BE = self.user_encoder(clicks_BHE, mask_BH, users_B)
        if self.cold_user is not None:
            user_BE = torch.where(mask_BH.any(dim=1, keepdim=True), user_BE, self.cold_user)
        return user_BE

    def clicks(self, clicked: ClickedNews, clicks_BH: Tensor, mask_BH: Tensor) -> Tensor:
        """Clicks as vectors (B, H, E)."""
        if self._depends_on_reader:
            return self._fused(self.views(clicked, clicks_BH, mask_BH))
        # Nothing of a click depends on the reader's other clicks: each news is fused once.
        rows_R = torch.arange(len(clicked.local_RE), device=clicks_BH.device)[:, None]
        once_RE = self._fused(self.views(clicked, rows_R, torch.ones_like(rows_R, dtype=torch.bool)))[:, 0]
        return nn.functional.embedding(clicks_BH, once_RE)

    @property
    def _depends_on_reader(self) -> bool:
        return self.chain_encoder is not None and (
            isinstance(self.chain_encoder, ReleasedChainEncoder) or self.config.chain_user_level
        )

    def _fused(self, views: list[Tensor]) -> Tensor:
        return views[0] if self.click_encoder is None else self.click_encoder(views)

    def views(self, clicked: ClickedNews, clicks_BH: Tensor, mask_BH: Tensor) -> list[Tensor]:
        """The views of each click, (B, H, E) each: local, the interests as the gate joins them, entities."""
        parts = self.interests(clicked, clicks_BH, mask_BH)
        local, neighbour, chain, has_chain = parts
        views = [local]
        if neighbour is not None and chain is not None and self.config.gate != "none":
            if self.gate is not None:
                views.append(self.gate(neighbour, chain, has_chain))
            else:
                views.append(neighbour + (chain if has_chain is None else chain * has_chain[..., None]))
        else:
            views.extend(view for view in (neighbour, chain) if view is not None)
        if clicked.entity_RE is not None:
            views.append(nn.functional.embedding(clicks_BH, clicked.entity_RE))
        return views

    def interests(
        self, clicked: ClickedNews, clicks_BH: Tensor, mask_BH: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Local view, neighbour interest, long-chain interest (B, H, E) and whether there is a chain (B, H)."""
        gather = nn.functional.embedding
        local_BHE = gather(clicks_BH, clicked.local_RE)
        neighbour_BHE = None if clicked.neighbour_RE is None else gather(clicks_BH, clicked.neighbour_RE)
        if isinstance(self.chain_encoder, ReleasedChainEncoder):
            assert clicked.chains_RKL is not None
            assert clicked.source_NE is not None
            chains_BHL = clicked.chains_RKL[clicks_BH].flatten(2) * mask_BH[..., None]
            values_BHLE = gather(chains_BHL, clicked.source_NE) * (chains_BHL > 0)[..., None]
            # Padding is as empty here as in the published code: there a padded click is a zero vector.
            neighbour_BHE = None if neighbour_BHE is None else neighbour_BHE * mask_BH[..., None]
            return local_BHE, neighbour_BHE, self.chain_encoder(values_BHLE), None
        if clicked.chain_RE is None or clicked.has_chain_R is None:
            return local_BHE, neighbour_BHE, None, None
        assert self.chain_encoder is not None
        has_chain_BH = clicked.has_chain_R[clicks_BH] & mask_BH
        chain_BHE = self.chain_encoder.user_level(gather(clicks_BH, clicked.chain_RE), has_chain_BH)
        return local_BHE, neighbour_BHE, chain_BHE, has_chain_BH

    @torch.no_grad()
    def encode_news(self, features: Features, *, batch_size: int = 2048) -> EncodedNews:
        """All news at once, with messages in the whole graph: what serving stores. In evaluation mode.

        Raises InputError if the features lack what the model looks at.
        """
        was_training = self.training
        self.eval()
        try:
            return self._encode_news(features, batch_size)
        finally:
            self.train(was_training)

    def _encode_news(self, features: Features, batch_size: int) -> EncodedNews:
        config = self.config
        check_features(features, config)
        device = next(self.parameters()).device
        stretches = [slice(start, start + batch_size) for start in range(0, len(features), batch_size)]
        local_NE = torch.cat(
            [self.local_news_encoder(moved(news_input(features, config, rows), device)) for rows in stretches]
        )
        neighbour_NE = None
        if self.neighbour_interest is not None:
            graph = Adjacency.of_features(features, edge_weight=config.edge_weight)
            messages = moved(messages_of(whole_graph(graph, config.graph_layers)), device)
            neighbour_NE = self.neighbour_interest(local_NE, messages)
        entity_parts, candidate_parts = [], []
        for rows in stretches:
            entities = neighbours = None
            if self.entity_table is not None:
                own = np.asarray(features.need("entities", "the entity encoder")[rows], np.int64)
                entities = torch.from_numpy(own).to(device)
                around = neighbour_entities(features, own, config)
                neighbours = torch.from_numpy(np.asarray(around, np.int64)).to(device)
                entity_parts.append(self.local_entity_encoder(entities, self.entity_table))
            candidate_parts.append(self._candidates(local_NE[rows], entities, neighbours))
        clicked = ClickedNews(
            local_RE=local_NE,
            neighbour_RE=neighbour_NE,
            entity_RE=torch.cat(entity_parts) if entity_parts else None,
        )
        if self.chain_encoder is not None:
            chains = features.need("chains", "the long-chain interest")
            chains = chains[:, : config.chains_per_news, : config.chain_length]
            chains_NKL = torch.from_numpy(np.asarray(chains, np.int64)).to(device)
            if isinstance(self.chain_encoder, ReleasedChainEncoder):
                clicked = self._with_chains(clicked, local_NE, chains_NKL)
            else:
                parts = [self._with_chains(clicked, local_NE, chains_NKL[rows]) for rows in stretches]
                clicked = replace(
                    clicked,
                    chain_RE=torch.cat([part.chain_RE for part in parts if part.chain_RE is not None]),
                    has_chain_R=torch.cat(
                        [part.has_chain_R for part in parts if part.has_chain_R is not None]
                    ),
                )
        return EncodedNews(clicked, torch.cat(candidate_parts))

    def parameter_count(self) -> int:
        """Numbers that are trained, without the tables of words, entities and readers."""
        tables = [self.entity_table, self.local_news_encoder.words]
        if isinstance(self.user_encoder, LsturUserEncoder):
            tables.append(self.user_encoder.users)
        in_tables = sum(table.weight.numel() for table in tables if table is not None)
        return sum(parameter.numel() for parameter in self.parameters()) - in_tables

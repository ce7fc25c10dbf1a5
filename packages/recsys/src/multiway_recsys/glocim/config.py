"""Sizes and switches of the recommender, and its presets.

One class, :class:`~multiway_recsys.glocim.model.Glocim`, is GLoCIM and every model it is compared with: a preset says
which parts are there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from multiway_recsys.glocim.features import Features


@dataclass(frozen=True)
class GlocimConfig:
    """The whole model. What depends on the data (the last fields) is filled in by :meth:`fitted`.

    A value that cannot work raises ValueError, which `multiway_core.config` reports with the file's name.
    """

    # Sizes
    num_heads: int = 20
    head_dim: int = 20
    attention_hidden_size: int = 200
    """Width of the additive attention's hidden layer."""
    dropout: float = 0.2
    history_length: int = 50
    """The newest clicks that are looked at."""
    negatives: int = 4
    """Not clicked news of the same impression beside each clicked one in training."""

    # Text of a news
    text: Literal["words", "vectors"] = "words"
    """"words": titles through a trained encoder; "vectors": given vectors of a frozen encoder."""
    word_dim: int = 300
    title_length: int = 30
    abstract_length: int = 0
    """Words of the abstract that are read as a view of its own (NAML); 0 = none."""
    title_encoder: Literal["attention", "cnn"] = "attention"
    title_norm: bool = True
    """LayerNorm behind attention and pooling, as GLORY has it and NRMS has not."""

    # Category
    category: Literal["none", "enhanced", "released", "views", "concatenated"] = "enhanced"
    """"enhanced": attention over title, category and subcategory; "released": what the published GLoCIM code computes;
    "views": NAML's views; "concatenated": LSTUR's."""
    category_dim: int = 100

    # Entities
    entities: bool = True
    entities_per_news: int = 5
    entity_dim: int = 100
    neighbours_per_entity: int = 10

    # Neighbour interest
    neighbour: Literal["none", "gated-graph"] = "gated-graph"
    graph_layers: int = 3
    graph_batch: Literal["full", "union", "blockdiag"] = "union"
    """Which graph messages run in: the whole one (computed only where a click needs it), the union of the readers'
    subgraphs, or one subgraph a reader as in the published code."""
    hops: int = 2
    neighbours_per_hop: int = 8
    max_nodes_per_user: int = 512
    """Only for "blockdiag": the subgraph of a reader is cut here, nearest hops first."""
    edge_weight: Literal["one", "log1p"] = "one"
    """"log1p": messages weighted by log(1 + readers), normalised over each news' neighbours."""

    # Long-chain interest
    chain: Literal["none", "hierarchical", "released"] = "hierarchical"
    chains_per_news: int = 1
    chain_length: int = 8
    hop_embedding: bool = True
    chain_user_level: bool = True
    """Attention over the chains of a reader's clicks behind the attention inside each chain."""
    chain_gradient: bool = True
    """Whether the loss reaches the news encoder through the chain (the published code: no)."""

    # Fusion, reader, candidate
    gate: Literal["gated", "sum", "none"] = "gated"
    """How neighbour and long-chain interest join; "none": they stay views of their own."""
    user: Literal["attention", "additive", "lstur-ini", "lstur-con"] = "attention"
    user_dropout: float = 0.5
    """LSTUR: how often a reader's own vector is left out in training."""
    residual: bool = False
    """Skips around attention, gate and projection, so that a news matches its like from the first step on. The papers
    have none and learn that from millions of clicks; on small logs they learn the training weeks by heart instead."""
    place_scores: bool = False
    """Whether the place of a click among the newest, and of a hop in its chain, counts by itself in the pooling."""
    rotation: float = 0.0
    """Of the training batches with given text vectors, the share whose text space is turned at random: there nothing
    can be learnt of a single news, only how news relate along clicks, neighbours and chains."""
    candidate_projection: bool = True
    """Linear and LeakyReLU on the candidate (GLORY, GLoCIM)."""
    cold_user: bool = True
    """A learned vector for readers without history; without it theirs is zero."""
    history_dropout: float = 0.05
    """How often a whole history is left out in training, so that the vector of cold readers learns."""
    popularity: bool = False
    """Add a learned function of a candidate's age and earlier clicks to its score."""

    # Sizes that the data decide
    num_words: int = 0
    text_dim: int = 0
    num_categories: int = 0
    num_subcategories: int = 0
    num_entities: int = 0
    num_users: int = 0

    def __post_init__(self) -> None:
        for name in ("num_heads", "head_dim", "attention_hidden_size", "history_length", "negatives"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("dropout", "history_dropout", "user_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")
        if self.entities and self.entity_dim % self.entity_head_dim:
            raise ValueError(f"entity_dim {self.entity_dim} is not a multiple of {self.entity_head_dim}")
        if self.category == "concatenated" and self.hidden_size <= 2 * self.category_dim:
            raise ValueError(
                f"hidden size {self.hidden_size} leaves no room for two categories of {self.category_dim}"
            )
        if self.category == "released" and self.text != "words":
            raise ValueError(
                'category "released" takes its vectors from the word table: it needs text "words"'
            )
        if self.chain == "released" and self.gate == "none":
            raise ValueError('chain "released" knows no gate "none"')

    @property
    def hidden_size(self) -> int:
        """Width d of every news and user vector."""
        return self.num_heads * self.head_dim

    @property
    def entity_head_dim(self) -> int:
        """Width of a head of the attention over a news' own entities."""
        return min(self.head_dim, self.entity_dim)

    def fitted(self, features: Features, *, num_users: int = 0) -> GlocimConfig:
        """With the sizes of the data. ``num_users`` counts the unknown reader 0; only LSTUR needs it."""
        return replace(
            self,
            num_words=features.num_words if self.text == "words" else 0,
            text_dim=features.text_dim if self.text == "vectors" else 0,
            num_categories=features.num_categories,
            num_subcategories=features.num_subcategories,
            num_entities=features.num_entities if self.entities else 0,
            num_users=num_users if self.user.startswith("lstur") else 0,
        )


GLOCIM = GlocimConfig()
"""Ours at the paper's size: what the released code was meant to compute, made to work (see README.md)."""

GLOCIM_INTENDED = replace(
    GLOCIM,
    category="released",
    graph_batch="blockdiag",
    chain="released",
    chain_length=10,
    hop_embedding=False,
    chain_gradient=False,
    cold_user=False,
    history_dropout=0.0,
)
"""The network of the released code, on chains that were really walked."""

GLOCIM_RELEASED = GLOCIM_INTENDED
"""The same network on the chains that the released code makes (six copies of one neighbour, four zeros): what
differs is the chain table, see `multiway_recsys.graph.chains`."""

GLORY = replace(
    GLOCIM, category="none", graph_batch="blockdiag", chain="none", cold_user=False, history_dropout=0.0
)
"""Going Beyond Local: Global Graph-Enhanced Personalized News Recommendations (RecSys 2023)."""

_HISTORY_ONLY = replace(
    GLOCIM,
    entities=False,
    neighbour="none",
    chain="none",
    title_norm=False,
    candidate_projection=False,
)
NRMS = replace(_HISTORY_ONLY, category="none")
"""Neural News Recommendation with Multi-Head Self-Attention (EMNLP 2019)."""

NAML = replace(_HISTORY_ONLY, category="views", title_encoder="cnn", user="additive", abstract_length=50)
"""Neural News Recommendation with Attentive Multi-View Learning (IJCAI 2019)."""

LSTUR = replace(_HISTORY_ONLY, category="concatenated", title_encoder="cnn", user="lstur-ini")
"""Neural News Recommendation with Long- and Short-term User Representations (ACL 2019)."""


def small(config: GlocimConfig) -> GlocimConfig:
    """For a CPU: 64 wide, on given text vectors, without entities, messages in the whole graph.

    What differs from the papers was measured on the simulated portal, where each season has stories of its own (see
    benchmarks/results/recsys/news-quality.md): a network that starts as plain likeness along the click graph
    (`residual`, `place_scores`, averages over neighbours) and three chains of 16 hops. Given text vectors tell the
    topic; ids of categories on top let a small network learn the training weeks by heart.
    """
    return replace(
        config,
        num_heads=4,
        head_dim=16,
        attention_hidden_size=64,
        dropout=0.1,
        text="vectors",
        abstract_length=0,
        category="none" if config.category in ("enhanced", "released") else config.category,
        category_dim=16,
        entities=False,
        graph_batch="full",
        residual=True,
        place_scores=True,
        edge_weight="log1p",
        chain_length=16 if config.chain == "hierarchical" else config.chain_length,
        chains_per_news=3 if config.chain == "hierarchical" else config.chains_per_news,
        cold_user=True,
        history_dropout=0.05,
    )


PRESETS: dict[str, GlocimConfig] = {
    "nrms": NRMS,
    "naml": NAML,
    "lstur": LSTUR,
    "glory": GLORY,
    "glocim": GLOCIM,
    "glocim-released": GLOCIM_RELEASED,
    "glocim-intended": GLOCIM_INTENDED,
}
PRESETS |= {f"{name}-small": small(config) for name, config in PRESETS.items()}

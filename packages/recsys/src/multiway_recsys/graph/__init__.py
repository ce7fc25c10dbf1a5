"""The global click graph, the long chains along it, and what keeps both on disk."""

from multiway_recsys.graph.chain_updates import update_chains
from multiway_recsys.graph.chains import (
    INTENDED,
    ChainConfig,
    random_chains,
    random_walks,
    select_chains,
    shuffled_chains,
)
from multiway_recsys.graph.chains import RELEASED as RELEASED_CHAINS
from multiway_recsys.graph.click_graph import ClickGraph, entity_graph, top_neighbours
from multiway_recsys.graph.co_readers import CoReaders
from multiway_recsys.graph.neighbours import Subgraphs, history_subgraphs
from multiway_recsys.graph.pair_counts import RELEASED as RELEASED_COUNTING
from multiway_recsys.graph.pair_counts import CountingRules
from multiway_recsys.graph.storage import StoredGraph

__all__ = [
    "INTENDED",
    "RELEASED_CHAINS",
    "RELEASED_COUNTING",
    "ChainConfig",
    "ClickGraph",
    "CoReaders",
    "CountingRules",
    "StoredGraph",
    "Subgraphs",
    "entity_graph",
    "history_subgraphs",
    "random_chains",
    "random_walks",
    "select_chains",
    "shuffled_chains",
    "top_neighbours",
    "update_chains",
]

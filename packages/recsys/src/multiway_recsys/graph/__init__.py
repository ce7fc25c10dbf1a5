"""The global click graph, the long chains along it, and what keeps both on disk."""

from multiway_recsys.graph.chains import (
    INTENDED,
    ChainConfig,
    random_chains,
    select_chains,
    shuffled_chains,
)
from multiway_recsys.graph.chains import RELEASED as RELEASED_CHAINS
from multiway_recsys.graph.click_graph import ClickGraph, entity_graph, top_neighbours
from multiway_recsys.graph.co_readers import CoReaders
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
    "entity_graph",
    "random_chains",
    "select_chains",
    "shuffled_chains",
    "top_neighbours",
]

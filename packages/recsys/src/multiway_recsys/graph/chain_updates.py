"""A day's update of the chain table: only chains that can have changed are chosen anew.

A chain depends on what its walk looks at: the first neighbours of the news it visits, how often those were read, and
the co-readers of the news on the path. A start whose walk meets no such change keeps its chains. Yesterday's
news are read no more, so most of the table stands.
"""

from __future__ import annotations

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_recsys.graph.chains import ChainConfig, select_chains
from multiway_recsys.graph.click_graph import ClickGraph, top_table
from multiway_recsys.graph.co_readers import CoReaders

Bools = NDArray[np.bool_]


def update_chains(
    chains: NDArray[np.int32],
    old: tuple[ClickGraph, CoReaders | None],
    new: tuple[ClickGraph, CoReaders | None],
    vectors: NDArray[np.floating] | None,
    *,
    config: ChainConfig,
    categories: NDArray[np.integer] | None = None,
    changed_vectors: Bools | None = None,
) -> NDArray[np.int32]:
    """(N, K, L) chains of the new graph, equal to `select_chains` over all of it.

    Args:
        chains: the table that was chosen by `config` from `old`; news that came since are appended.
        old, new: graph and co-readers before and after; `None` co-readers where the rule needs none.
        vectors, categories: of all N news of the new graph.
        changed_vectors: (N,) news whose vector or category is another one now; None: none but the new ones.

    Raises InputError: what `select_chains` raises, or a table of another size or rule.
    """
    known = len(old[0])
    if chains.shape != (known, config.num_chains, config.width):
        raise InputError(
            f"a table of chains of shape {chains.shape} for a graph of {known} news and a rule of "
            f"{config.num_chains} x {config.width} slots"
        )
    starts = np.flatnonzero(affected_starts(old, new, config, changed_vectors))
    made = np.zeros((len(new[0]), *chains.shape[1:]), np.int32)
    made[:known] = chains
    made[starts] = select_chains(new[0], new[1], vectors, config=config, categories=categories, nodes=starts)
    return made


def affected_starts(
    old: tuple[ClickGraph, CoReaders | None],
    new: tuple[ClickGraph, CoReaders | None],
    config: ChainConfig,
    changed_vectors: Bools | None = None,
) -> Bools:
    """(N,) news whose chains may differ between the old and the new graph."""
    num_news, known = len(new[0]), len(old[0])
    if known > num_news:
        raise InputError(f"the old graph has {known} news, more than the {num_news} of the new one")
    table, weights = top_table(new[0], config.branches)
    old_table, old_weights = top_table(old[0], config.branches)
    # News whose step is another one than it was.
    changed = np.ones(num_news, bool)
    changed[:known] = ((table[:known] != old_table) | (weights[:known] != old_weights)).any(1)
    if config.rule == "best" and (config.support or config.hubs):
        if old[1] is None or new[1] is None:
            raise InputError("co-readers are missing: give those before and after")
        more_reads = np.ones(num_news, bool)
        more_reads[:known] = new[1].reads[:known] != old[1].reads
        changed |= (more_reads[table] & (table > 0)).any(1)
        changed |= _changed_rows(old[1], new[1])
    if changed_vectors is not None:
        changed |= changed_vectors | changed_vectors[table].any(1)
    # Starts that come to one of them within the walk.
    affected = changed
    for _ in range(config.length - 1):
        affected = affected | (affected[table] & (table > 0)).any(1)
    return affected


def _changed_rows(old: CoReaders, new: CoReaders) -> Bools:
    """(N,) rows of co-readers that hold other news or other counts than before."""
    changed = np.ones(len(new), bool)
    lengths, old_lengths = np.diff(new.indptr)[: len(old)], np.diff(old.indptr)
    same = np.flatnonzero(lengths == old_lengths)
    rows = np.repeat(same, lengths[same])
    starts = np.cumsum(lengths[same]) - lengths[same]
    offset = np.arange(len(rows)) - np.repeat(starts, lengths[same])
    place, old_place = new.indptr[rows] + offset, old.indptr[rows] + offset
    differs = (new.indices[place] != old.indices[old_place]) | (new.counts[place] != old.counts[old_place])
    changed[same] = np.bincount(rows[differs], minlength=len(new))[same] > 0
    return changed

"""Slices of an evaluation: impressions grouped by properties of reader and candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_recsys.data.tables import Behaviors

HISTORY_EDGES = (1, 5, 10, 20, 50)
DORMANCY_EDGES = (2, 9, 15)
_DAY = 24 * 3600
_NEVER = int(np.iinfo(np.int64).min)


@dataclass(frozen=True)
class Slices:
    """A partition of the impressions: `groups[i]` is a place in `labels`, or -1 for none of them."""

    name: str
    labels: tuple[str, ...]
    groups: NDArray[np.int64]  # (M,)


def by_history_length(behaviors: Behaviors, edges: Sequence[int] = HISTORY_EDGES) -> Slices:
    """By the number of clicks in the history; the first slice is the empty history."""
    labels = ["empty" if edges[0] == 1 else f"under {edges[0]}"]
    labels += [str(low) if high == low + 1 else f"{low}–{high - 1}" for low, high in pairwise(edges)]
    labels.append(f"{edges[-1]} and more")
    groups = np.searchsorted(np.asarray(edges), behaviors.histories.lengths, side="right")
    return Slices("history length", tuple(labels), groups.astype(np.int64))


def last_activity(earlier: Behaviors, num_users: int) -> NDArray[np.int64]:
    """When each user (by number) was last seen in an earlier log, seconds since 1970; the least int64 for never."""
    last = np.full(num_users, _NEVER, np.int64)
    np.maximum.at(last, earlier.users, earlier.times)
    return last


def by_dormancy(
    behaviors: Behaviors, last_seen: NDArray[np.int64], edges: Sequence[int] = DORMANCY_EDGES
) -> Slices:
    """By whole days since the reader was last seen.

    Args:
        behaviors: the evaluated impressions.
        last_seen: (users,) seconds since 1970, such as of `last_activity` (MIND's histories have no times); a moment
            behind the impression counts as 0 days.
        edges: days at which a new slice begins.
    """
    seen = last_seen[behaviors.users]
    days = np.maximum(behaviors.times - np.where(seen == _NEVER, behaviors.times, seen), 0) // _DAY
    groups = np.searchsorted(np.asarray(edges), days, side="right").astype(np.int64)
    labels = [f"under {edges[0]} days"]
    labels += [f"{low}–{high - 1} days" for low, high in pairwise(edges)]
    labels += [f"{edges[-1]} days and more", "never seen"]
    groups[seen == _NEVER] = len(labels) - 1
    return Slices("dormancy", tuple(labels), groups)


def by_cold_click(behaviors: Behaviors, is_known_N: NDArray[np.bool_]) -> Slices:
    """By whether the clicked candidates were known before, such as to the click graph or the training log.

    Args:
        behaviors: labelled impressions.
        is_known_N: (news,) whether a news was known.

    Raises:
        InputError: the impressions have no labels.
    """
    if behaviors.labels is None:
        raise InputError("the impressions have no labels, which say what was clicked; give a labelled split")
    rows = np.repeat(np.arange(len(behaviors)), behaviors.candidates.lengths)
    clicked = behaviors.labels == 1
    cold = clicked & ~is_known_N[behaviors.candidates.values]
    clicks_M = np.bincount(rows[clicked], minlength=len(behaviors))
    cold_M = np.bincount(rows[cold], minlength=len(behaviors))
    groups = np.where(cold_M == 0, 0, np.where(cold_M == clicks_M, 2, 1))
    groups[clicks_M == 0] = -1
    return Slices("clicked news", ("all known", "some known", "none known"), groups.astype(np.int64))

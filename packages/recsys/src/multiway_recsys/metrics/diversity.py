"""Diversity, novelty and catalogue coverage of recommended lists.

A list is a row of news numbers (see `tables.News`), the best first, 0 where it ends early. Shape suffixes: U lists,
K places of a list, N news, D vector width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiway_recsys.data.tables import NO_NEWS, Ragged
from multiway_recsys.metrics.ranking import rank_rows


def top_candidates(scores: NDArray[np.floating], candidates: Ragged, k: int = 10) -> NDArray[np.int32]:
    """The k best candidates of each impression (M, k), 0 behind the last; ties as in `ranking.ranks`."""
    ranks = rank_rows(scores, candidates.offsets)
    rows = np.repeat(np.arange(len(candidates)), candidates.lengths)
    result = np.full((len(candidates), k), NO_NEWS, np.int32)
    inside = ranks <= k
    result[rows[inside], ranks[inside] - 1] = candidates.values[inside]
    return result


def intra_list_distance(
    lists_UK: NDArray[np.integer], vectors_ND: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Mean of 1 - cosine over the pairs of each list (U,); NaN for a list of fewer than two news.

    A news without vector (zeros) is at distance 1 from every other.
    """
    lengths_N = np.linalg.norm(vectors_ND.astype(np.float64), axis=1)
    units_ND = vectors_ND / np.where(lengths_N > 0, lengths_N, 1.0)[:, None]
    result = np.full(len(lists_UK), np.nan)
    for start in range(0, len(lists_UK), 4096):
        part_UK = lists_UK[start : start + 4096]
        is_news_UK = part_UK != NO_NEWS
        units_UKD = units_ND[part_UK] * is_news_UK[:, :, None]
        size_U = is_news_UK.sum(axis=1)
        pairs_U = size_U * (size_U - 1)
        # The sum over all pairs of products is the squared length of the sum of the vectors.
        all_U = (units_UKD.sum(axis=1) ** 2).sum(axis=1)
        same_U = (units_UKD**2).sum(axis=(1, 2))
        with np.errstate(invalid="ignore", divide="ignore"):
            result[start : start + 4096] = np.where(pairs_U > 0, 1 - (all_U - same_U) / pairs_U, np.nan)
    return result


def category_entropy(
    lists_UK: NDArray[np.integer], categories_N: NDArray[np.integer], num_categories: int | None = None
) -> NDArray[np.float64]:
    """Entropy of the categories of each list (U,), divided by that of all categories alike: 0 one, 1 all alike.

    Unknown categories (0) do not count; NaN for a list without any known one, 0 where only one category exists.
    """
    counts_UG = _category_counts(lists_UK, categories_N, num_categories)
    total_U = counts_UG.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares_UG = counts_UG / total_U[:, None]
        terms_UG = np.where(counts_UG > 0, -shares_UG * np.log(shares_UG), 0.0)
    groups = counts_UG.shape[1]
    entropy_U = terms_UG.sum(axis=1) / np.log(groups) if groups > 1 else np.zeros(len(lists_UK))
    return np.where(total_U > 0, entropy_U, np.nan)


def novelty(lists_UK: NDArray[np.integer], clicks_N: NDArray[np.integer]) -> NDArray[np.float64]:
    """Mean of -log2 of the popularity of the news of each list (U,), in bits; NaN for a list without news.

    The popularity of a news is (clicks + 1) / (all clicks + number of news), so that an unread news has one too.
    """
    share_N = (clicks_N + 1.0) / (clicks_N[1:].sum() + len(clicks_N) - 1)
    bits_UK = -np.log2(share_N)[lists_UK]
    is_news_UK = lists_UK != NO_NEWS
    size_U = is_news_UK.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(size_U > 0, (bits_UK * is_news_UK).sum(axis=1) / size_U, np.nan)


def exposure(lists_UK: NDArray[np.integer], num_news: int) -> NDArray[np.int64]:
    """In how many places each news stands (N,); row 0 is 0."""
    counts_N = np.bincount(lists_UK.ravel(), minlength=num_news).astype(np.int64)
    counts_N[NO_NEWS] = 0
    return counts_N


def coverage(
    lists_UK: NDArray[np.integer], num_news: int, in_catalogue_N: NDArray[np.bool_] | None = None
) -> float:
    """Share of the catalogue that stands in any list."""
    shown_N = exposure(lists_UK, num_news) > 0
    catalogue_N = _catalogue(num_news, in_catalogue_N)
    return float(shown_N[catalogue_N].mean()) if catalogue_N.any() else np.nan


def gini(exposure_N: NDArray[np.integer], in_catalogue_N: NDArray[np.bool_] | None = None) -> float:
    """Gini coefficient of exposure over the catalogue: 0 all alike, near 1 all on one news; NaN without exposure."""
    counts = np.sort(exposure_N[_catalogue(len(exposure_N), in_catalogue_N)]).astype(np.float64)
    if not counts.sum():
        return float("nan")
    size = len(counts)
    return float((2 * np.arange(1, size + 1) - size - 1) @ counts / (size * counts.sum()))


def _catalogue(num_news: int, in_catalogue_N: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    catalogue_N = np.ones(num_news, np.bool_) if in_catalogue_N is None else in_catalogue_N.copy()
    catalogue_N[NO_NEWS] = False
    return catalogue_N


def _category_counts(
    lists_UK: NDArray[np.integer], categories_N: NDArray[np.integer], num_categories: int | None
) -> NDArray[np.int64]:
    """How often each known category stands in each list (U, G)."""
    groups = num_categories if num_categories is not None else int(categories_N.max(initial=0))
    found_UK = np.where(lists_UK != NO_NEWS, categories_N[lists_UK], 0)
    places = found_UK + np.arange(len(lists_UK))[:, None] * (groups + 1)
    counts = np.bincount(places.ravel(), minlength=len(lists_UK) * (groups + 1))
    return counts.reshape(len(lists_UK), groups + 1)[:, 1:]

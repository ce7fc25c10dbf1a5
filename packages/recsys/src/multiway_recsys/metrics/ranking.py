"""AUC, MRR and nDCG@k of impressions, as the evaluation script of the MIND leaderboard computes them.

The leaderboard's script takes the mean over impressions of: the area under the ROC curve (a tie counts half); MRR, the
sum over the clicked of 1/rank divided by the number of clicked (all of them, not the first hit); and nDCG@k with gain
2^label - 1, discount log2(rank + 1) and the best order of the same labels as ideal. It ranks by
`argsort(score)[::-1]`, so of equal scores the **later** candidate stands first; the ranks of `submission` do the same,
so that a submission gets the MRR and nDCG that are computed here. Scores are compared as they come: a sigmoid before
ranking would tie what it saturates.

Shape suffixes: M impressions, C candidates of all impressions one behind the other, K candidates of one impression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from multiway_core.errors import InputError
from multiway_core.evaluation import Interval, mean_interval
from numpy.typing import ArrayLike, NDArray

from multiway_recsys.data.tables import Behaviors

METRICS = ("auc", "mrr", "ndcg5", "ndcg10")
_CANDIDATES_AT_ONCE = 2_000_000  # bounds the memory of the sort


@dataclass(frozen=True)
class RankingScores:
    """Each metric for each impression, NaN where the impression has no clicked or no other candidate."""

    auc: NDArray[np.float64]  # (M,)
    mrr: NDArray[np.float64]  # (M,)
    ndcg5: NDArray[np.float64]  # (M,)
    ndcg10: NDArray[np.float64]  # (M,)

    def __len__(self) -> int:
        return len(self.auc)

    @property
    def is_evaluated(self) -> NDArray[np.bool_]:
        """Which impressions count (M,)."""
        return ~np.isnan(self.auc)

    def means(self) -> dict[str, float]:
        """What the leaderboard shows: the mean over the impressions that count (NaN where none does)."""
        chosen = self.is_evaluated
        return {
            name: float(getattr(self, name)[chosen].mean()) if chosen.any() else np.nan for name in METRICS
        }

    def intervals(self, *, seed: int = 0, resamples: int = 1000) -> dict[str, Interval]:
        """The means with 95 % bootstrap intervals over impressions; empty where no impression counts."""
        chosen = self.is_evaluated
        if not chosen.any():
            return {}
        return {
            name: mean_interval(getattr(self, name)[chosen], seed=seed, resamples=resamples)
            for name in METRICS
        }

    def minus(self, other: RankingScores) -> RankingScores:
        """Differences impression by impression, whose `intervals` are those of a paired comparison."""
        return RankingScores(
            self.auc - other.auc, self.mrr - other.mrr, self.ndcg5 - other.ndcg5, self.ndcg10 - other.ndcg10
        )

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> RankingScores:
        """The given impressions."""
        return RankingScores(self.auc[rows], self.mrr[rows], self.ndcg5[rows], self.ndcg10[rows])


def evaluate_ranking(scores: NDArray[np.floating], behaviors: Behaviors) -> RankingScores:
    """All metrics of all impressions.

    Args:
        scores: (C,) one a candidate, in the order of `behaviors.candidates.values`; higher is better.
        behaviors: labelled impressions.

    Raises:
        InputError: no labels, another number of scores than of candidates, or a score is NaN.
    """
    if behaviors.labels is None:
        raise InputError("the impressions have no labels to compare with; give a labelled split")
    offsets = behaviors.candidates.offsets
    scores = np.asarray(scores)
    if scores.shape != (offsets[-1],):
        raise InputError(
            f"scores of shape {scores.shape}; expected one for each of the {offsets[-1]} candidates"
        )
    if np.isnan(scores).any():
        row = int(np.searchsorted(offsets, np.flatnonzero(np.isnan(scores))[0], side="right")) - 1
        raise InputError(f"a score of impression {behaviors.impression_ids[row]} is NaN; expected numbers")
    parts = []
    start = 0
    while start < len(behaviors):
        end = int(np.searchsorted(offsets, offsets[start] + _CANDIDATES_AT_ONCE, side="right")) - 1
        end = min(max(end, start + 1), len(behaviors))
        piece = slice(offsets[start], offsets[end])
        parts.append(
            _metrics(scores[piece], behaviors.labels[piece], offsets[start : end + 1] - offsets[start])
        )
        start = end
    columns = np.concatenate(parts, axis=1) if parts else np.zeros((4, 0))
    return RankingScores(*columns)


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve of one impression (K,); NaN when only one kind of label is there."""
    return float(_one(labels, scores)[0])


def mrr(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean reciprocal rank of the clicked of one impression (K,); NaN when nothing is clicked."""
    labels_K = np.asarray(labels)
    ranks_K = ranks(scores)
    clicked = labels_K.sum()
    return float((labels_K / ranks_K).sum() / clicked) if clicked else np.nan


def ndcg(labels: ArrayLike, scores: ArrayLike, k: int) -> float:
    """nDCG@k of one impression (K,); NaN when nothing is clicked."""
    labels_K = np.asarray(labels)
    ranks_K = ranks(scores)
    gains = np.where(ranks_K <= k, labels_K / np.log2(ranks_K + 1.0), 0.0).sum()
    ideal = _ideal(np.array([labels_K.sum()]), k)[0]
    return float(gains / ideal) if ideal else np.nan


def ranks(scores: ArrayLike) -> NDArray[np.int64]:
    """Rank of each score (K,), 1 is best, a permutation; of equal scores the later one stands first."""
    scores_K = np.asarray(scores)
    result = np.empty(len(scores_K), np.int64)
    result[np.argsort(scores_K, kind="stable")[::-1]] = np.arange(1, len(scores_K) + 1)
    return result


def rank_rows(scores: NDArray[np.floating], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """`ranks` inside each row of flat scores (C,), whose row i is `offsets[i]:offsets[i + 1]`."""
    order, rows = _best_first(scores, offsets)
    result = np.empty(len(scores), np.int64)
    result[order] = np.arange(len(scores)) - offsets[rows] + 1
    return result


def _best_first(
    scores_C: NDArray[np.floating], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the candidates, row by row, in each the best first; and the row of each."""
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    # Ascending and stable in the score, then read backwards: as argsort(score)[::-1] does inside each row.
    backwards = np.lexsort((scores_C, -rows))[::-1]
    return backwards, rows


def _one(labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    labels_K, scores_K = np.asarray(labels), np.asarray(scores)
    return _metrics(scores_K, labels_K, np.array([0, len(labels_K)]))[:, 0]


def _metrics(
    scores_C: NDArray[np.floating], labels_C: NDArray[np.integer], offsets: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(4, rows): the metrics in the order of `METRICS`."""
    count = len(offsets) - 1
    order, rows = _best_first(scores_C, offsets)
    sorted_C, hits_C = scores_C[order], labels_C[order].astype(np.float64)
    places = np.arange(len(order))
    rank_C = places - offsets[rows] + 1
    size_M = np.diff(offsets)
    clicked_M = np.bincount(rows, hits_C, count)
    others_M = size_M - clicked_M

    # AUC by Mann and Whitney: equal scores of an impression share the middle of their ranks.
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = (sorted_C[1:] != sorted_C[:-1]) | (rows[1:] != rows[:-1])
    run = np.cumsum(is_new) - 1
    run_starts = np.flatnonzero(is_new)
    run_ends = np.append(run_starts[1:], len(order))
    middle_C = ((rank_C[run_starts] + rank_C[run_ends - 1]) / 2)[run] if len(order) else rank_C
    from_worst_C = size_M[rows] + 1 - middle_C
    below_M = np.bincount(rows, from_worst_C * hits_C, count) - clicked_M * (clicked_M + 1) / 2

    result = np.full((4, count), np.nan)
    both = (clicked_M > 0) & (others_M > 0)
    result[0, both] = below_M[both] / (clicked_M[both] * others_M[both])
    result[1, both] = np.bincount(rows, hits_C / rank_C, count)[both] / clicked_M[both]
    for row, k in ((2, 5), (3, 10)):
        gains_M = np.bincount(rows, np.where(rank_C <= k, hits_C / np.log2(rank_C + 1.0), 0.0), count)
        result[row, both] = gains_M[both] / _ideal(clicked_M[both], k)
    return result


def _ideal(clicked_M: NDArray[np.floating] | NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """DCG@k with all clicked in front."""
    sums = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2.0, k + 2)))])
    return sums[np.minimum(clicked_M.astype(np.int64), k)]

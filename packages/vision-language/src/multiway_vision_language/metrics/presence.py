"""Absence detection: scores of ``present`` for phrases that the picture shows and does not show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from multiway_core.evaluation import Interval, mean_interval

_Z95 = 1.959963984540054


@dataclass(frozen=True)
class PresenceScores:
    """``auc`` of the score itself; at ``threshold``, which comes from other data, the shares of both kinds right."""

    auc: Interval
    threshold: float
    shown_found: Interval
    absent_refused: Interval


def auc(scores: Sequence[float], shown: Sequence[bool]) -> Interval:
    """Area under the ROC curve: how often a shown phrase scores above an absent one, ties counting half.

    The interval is DeLong's (1988), cut to 0..1. Raises ValueError: not both kinds occur, or lengths differ.
    """
    scores_N, shown_N = _checked(scores, shown)
    shown_P, absent_Q = scores_N[shown_N], scores_N[~shown_N]
    sorted_P, sorted_Q = np.sort(shown_P), np.sort(absent_Q)
    above_P = (np.searchsorted(sorted_Q, shown_P, "left") + np.searchsorted(sorted_Q, shown_P, "right")) / 2
    above_Q = (np.searchsorted(sorted_P, absent_Q, "left") + np.searchsorted(sorted_P, absent_Q, "right")) / 2
    wins_P, losses_Q = above_P / len(absent_Q), 1 - above_Q / len(shown_P)
    area = float(wins_P.mean())
    if len(shown_P) < 2 or len(absent_Q) < 2:
        return Interval(area, None, None)
    half = _Z95 * float(np.sqrt(wins_P.var(ddof=1) / len(shown_P) + losses_Q.var(ddof=1) / len(absent_Q)))
    return Interval(area, max(0.0, area - half), min(1.0, area + half))


def best_threshold(scores: Sequence[float], shown: Sequence[bool]) -> float:
    """The score from which on a phrase should count as shown: the one with the best mean of both kinds' shares.

    Fit it on data that the result is not reported on. Between two neighbouring scores it is their mean; of equally
    good ones it is the lowest. Raises ValueError as :func:`auc` does.
    """
    scores_N, shown_N = _checked(scores, shown)
    levels = np.unique(scores_N)
    candidates = np.concatenate([levels[:1], (levels[:-1] + levels[1:]) / 2])
    shown_P, absent_Q = np.sort(scores_N[shown_N]), np.sort(scores_N[~shown_N])
    found = 1 - np.searchsorted(shown_P, candidates, "left") / len(shown_P)
    refused = np.searchsorted(absent_Q, candidates, "left") / len(absent_Q)
    return float(candidates[int(np.argmax(found + refused))])


def presence_scores(
    scores: Sequence[float], shown: Sequence[bool], threshold: float, *, seed: int = 0
) -> PresenceScores:
    """All numbers of one set of phrases, at a threshold from another one."""
    scores_N, shown_N = _checked(scores, shown)
    counted_N = scores_N >= threshold
    return PresenceScores(
        auc(scores, shown),
        threshold,
        mean_interval(counted_N[shown_N], seed=seed),
        mean_interval(~counted_N[~shown_N], seed=seed),
    )


def _checked(scores: Sequence[float], shown: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    scores_N, shown_N = np.asarray(scores, dtype=np.float64), np.asarray(shown, dtype=bool)
    if scores_N.shape != shown_N.shape or scores_N.ndim != 1 or not 0 < shown_N.sum() < len(shown_N):
        raise ValueError(
            f"need one score a phrase, and shown and absent phrases, not {scores_N.shape} scores of "
            f"{int(shown_N.sum())} shown phrases among {shown_N.shape}"
        )
    return scores_N, shown_N

"""The best ranker of a click log without texts: item-to-item weights, SASRec and live popularity, blended.

How much each member counts is what would have told best which candidates the readers of the log's latest tenth clicked,
the members knowing the earlier nine tenths alone (`blend.fit_blend`). No member and no weight sees what is judged; live
popularity counts the clicks before each moment, as a running portal does.

Shapes: N news (row 0 is no news), C candidates in all, F columns that are blended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from multiway_recsys.collaborative.blend import fit_blend
from multiway_recsys.collaborative.item_weights import (
    MAX_DENSE_NEWS,
    Weights,
    click_matrix,
    ease,
    history_scores,
    item_knn,
    random_walks,
    rp3beta,
)
from multiway_recsys.collaborative.sasrec import SasRec, fit_sasrec, sasrec_scores
from multiway_recsys.data.tables import NO_NEWS, Behaviors, Ragged
from multiway_recsys.glocim.statistics import ClickStatistics
from multiway_recsys.graph.click_graph import ClickGraph
from multiway_recsys.serving.folder import Readers

LATEST = 10
"""One in so many impressions, the latest ones, teach the blend."""
MIN_TEACHING = 50
"""With fewer of them RP3beta ranks alone."""
MAX_SASREC_NEWS = 20_000
SAMPLED = 100
"""Negatives of an impression, drawn from the whole catalogue, for the weights of a list over it."""
_MAX_TEACHING = 20_000
_NEIGHBOURS = 300
_SPARSE = ("item_knn", "rp3beta", "random_walks")
_NOTHING = 1e-5
_SHOWN_BEFORE, _CLICKED_BEFORE = 10, 1  # of a news that nobody has seen


@dataclass(frozen=True)
class Settings:
    """Of the members; the defaults are those chosen on MSWeb's dev visitors (`benchmarks.recsys.collaborative`).

    ``sasrec_epochs``: 0 leaves SASRec out, which takes most of the time.
    """

    shrink: float = 0.0
    alpha: float = 1.0
    beta: float = 0.7
    l2: float = 10.0
    sasrec_epochs: int = 6
    seed: int = 0


@dataclass(frozen=True)
class Members:
    """What is known of a log's readers: weights from news to news by name, clicks of each news, and a SASRec."""

    weights: dict[str, Weights]
    clicks_N: NDArray[np.float64]
    sasrec: SasRec | None

    @classmethod
    def fit(cls, readers: Readers, num_news: int, settings: Settings) -> Members:
        """From the histories of the readers. EASE and SASRec are left out where the catalogue is too large for them."""
        clicks_RN = click_matrix(readers.histories, num_news)
        weights = {
            "item_knn": item_knn(clicks_RN, shrink=settings.shrink, neighbours=_NEIGHBOURS),
            "rp3beta": rp3beta(clicks_RN, alpha=settings.alpha, beta=settings.beta, neighbours=_NEIGHBOURS),
        }
        if num_news <= MAX_DENSE_NEWS:
            weights["ease"] = ease(clicks_RN, l2=settings.l2)
        graph = ClickGraph.build(readers.histories, np.arange(len(readers.ids)), num_news)
        edges = sp.csr_array(
            (graph.weights.astype(float), graph.indices, graph.indptr), shape=(num_news, num_news)
        )
        weights["random_walks"] = random_walks(edges, neighbours=_NEIGHBOURS)
        sasrec = None
        if settings.sasrec_epochs and num_news <= MAX_SASREC_NEWS and (readers.histories.lengths > 1).any():
            sasrec = fit_sasrec(
                readers.histories, num_news, epochs=settings.sasrec_epochs, seed=settings.seed
            )
        return cls(weights, np.asarray(clicks_RN.sum(axis=0)).ravel(), sasrec)

    def scores(self, shown: Behaviors, counted: ClickStatistics) -> dict[str, NDArray[np.float64]]:
        """By member one score a candidate, (C,).

        ``counted`` is what the portal has counted, of which only earlier clicks are looked at. ``popularity-live`` is
        the click rate of the last day, ``popularity`` the readers of the log.
        """
        found = {
            name: history_scores(weights, shown.histories, shown.candidates)
            for name, weights in self.weights.items()
        }
        news = shown.candidates.values
        moments = np.repeat(shown.times, shown.candidates.lengths)
        live = counted.at(news, moments).astype(np.float64)
        found["popularity"] = np.log1p(self.clicks_N)[news]
        clicked, seen = np.expm1(live[:, 0]) + _CLICKED_BEFORE, np.expm1(live[:, 1]) + _SHOWN_BEFORE
        found["popularity-live"] = np.log(clicked / seen * (_SHOWN_BEFORE / _CLICKED_BEFORE))
        found["most-recent"] = np.where(live[:, 4] > 0, -live[:, 3], -99.0)
        if self.sasrec is not None:
            found["sasrec"] = sasrec_scores(self.sasrec, shown.histories, shown.candidates).astype(np.float64)
        return found


class ClickEnsemble:
    """Members fitted on a whole log, and two sets of weights.

    One is for what was shown (``rank``), one for lists over the whole catalogue (``parts``), whose candidates nobody
    has chosen by popularity before.
    """

    def __init__(
        self,
        members: Members,
        counted: ClickStatistics,
        shown_F: NDArray[np.float64] | None,
        catalogue_F: NDArray[np.float64] | None,
    ) -> None:
        self.members, self.counted = members, counted
        self.shown_F, self.catalogue_F = shown_F, catalogue_F

    @classmethod
    def fit(cls, log: Behaviors, num_news: int, settings: Settings | None = None) -> ClickEnsemble:
        """Members and weights of a log. Without enough labelled impressions RP3beta alone ranks."""
        settings = settings or Settings()
        counted = ClickStatistics.build(log, num_news)
        members = Members.fit(Readers.of_behaviors(log), num_news, settings)
        order = np.argsort(log.times, kind="stable")
        cut = len(order) - len(order) // LATEST
        latest = log.take(np.sort(order[cut:][-_MAX_TEACHING:]))
        if log.labels is None or _teaching(latest) < MIN_TEACHING:
            return cls(members, counted, None, None)
        earlier = Members.fit(Readers.of_behaviors(log.take(order[:cut])), num_news, settings)
        weights = [
            fit_blend(columns(earlier.scores(part, counted)), part)
            for part in (latest, _over_catalogue(latest, num_news, settings.seed))
        ]
        return cls(members, counted, weights[0], weights[1])

    def plus(self, log: Behaviors) -> ClickEnsemble:
        """The same ensemble with the live clicks of one more log, of which each moment knows the earlier ones."""
        return ClickEnsemble(self.members, self.counted.plus(log), self.shown_F, self.catalogue_F)

    def rank(self, shown: Behaviors) -> NDArray[np.float64]:
        """A score for each candidate shown, (C,); an unknown candidate comes last."""
        scores, weights_F = self.members.scores(shown, self.counted), self.shown_F
        found = scores["rp3beta"] if weights_F is None else columns(scores) @ weights_F
        found[shown.candidates.values == NO_NEWS] = found.min(initial=0.0) - 1
        return found

    def parts(self, history: NDArray[np.integer], at: int) -> dict[str, NDArray[np.float64]]:
        """Scores of the whole catalogue for one history at a moment: by member what it adds, (N,) each."""
        num_news = len(self.members.clicks_N)
        one = Behaviors(
            ("",),
            np.zeros(1, np.int32),
            ("",),
            np.array([at], np.int64),
            Ragged.from_rows([history.astype(np.int32)]),
            Ragged.from_rows([np.arange(num_news, dtype=np.int32)]),
            None,
        )
        scores = self.members.scores(one, self.counted)
        if self.catalogue_F is None:
            return {"rp3beta": scores["rp3beta"]}
        added_NF = columns(scores) * self.catalogue_F
        found: dict[str, NDArray[np.float64]] = {}
        for name, column in zip(column_names(scores), added_NF.T, strict=True):
            found[name] = found[name] + column if name in found else column
        return found


def column_names(scores: Sequence[str] | dict[str, NDArray[np.float64]]) -> list[str]:
    """The member behind each column of :func:`columns`."""
    names = [name for name in scores if name != "most-recent"]
    return [*names, *(name for name in names if name in _SPARSE)]


def columns(scores: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """What is blended, (C, F): the members' scores and, of sparse ones, their logarithms too."""
    names = [name for name in scores if name != "most-recent"]
    parts = [scores[name] for name in names]
    parts += [np.log1p(scores[name] / _NOTHING) for name in names if name in _SPARSE]
    return np.stack(parts, axis=1)


def _teaching(shown: Behaviors) -> int:
    """Impressions with a clicked and another candidate."""
    assert shown.labels is not None
    clicks = np.add.reduceat(np.append(shown.labels, 0).astype(np.int64), shown.candidates.offsets[:-1])
    lengths = shown.candidates.lengths
    return int(((clicks > 0) & (clicks < lengths) & (lengths > 0)).sum())


def _over_catalogue(shown: Behaviors, num_news: int, seed: int) -> Behaviors:
    """The clicked candidates beside news drawn from the whole catalogue at random."""
    assert shown.labels is not None
    rng = np.random.default_rng([seed, 3])
    candidates, labels = [], []
    for row in range(len(shown)):
        first, end = shown.candidates.offsets[row : row + 2]
        clicked = shown.candidates.values[first:end][shown.labels[first:end] == 1]
        drawn = rng.integers(1, num_news, SAMPLED)
        drawn = drawn[~np.isin(drawn, clicked) & ~np.isin(drawn, shown.histories[row])]
        candidates.append(np.concatenate([clicked, drawn]))
        labels.append(np.arange(len(candidates[-1])) < len(clicked))
    return replace(
        shown,
        candidates=Ragged.from_rows(candidates),
        labels=np.concatenate([np.zeros(0, bool), *labels]).astype(np.int8),
    )

"""Recommending out of a click log alone, without a trained network: for logs that no model was trained on.

RP3beta's weights of the log's readers rank the news; a reader without a known click gets what has most clicks. The best
single ranker without training on MSWeb's dev split (`benchmarks.recsys.collaborative`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_recsys.collaborative.item_weights import click_matrix, rp3beta
from multiway_recsys.data.tables import Behaviors, News
from multiway_recsys.serving.diversity import diversify
from multiway_recsys.serving.explanation import Article, Explanation
from multiway_recsys.serving.folder import Readers
from multiway_recsys.serving.reranking import RerankingOptions, candidate_mask
from multiway_recsys.serving.result import Recommendation, RecommendationList

NAME = "RP3beta on this log"
MOST_CLICKED = "new reader: what has most clicks"
_POOL = 200  # best news that a quota of categories chooses from


class LogRecommender:
    """The news and readers of one log, with item-to-item weights of its clicks."""

    def __init__(self, news: News, behaviors: Behaviors) -> None:
        self.news = news
        self.readers = Readers.of_behaviors(behaviors)
        clicks_RN = click_matrix(self.readers.histories, len(news))
        self.clicks_N = np.asarray(clicks_RN.sum(axis=0)).ravel()
        self.weights = rp3beta(clicks_RN)
        self.until = int(behaviors.times.max()) if len(behaviors) else None
        self._rows = {id_: row for row, id_ in enumerate(news.ids) if row}

    def history_of(self, user: str) -> list[str]:
        """A reader's clicks, oldest first. Raises InputError: there is no such reader."""
        try:
            row = self.readers.ids.index(user)
        except ValueError:
            some = ", ".join(self.readers.ids[:3]) or "none"
            raise InputError(
                f"no reader {user!r} among the log's {len(self.readers.ids)} (such as {some})"
            ) from None
        return [self.news.ids[item] for item in self.readers.histories[row]]

    def recommend(
        self,
        history: Sequence[str],
        *,
        user: str | None = None,
        top: int = 10,
        rules: RerankingOptions | None = None,
        at: int | None = None,
        reasons: bool = False,
    ) -> RecommendationList:
        """The best news for one reader, as :meth:`multiway_recsys.pipeline.NewsRecommender.recommend` gives them.

        A part of a score is what one click adds, by the click's id. ``reasons``: a sentence for each. Of the rules,
        diversity needs vectors of the news and is not applied. Raises InputError: no news may be shown.
        """
        rules, now = rules or RerankingOptions(), self.until if at is None else at
        rows = np.array([self._rows[id_] for id_ in history if id_ in self._rows], np.int64)
        hidden = [self._rows[id_] for id_ in rules.blocked if id_ in self._rows]
        hidden += rows.tolist() if rules.exclude_seen else []
        allowed = candidate_mask(self.news.published, now, rules, np.array(hidden, np.int64))
        shown_N = np.ones(len(self.news), bool)
        if allowed is not None:
            shown_N[: len(allowed)] &= allowed
        shown_N[0] = False
        if not shown_N.any():
            raise InputError(
                "no news may be shown: allow older ones (a larger max_age_days), or another moment"
            )
        by_click_HN = np.stack([self.weights[[int(row)]].toarray()[0] for row in rows]) if len(rows) else None
        scores_N = self.clicks_N if by_click_HN is None else by_click_HN.sum(0)
        order = np.lexsort((-self.clicks_N, -scores_N))
        pool = order[shown_N[order]][: max(_POOL, 3 * top)]
        places = diversify(
            scores_N[pool].astype(np.float32),
            np.zeros((len(pool), 1), np.float32),
            self.news.categories[pool],
            top,
            diversity=0.0,
            per_category=rules.per_category,
        )
        return RecommendationList(
            model=NAME,
            simulated=False,
            user=user,
            history=tuple(self.article(int(row)) for row in rows),
            unknown=tuple(id_ for id_ in history if id_ not in self._rows),
            recommendations=tuple(
                self._item(int(row), rows, by_click_HN, float(scores_N[row]), reasons) for row in pool[places]
            ),
            at=now,
            rule=None if len(rows) else MOST_CLICKED,
        )

    def article(self, row: int) -> Article:
        """A news as it is shown."""
        news = self.news
        return Article(row, news.ids[row], news.titles[row], news.category_names[news.categories[row]])

    def _item(
        self,
        row: int,
        history: NDArray[np.int64],
        by_click_HN: NDArray[np.float64] | None,
        score: float,
        reasons: bool,
    ) -> Recommendation:
        if by_click_HN is None:
            text = f"{int(self.clicks_N[row])} readers of this log clicked it."
            return Recommendation(
                self.article(row), score, {"clicks": score}, Explanation(text) if reasons else None
            )
        added = by_click_HN[:, row]
        parts: dict[str, float] = {}
        for click, value in zip(history.tolist(), added.tolist(), strict=True):
            if value:
                parts[self.news.ids[click]] = parts.get(self.news.ids[click], 0.0) + value
        reason = None
        if reasons and not parts:
            reason = Explanation(
                f"{int(self.clicks_N[row])} readers clicked it; none of them clicked this history."
            )
        elif reasons:
            click = self.article(int(history[added.argmax()]))
            share = float(added.max() / added.sum())
            name = click.title or click.id
            reason = Explanation(f"Readers of “{name}” also clicked it.", click, share)
        return Recommendation(self.article(row), score, parts, reason)

"""Recommending out of a click log alone, without a network trained on it: the ensemble of its clicks (`ensemble`).

A reader without a known click gets what is clicked most. Live popularity counts clicks as they come (`click`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from multiway_core.errors import DataError, InputError
from numpy.typing import NDArray

from multiway_recsys.collaborative.ensemble import ClickEnsemble, Settings
from multiway_recsys.data.mind import read_folder
from multiway_recsys.data.tables import Behaviors, News
from multiway_recsys.serving.diversity import diversify
from multiway_recsys.serving.explanation import Article, Explanation
from multiway_recsys.serving.folder import Readers
from multiway_recsys.serving.online import OnlineReaders, clicks_as_log
from multiway_recsys.serving.reranking import RerankingOptions, candidate_mask
from multiway_recsys.serving.result import Recommendation, RecommendationList, SimilarNews
from multiway_recsys.text.tfidf import TfidfEncoder, news_text

NAME = "the clicks of this log"
MOST_CLICKED = "new reader: what has most clicks"
_POOL = 200  # best news that diversity and a quota of categories choose from
_TEXT_WIDTH = 64


class LogRecommender:
    """The news and readers of one log, with the ensemble of its clicks.

    ``simulated``: whether the log is of a made-up portal.
    """

    has_chains = False

    def __init__(
        self,
        news: News,
        behaviors: Behaviors,
        *,
        settings: Settings | None = None,
        name: str = NAME,
        simulated: bool = False,
    ) -> None:
        self.name, self.news, self.is_simulated = name, news, simulated
        self.readers = Readers.of_behaviors(behaviors)
        self.ensemble = ClickEnsemble.fit(behaviors, len(news), settings)
        self.until = int(behaviors.times.max()) if len(behaviors) else None
        self._rows = {id_: row for row, id_ in enumerate(news.ids) if row}
        self._online = OnlineReaders(self.readers)
        self._content: NDArray[np.float32] | None = None
        self._lock = threading.Lock()

    @classmethod
    def from_folder(cls, folder: Path, *, settings: Settings | None = None) -> LogRecommender:
        """The train split of a MIND folder, or the folder itself. Raises DataError."""
        found = read_folder(folder, "train", with_entity_vectors=False)
        if not len(found.behaviors):
            raise DataError(f"{folder}: the log has no impression")
        return cls(
            found.news, found.behaviors, settings=settings, name=folder.name, simulated=is_simulated(folder)
        )

    @property
    def published_N(self) -> NDArray[np.int64] | None:
        """When each news came out, where the log tells; else its first showing."""
        if self.news.published is None:
            return self.ensemble.counted.published
        return np.where(self.news.published > 0, self.news.published, self.ensemble.counted.published)

    def live_news(self) -> int:
        """How many news may be shown."""
        return len(self.news) - 1

    def rows_of(self, ids: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Rows of the known ids in their order, and the ids that are not known."""
        rows = [self._rows[id_] for id_ in ids if id_ in self._rows]
        return np.array(rows, np.int64), tuple(id_ for id_ in ids if id_ not in self._rows)

    def history_of(self, user: str) -> list[str]:
        """A reader's clicks, oldest first. Raises InputError: there is no such reader."""
        return [self.news.ids[row] for row in self._online.history(user, self.name)]

    @property
    def is_linked_N(self) -> NDArray[np.bool_]:
        """Which news were clicked in the log."""
        return self.ensemble.members.clicks_N > 0

    def rank(self, shown: Behaviors, *, chains: bool = True) -> NDArray[np.float32]:
        """A score for each candidate shown, aligned with ``shown.candidates.values``; higher is better. There are no
        ``chains``."""
        return self.ensemble.rank(shown).astype(np.float32)

    def click(self, user: str, ids: Sequence[str], at: int | None = None) -> tuple[str, ...]:
        """Take clicks in: into the reader's history, and into live popularity. Gives the ids that are not known.

        Weights from news to news stay those of the log.

        ``at``: seconds since 1970, not before what is known; ``until`` by default. Raises InputError.
        """
        rows, unknown = self.rows_of(ids)
        with self._lock:
            now = max(self.until or 0, self.until or 0 if at is None else at)
            self._online.click(user, rows.tolist())
            self.ensemble = self.ensemble.plus(clicks_as_log(rows, now))
            self.until = now + 1  # a moment knows what lies before it
        return unknown

    def similar(self, id_: str, top: int = 10) -> SimilarNews:
        """News that the readers of one read too (cosine of their sets of readers), then those of similar words.

        Raises InputError: the news is not known.
        """
        if id_ not in self._rows:
            raise InputError(f"no news {id_!r} among the {len(self._rows)} of {self.name}")
        row = self._rows[id_]
        read_N = self.ensemble.members.weights["item_knn"][[row]].toarray()[0]
        scores_N = read_N + 1e-3 * self._words_like(row)
        scores_N[[0, row]] = -np.inf
        best = np.argsort(-scores_N, kind="stable")[: min(top, self.live_news() - 1)]
        return SimilarNews(
            self.article(row), tuple((self.article(int(one)), float(scores_N[one])) for one in best)
        )

    def _words_like(self, row: int) -> NDArray[np.float32]:
        content_Nd = self.content_Nd
        return np.zeros(len(self.news), np.float32) if content_Nd is None else content_Nd @ content_Nd[row]

    @property
    def content_Nd(self) -> NDArray[np.float32] | None:
        """Vectors of the texts, made when first asked for; None where there are hardly any words."""
        with self._lock:
            if self._content is None:
                news = self.news
                texts = [news_text(*pair) for pair in zip(news.titles, news.abstracts, strict=True)]
                try:
                    self._content = TfidfEncoder.fit(texts[1:], width=_TEXT_WIDTH)(texts)
                except DataError:
                    self._content = np.zeros((len(news), 1), np.float32)
            return self._content if self._content.shape[1] > 1 else None

    def recommend(
        self,
        history: Sequence[str],
        *,
        user: str | None = None,
        top: int = 10,
        rules: RerankingOptions | None = None,
        at: int | None = None,
        chains: bool = True,
        detail: Literal["score", "parts", "explanation"] = "parts",
        min_readers: int = 1,
    ) -> RecommendationList:
        """The best news for one reader, as :meth:`multiway_recsys.pipeline.NewsRecommender.recommend` gives them.

        A part of a score is what one member of the ensemble adds. There are no ``chains``. Diversity needs texts with
        words. Raises InputError: no news may be shown.
        """
        rules, now = rules or RerankingOptions(), self.until if at is None else at
        rows, unknown = self.rows_of(history)
        hidden = [self._rows[id_] for id_ in rules.blocked if id_ in self._rows]
        hidden += rows.tolist() if rules.exclude_seen else []
        allowed = candidate_mask(self.published_N, now, rules, np.array(hidden, np.int64))
        shown_N = np.ones(len(self.news), bool)
        if allowed is not None:
            shown_N[: len(allowed)] &= allowed
        shown_N[0] = False
        if not shown_N.any():
            raise InputError(
                "no news may be shown: allow older ones (a larger max_age_days), or another moment"
            )
        clicks_N = self.ensemble.members.clicks_N
        parts = self.ensemble.parts(rows, now or 0) if len(rows) else {"clicks": clicks_N}
        scores_N = np.sum(list(parts.values()), axis=0)
        order = np.lexsort((-clicks_N, -scores_N))
        pool = order[shown_N[order]][: max(_POOL, 3 * top)]
        content_Nd = self.content_Nd if rules.diversity else None
        places = diversify(
            scores_N[pool].astype(np.float32),
            np.zeros((len(pool), 1), np.float32) if content_Nd is None else content_Nd[pool],
            self.news.categories[pool],
            top,
            diversity=0.0 if content_Nd is None else rules.diversity,
            per_category=rules.per_category,
        )
        reasons = _Reasons(self, rows, min_readers) if detail == "explanation" else None
        return RecommendationList(
            model=self.name,
            simulated=self.is_simulated,
            user=user,
            history=tuple(self.article(int(row)) for row in rows),
            unknown=unknown,
            recommendations=tuple(
                Recommendation(
                    self.article(int(row)),
                    float(scores_N[row]),
                    {name: float(values[row]) for name, values in parts.items()},
                    None if reasons is None else reasons(int(row)),
                )
                for row in pool[places]
            ),
            at=now,
            rule=None if len(rows) else MOST_CLICKED,
        )

    def article(self, row: int) -> Article:
        """A news as it is shown."""
        news = self.news
        return Article(row, news.ids[row], news.titles[row], news.category_names[news.categories[row]])


class _Reasons:
    """One sentence a news: the click whose readers went to it most, by RP3beta."""

    def __init__(self, recommender: LogRecommender, history: NDArray[np.int64], min_readers: int) -> None:
        self._recommender, self._history, self._min_readers = recommender, history, min_readers
        weights = recommender.ensemble.members.weights["rp3beta"]
        self._added_HN = weights[history.tolist()].toarray() if len(history) else None

    def __call__(self, row: int) -> Explanation:
        article = self._recommender.article
        count = int(self._recommender.ensemble.members.clicks_N[row])
        readers = (
            f"{count} reader{'' if count == 1 else 's'}" if count >= self._min_readers else "Some readers"
        )
        added = None if self._added_HN is None else self._added_HN[:, row]
        if added is None:
            return Explanation(f"{readers} of this log clicked it.")
        if not added.any():
            return Explanation(f"{readers} clicked it; none of them clicked this history.")
        share_H = added / added.sum()
        click = article(int(self._history[added.argmax()]))
        by_row: dict[int, float] = {}
        for one, share in zip(self._history.tolist(), share_H.tolist(), strict=True):
            by_row[one] = by_row.get(one, 0.0) + share
        return Explanation(
            f"Readers of “{click.title or click.id}” also clicked it.",
            click,
            by_row[click.row],
            clicks=tuple((article(one), share) for one, share in by_row.items()),
        )


def is_simulated(folder: Path) -> bool:
    """Whether the simulator wrote a MIND folder: the truth lies beside the log."""
    return any((path / "truth" / "portal.json").is_file() for path in (folder, folder.parent))

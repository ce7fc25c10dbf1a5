"""Recommending news, from a history to an explained list: the one path of commands, demo, evaluation and Python users.

recommender = NewsRecommender.from_pretrained("bundled:news-portal")
found = recommender.recommend(["N13321", "N2724"], top=5, detail="explanation")
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from multiway_core import hub
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_recsys.data.tables import NO_NEWS, Behaviors, News, Ragged
from multiway_recsys.feature_extraction import click_structure, renumbered, with_clicks, with_texts
from multiway_recsys.glocim.model import EncodedNews
from multiway_recsys.glocim.scoring import score_behaviors, user_vectors
from multiway_recsys.glocim.statistics import ClickStatistics
from multiway_recsys.serving import folder as folders
from multiway_recsys.serving import store
from multiway_recsys.serving.cold_start import with_cold_start_news
from multiway_recsys.serving.diversity import diversify
from multiway_recsys.serving.explanation import Article, Explainer, Explanation
from multiway_recsys.serving.folder import Readers, TrainedRecommender
from multiway_recsys.serving.index import NewsIndex
from multiway_recsys.serving.online import OnlineReaders, clicks_as_log
from multiway_recsys.serving.reranking import RerankingOptions, candidate_mask, time_decayed_popularity
from multiway_recsys.serving.result import Recommendation, RecommendationList, SimilarNews
from multiway_recsys.serving.trace import Trace, trace, without_chains

Detail = Literal["score", "parts", "explanation"]
NEW_READER = "new reader: what is popular and fresh"
_POOL = 200  # best news that diversity chooses from


class NewsRecommender:
    """A trained model with its news, their precomputed vectors, an index over them, the click graph and the readers."""

    def __init__(self, name: str, parts: TrainedRecommender, *, encoded: EncodedNews | None = None) -> None:
        """``encoded``: the news' vectors where they are stored; computed here otherwise."""
        self.name = name
        self.parts = parts
        self.model = parts.model.eval()
        self.news, self.features, self.readers = parts.news, parts.features, parts.readers
        self.encoded = self.model.encode_news(parts.features) if encoded is None else encoded
        self._bare = replace(self.encoded, clicked=without_chains(self.encoded.clicked))
        self.candidates_NE: NDArray[np.float32] = self.encoded.candidates_NE.float().cpu().numpy()
        self.content_Nd: NDArray[np.float32] = (
            parts.features.text_vectors
            if parts.features.text_vectors is not None
            else self.encoded.clicked.local_RE.float().cpu().numpy()
        )
        self._rows = {id_: row for row, id_ in enumerate(self.news.ids) if row}
        self._online = OnlineReaders(self.readers)
        self._now: int | None = None  # behind the latest click that came while it runs
        self._indices: dict[tuple[int | None, float | None], NewsIndex] = {}
        self._lock = threading.Lock()  # a demo's visitors come in threads

    @classmethod
    def from_pretrained(
        cls,
        name: str = "bundled:news-portal",
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> NewsRecommender:
        """Load ``bundled:NAME``, a folder that training wrote, or a hub id. ``dtype``: of the network; None is float32.

        Raises ModelNotFoundError, or CheckpointError, ConfigError, DataError that name the file.
        """
        folder = hub.resolve(name)
        parts = folders.load(folder, device=device, dtype=dtype or torch.float32)
        stored = store.load(folder, parts, device=device)
        recommender = cls(name, parts, encoded=None if stored is None else stored.encoded)
        if stored is not None and stored.index_path is not None:
            recommender._use_stored_index(stored.index_path)
        return recommender

    def store(self, folder: Path) -> None:
        """Keep the news' vectors and the index beside the model, so that it starts at once. Raises OutputError."""
        store.save(folder, self.encoded, self.index())

    # What is known

    @property
    def is_simulated(self) -> bool:
        """Whether its portal was made up."""
        return self.parts.about.simulated

    @property
    def until(self) -> int | None:
        """The moment that it recommends for: the end of what it knows (seconds since 1970)."""
        if self._now is not None:
            return self._now
        if self.parts.about.until is not None:
            return self.parts.about.until
        if self.parts.graph.until is not None:
            return self.parts.graph.until
        return int(self.readers.last_seen.max()) if len(self.readers.last_seen) else None

    @property
    def published_N(self) -> NDArray[np.int64] | None:
        """When each news came out, or was first seen; 0 where that is not known."""
        statistics = self.features.statistics
        if self.news.published is None:
            return None if statistics is None else statistics.published
        own = np.maximum(self.news.published, 0)
        return own if statistics is None else np.where(own > 0, own, statistics.published)

    def article(self, row: int) -> Article:
        """A news as it is shown."""
        news = self.news
        return Article(row, news.ids[row], news.titles[row], news.category_names[news.categories[row]])

    def rows_of(self, ids: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Rows of the known ids in their order, and the ids that are not known."""
        rows = [self._rows[id_] for id_ in ids if id_ in self._rows]
        return np.array(rows, np.int64), tuple(id_ for id_ in ids if id_ not in self._rows)

    def history_of(self, user: str) -> list[str]:
        """A reader's clicks, oldest first. Raises InputError: there is no such reader."""
        return [self.news.ids[row] for row in self._online.history(user, self.name)]

    @property
    def has_chains(self) -> bool:
        """Whether its network looks at long chains."""
        return self.model.config.chain != "none"

    @property
    def is_linked_N(self) -> NDArray[np.bool_]:
        """Which news have an edge in the click graph."""
        graph = self.parts.graph
        linked_N = graph.degrees > 0
        linked_N[graph.indices] = True
        return linked_N

    def live_news(self) -> int:
        """How many news may be shown now."""
        return len(self.index())

    def click(self, user: str, ids: Sequence[str], at: int | None = None) -> tuple[str, ...]:
        """Take clicks in: into the reader's history and, where the network looks at it, into live popularity.

        ``at``: seconds since 1970, not before what is known; ``until`` by default. Gives the ids that are not known.
        Graph and chains stay as they are. Raises InputError.
        """
        rows, unknown = self.rows_of(ids)
        with self._lock:
            known = self.until or 0
            now = known if at is None else max(known, at)
            self._online.click(user, rows.tolist())
            if self.features.statistics is not None:
                counted = self.features.statistics.plus(clicks_as_log(rows, now))
                self.features = replace(self.features, statistics=counted)
            self._now = now + 1  # a moment knows what lies before it
        return unknown

    def similar(self, id_: str, top: int = 10) -> SimilarNews:
        """News of similar content (cosine of text vectors). Raises InputError: the news is not known."""
        if id_ not in self._rows:
            raise InputError(f"no news {id_!r} among the {len(self._rows)} of {self.name}")
        row = self._rows[id_]
        lengths_N = np.maximum(np.linalg.norm(self.content_Nd, axis=1), 1e-9)
        scores_N = self.content_Nd @ self.content_Nd[row] / (lengths_N * lengths_N[row])
        scores_N[[0, row]] = -np.inf
        best = np.argsort(-scores_N, kind="stable")[: min(top, len(self.news) - 2)]
        return SimilarNews(
            self.article(row), tuple((self.article(int(one)), float(scores_N[one])) for one in best)
        )

    def with_news(self, news: News, readers: Readers | None = None) -> NewsRecommender:
        """The recommender over a larger catalogue and, with ``readers``, for those.

        ``news`` begins with the own news (``read_news(..., known=recommender.news)``). Raises InputError.
        """
        parts = with_cold_start_news(self.parts, news)
        encoded = self.encoded if parts is self.parts else None
        if readers is not None:
            parts = replace(parts, readers=readers)
        return NewsRecommender(self.name, parts, encoded=encoded)

    def with_clicks_of(self, behaviors: Behaviors) -> NewsRecommender:
        """The recommender with graph and chains made of a later log's histories; the network stays as it is.

        The histories must be those before the log's first impression, as MIND's are: with histories that grow, the
        graph would know what later impressions ask. Raises InputError.
        """
        return NewsRecommender(self.name, _with_clicks_of(self.parts, behaviors))

    def counting(self, *logs: Behaviors) -> NewsRecommender:
        """The recommender with the live clicks of these logs, of which each moment knows the earlier ones. A network
        that does not look at popularity stays as it is."""
        if self.model.popularity is None:
            return self
        counted = ClickStatistics.build(logs, len(self.news), published=self.news.published)
        parts = replace(self.parts, features=replace(self.features, statistics=counted))
        return NewsRecommender(self.name, parts, encoded=self.encoded)

    def over(self, news: News, behaviors: Behaviors) -> NewsRecommender:
        """The network over another catalogue, with graph, chains and readers of its log (see `with_clicks_of`).

        Raises InputError, also where the model keeps nothing to turn texts into features.
        """
        if self.parts.text is None:
            raise InputError(f"{self.name} keeps nothing to turn other texts into features")
        news = renumbered(news, self.news)
        features = with_texts(news, self.parts.text, self.model.config)
        readers = Readers.of_behaviors(behaviors, with_clicks=False)
        parts = replace(self.parts, news=news, features=features, readers=readers)
        return NewsRecommender(self.name, _with_clicks_of(parts, behaviors))

    # Ranking what was shown

    def rank(
        self, behaviors: Behaviors, *, chains: bool = True, batch_size: int = 256
    ) -> NDArray[np.float32]:
        """A score for each candidate shown, aligned with ``behaviors.candidates.values``; higher is better.

        A reader without known history is scored by the learned vector of new readers, or, where the model has none, by
        what is popular and fresh. An unknown candidate (0) comes last.
        """
        encoded = self.encoded if chains else self._bare
        behaviors = self._by_number(behaviors)
        scores = score_behaviors(self.model, self.features, behaviors, batch_size=batch_size, encoded=encoded)
        if self.model.cold_user is None and not self.model.config.user.startswith("lstur"):
            known = np.bincount(
                np.repeat(np.arange(len(behaviors)), behaviors.histories.lengths),
                weights=behaviors.histories.values != NO_NEWS,
                minlength=len(behaviors),
            )
            rows = np.repeat(np.arange(len(behaviors)), behaviors.candidates.lengths)
            new = (known == 0)[rows]
            scores[new] = self._by_rule(behaviors.candidates.values[new], behaviors.times[rows[new]])
        unknown = behaviors.candidates.values == NO_NEWS
        if unknown.any():
            scores[unknown] = scores.min() - 1
        return scores

    def _by_number(self, behaviors: Behaviors) -> Behaviors:
        """Readers numbered as a network with a vector of each reader (LSTUR) was trained: by id from 1, others 0."""
        numbers = np.zeros(len(behaviors.user_ids), np.int32)
        if self.model.config.num_users == len(self.readers.ids) + 1:
            number_of = {id_: number for number, id_ in enumerate(sorted(self.readers.ids), 1)}
            numbers = np.array([number_of.get(id_, 0) for id_ in behaviors.user_ids], np.int32)
        return replace(behaviors, users=numbers[behaviors.users])

    def _by_rule(self, rows: NDArray[np.integer], times: NDArray[np.int64]) -> NDArray[np.float32]:
        statistics = self.features.statistics
        clicks = np.expm1(statistics.at(rows, times)[:, 2]) if statistics is not None else np.zeros(len(rows))
        published = self.published_N
        return time_decayed_popularity(clicks, None if published is None else published[rows], times)

    # Recommending

    def recommend(
        self,
        history: Sequence[str],
        *,
        user: str | None = None,
        top: int = 10,
        rules: RerankingOptions | None = None,
        at: int | None = None,
        chains: bool = True,
        detail: Detail = "parts",
        min_readers: int = 1,
    ) -> RecommendationList:
        """The best news for one reader.

        Args:
            history: ids that were clicked, oldest first. Unknown ids are left out and named in the result; without any
                known one the reader is new, and a rule ranks what is popular and fresh.
            user: the reader's name, for the result.
            top: how many.
            rules: diversity and filters.
            at: moment of the request (seconds since 1970): later news are not shown. Default: ``until``.
            chains: False ranks as if no click had a long chain.
            detail: "score", "parts" (what a score is made of) or "explanation" (and why).
            min_readers: smaller counts of readers are not told in explanations.

        Raises:
            InputError: no news may be shown under these rules.
        """
        (found,) = self.recommend_many(
            [history],
            users=[user],
            top=top,
            rules=rules,
            at=at,
            chains=chains,
            detail=detail,
            min_readers=min_readers,
        )
        return found

    def recommend_many(
        self,
        histories: Sequence[Sequence[str]],
        *,
        users: Sequence[str | None] | None = None,
        top: int = 10,
        rules: RerankingOptions | None = None,
        at: int | None = None,
        chains: bool = True,
        detail: Detail = "score",
        min_readers: int = 1,
    ) -> list[RecommendationList]:
        """As :meth:`recommend`, for many readers in one batch."""
        rules = rules or RerankingOptions()
        now = self.until if at is None else at
        known, unknown = zip(*(self.rows_of(history) for history in histories), strict=True)
        index = self.index(now, rules)
        if not len(index):
            raise InputError(
                "no news may be shown: allow older ones (a larger max_age_days), or another moment"
            )
        blocked, _ = self.rows_of(sorted(rules.blocked))
        warm = [place for place, rows in enumerate(known) if len(rows)]
        encoded = self.encoded if chains else self._bare
        vectors = user_vectors(self.model, encoded, Ragged.from_rows([known[place] for place in warm]))
        queries = dict(zip(warm, vectors.float().cpu().numpy(), strict=True))
        lists = []
        for place, rows in enumerate(known):
            hidden = np.concatenate([rows, blocked]) if rules.exclude_seen else blocked
            if place in queries:
                items = self._ranked(
                    queries[place], rows, hidden, index, top, rules, now, chains, detail, min_readers
                )
            else:
                items = self._for_a_new_reader(hidden, index, top, rules, now, detail)
            lists.append(
                RecommendationList(
                    model=self.name,
                    simulated=self.is_simulated,
                    user=None if users is None else users[place],
                    history=tuple(self.article(int(row)) for row in rows),
                    unknown=unknown[place],
                    recommendations=items,
                    at=now,
                    rule=None if place in queries else NEW_READER,
                )
            )
        return lists

    def index(self, now: int | None = None, rules: RerankingOptions | None = None) -> NewsIndex:
        """The index of the news that may be shown at a moment; kept for the next request with the same rules.

        A popularity term is one more number of the vectors, so that the index finds the best by the whole score.
        """
        rules = rules or RerankingOptions()
        now = self.until if now is None else now
        max_age = self.parts.about.max_age_days if rules.max_age_days is None else rules.max_age_days
        key = (now, max_age)
        with self._lock:
            if key not in self._indices:
                if len(self._indices) >= 8:  # moments of past requests
                    self._indices.pop(next(iter(self._indices)))
                self._indices[key] = NewsIndex(*self._shown(now, max_age))
            return self._indices[key]

    def _shown(self, now: int | None, max_age: float | None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Vectors (with their popularity) and rows of what may be shown."""
        allowed = candidate_mask(
            self.published_N, now, RerankingOptions(max_age_days=max_age), np.zeros(0, np.int64)
        )
        rows = np.arange(1, len(self.news)) if allowed is None else 1 + np.flatnonzero(allowed[1:])
        vectors = self.candidates_NE[rows]
        if self.model.popularity is not None:
            vectors = np.concatenate([vectors, self._popularity(rows, now)[:, None]], axis=1)
        return vectors, rows

    def _use_stored_index(self, path: Path) -> None:
        max_age = self.parts.about.max_age_days
        self._indices[(self.until, max_age)] = NewsIndex.load(path, *self._shown(self.until, max_age))

    @torch.no_grad()
    def _popularity(self, rows: NDArray[np.integer], now: int | None) -> NDArray[np.float32]:
        term, statistics = self.model.popularity, self.features.statistics
        assert term is not None
        assert statistics is not None
        times = np.full(len(rows), 0 if now is None else now, np.int64)
        known = torch.from_numpy(statistics.at(rows, times)).to(self.encoded.candidates_NE.device)
        return term(known).float().cpu().numpy()

    def _ranked(
        self,
        user_E: NDArray[np.float32],
        history: NDArray[np.int64],
        hidden: NDArray[np.int64],
        index: NewsIndex,
        top: int,
        rules: RerankingOptions,
        now: int | None,
        chains: bool,
        detail: Detail,
        min_readers: int,
    ) -> tuple[Recommendation, ...]:
        query = user_E if self.model.popularity is None else np.append(user_E, np.float32(1))
        pool = max(_POOL, 3 * top) if rules.diversity or rules.per_category else top
        ((rows, scores),) = index.search(query[None], pool + len(set(hidden.tolist())))
        shown = ~np.isin(rows, hidden)
        rows, scores = rows[shown][:pool], scores[shown][:pool]
        order = diversify(
            scores,
            self.content_Nd[rows],
            self.news.categories[rows],
            top,
            diversity=rules.diversity,
            per_category=rules.per_category,
        )
        followed = None
        if detail != "score":
            encoded = self.encoded if chains else self._bare
            followed = trace(
                self.model, encoded, self.features, history, chains=chains, occlusion=detail == "explanation"
            )
        explainer = Explainer(self.news, self.parts.graph, self.content_Nd, min_readers=min_readers)
        return tuple(
            self._item(int(rows[place]), float(scores[place]), user_E, followed, explainer, now, detail)
            for place in order
        )

    def _item(
        self,
        row: int,
        score: float,
        user_E: NDArray[np.float32],
        followed: Trace | None,
        explainer: Explainer,
        now: int | None,
        detail: Detail,
    ) -> Recommendation:
        candidate_E = self.candidates_NE[row]
        if followed is None:
            parts = {"interest": float(user_E @ candidate_E)}
        else:
            parts = followed.score_parts(candidate_E)
        if self.model.popularity is not None:
            parts["popularity"] = float(self._popularity(np.array([row]), now)[0])
        explanation = None
        if detail == "explanation" and followed is not None:
            explanation = explainer.explain(followed, row, candidate_E, score)
        return Recommendation(self.article(row), score, parts, explanation)

    def _for_a_new_reader(
        self,
        hidden: NDArray[np.int64],
        index: NewsIndex,
        top: int,
        rules: RerankingOptions,
        now: int | None,
        detail: Detail,
    ) -> tuple[Recommendation, ...]:
        """What is popular and fresh, at most a third of one category."""
        rows = index.rows_N[~np.isin(index.rows_N, hidden)]
        times = np.full(len(rows), 0 if now is None else now, np.int64)
        scores = self._by_rule(rows, times)
        best = np.lexsort((rows, -scores))[: max(_POOL, 3 * top)]
        quota = rules.per_category or max(1, -(-top // 3))
        order = diversify(
            scores[best],
            self.content_Nd[rows[best]],
            self.news.categories[rows[best]],
            top,
            diversity=rules.diversity,
            per_category=quota,
        )
        text = "You have no history that is known here: this is popular and fresh, at most a third of one category."
        explanation = Explanation(text) if detail == "explanation" else None
        return tuple(
            Recommendation(
                self.article(int(rows[best[place]])),
                float(scores[best[place]]),
                {"popularity": float(scores[best[place]])},
                explanation,
            )
            for place in order
        )


def _with_clicks_of(parts: TrainedRecommender, behaviors: Behaviors) -> TrainedRecommender:

    order = np.lexsort((behaviors.times, behaviors.users))
    lengths, users = behaviors.histories.lengths[order], behaviors.users[order]
    if ((lengths[1:] != lengths[:-1]) & (users[1:] == users[:-1])).any():
        raise InputError(
            "the histories of this log grow from impression to impression: a graph of them would know what was "
            "clicked; build it from an earlier log"
        )
    first = int(behaviors.times.min()) if len(behaviors) else 0
    before = replace(behaviors, times=np.full(len(behaviors), first, np.int64))
    config = parts.model.config
    structure = click_structure(before, parts.features, parts.news, config)
    nobody = behaviors.take(np.arange(0))
    features = with_clicks(parts.features, structure, parts.news, config, statistics_of=nobody)
    if parts.features.statistics is not None:
        features = replace(features, statistics=parts.features.statistics)
    return replace(parts, features=features, graph=structure.graph)

"""Explanations: the click, its neighbours and the chain that led to a news, as verified text.

Attention says what the network looked at, not what changed its mind. So each explanation carries a check by occlusion:
the score again without the click, and without the click's chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NotRequired

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from multiway_recsys.data.tables import News
from multiway_recsys.graph.click_graph import ClickGraph
from multiway_recsys.serving.trace import CHAINS, Trace

NEIGHBOURS_SHOWN = 3
BRANCHES_SHOWN = 1  # other ways that readers took, at each hop of the chain
_HOPS_TOLD = 5  # of a chain, in words
_TITLE_LENGTH = 90  # characters of a title inside a sentence
_NOTHING = 5e-3  # a change of the score that would be printed as 0.00


@dataclass(frozen=True)
class Article:
    """A news as it is shown."""

    row: int
    id: str
    title: str
    category: str


class HopJson(TypedDict):
    """JSON form of :class:`Hop`."""

    id: str
    title: str
    readers: int | None
    similarity: float
    attention: NotRequired[float]


class ExplanationJson(TypedDict):
    """JSON form of :class:`Explanation`; ``click``, ``chain`` and ``continues`` are ids."""

    text: str
    click: str | None
    click_share: float
    neighbours: list[HopJson]
    chain: list[str]
    chain_hops: list[HopJson]
    continues: str | None
    occlusion: dict[str, float] | None


@dataclass(frozen=True)
class Hop:
    """A news that readers went to: ``readers`` made this step (None: not told), ``similarity`` to the recommended."""

    article: Article
    readers: int | None
    similarity: float
    attention: float | None = None

    def to_json(self) -> HopJson:
        """JSON-ready."""
        values: HopJson = {
            "id": self.article.id,
            "title": self.article.title,
            "readers": self.readers,
            "similarity": round(self.similarity, 4),
        }
        if self.attention is not None:
            values["attention"] = round(self.attention, 4)
        return values


@dataclass(frozen=True)
class Occlusion:
    """Change of the score when something had not been there; below 0: it had spoken for the news."""

    without_click: float
    without_chain: float
    without_all_chains: float

    def to_json(self) -> dict[str, float]:
        """JSON-ready."""
        return {key: round(float(value), 5) for key, value in vars(self).items()}


@dataclass(frozen=True)
class Explanation:
    """Why one news was recommended to one reader. ``click`` is None where a rule decided (no history)."""

    text: str
    click: Article | None = None
    click_share: float = 0.0
    neighbours: tuple[Hop, ...] = ()
    chain: tuple[Hop, ...] = ()
    continues: int | None = None  # place in the chain of the news that the recommended one is most like
    occlusion: Occlusion | None = None
    clicks: tuple[tuple[Article, float], ...] = ()  # the history, oldest first, with each click's share
    branches: tuple[tuple[Hop, ...], ...] = ()  # where else readers went from each hop of the chain

    def to_json(self) -> ExplanationJson:
        """The part ``explanation`` of schema ``multiway.news-recommendation/1``."""
        return {
            "text": self.text,
            "click": None if self.click is None else self.click.id,
            "click_share": round(self.click_share, 4),
            "neighbours": [hop.to_json() for hop in self.neighbours],
            "chain": [hop.article.id for hop in self.chain],
            "chain_hops": [hop.to_json() for hop in self.chain],
            "continues": None if self.continues is None else self.chain[self.continues].article.id,
            "occlusion": None if self.occlusion is None else self.occlusion.to_json(),
        }


class Explainer:
    """Explains recommendations with the news, the graph and the content vectors they were made from."""

    def __init__(
        self,
        news: News,
        graph: ClickGraph,
        content_Nd: NDArray[np.float32],
        *,
        min_readers: int = 1,
    ) -> None:
        """``content_Nd``: what "alike" is taken over. Counts of readers below ``min_readers`` are not told."""
        self._news = news
        self._graph = graph
        self._content_Nd = content_Nd
        self._min_readers = min_readers

    def article(self, row: int) -> Article:
        """A news as it is shown."""
        news = self._news
        return Article(row, news.ids[row], news.titles[row], news.category_names[news.categories[row]])

    def explain(
        self, trace: Trace, candidate: int, candidate_d: NDArray[np.float32], score: float
    ) -> Explanation:
        """Why ``candidate`` (a row; its vector; its score) was recommended.

        The click is the one whose chain brought the largest part of the score; the place of the chain is where
        attention times content similarity to the candidate is largest. Where no chain speaks for the candidate, it is
        the click without which the score would fall most.
        """
        has_chain_M = (trace.chains_MKL > 0).any(axis=(1, 2)) if trace.chains_MKL.size else np.zeros(0, bool)
        chain: tuple[Hop, ...] = ()
        continues: int | None = None
        if CHAINS in trace.parts and has_chain_M.any():
            brought_M = np.where(has_chain_M, trace.parts[CHAINS] @ candidate_d, 0)
            click = int(np.argmax(brought_M))
            speaks = brought_M[click] > 0
        else:
            speaks = False
        if speaks:
            which, continues = self._place(trace.chains_MKL[click], trace.chain_weights_MKL[click], candidate)
            rows = trace.chains_MKL[click, which]
            attention = trace.chain_weights_MKL[click, which]
            chain = self._chain(int(trace.history_M[click]), rows[rows > 0], attention, candidate)
        else:
            click = int(np.argmin(trace.without_click_Md @ candidate_d))
        source = int(trace.history_M[click])
        occlusion = Occlusion(
            without_click=float((trace.without_click_Md[click] - trace.user_d) @ candidate_d),
            without_chain=float((trace.without_chain_Md[click] - trace.user_d) @ candidate_d),
            without_all_chains=float((trace.without_chains_d - trace.user_d) @ candidate_d),
        )
        neighbours = self._neighbours(source, candidate)
        weights: dict[
            int, float
        ] = {}  # a news that was clicked twice is shown once, where it was clicked last
        for row, weight in zip(trace.history_M.tolist(), trace.click_weights_M.tolist(), strict=True):
            weights[row] = weights.pop(row, 0.0) + weight
        clicks = tuple((self.article(row), weight) for row, weight in weights.items())
        text = _in_words(
            self.article(source),
            chain,
            continues,
            neighbours,
            occlusion,
            score,
            has_chains=trace.chains_MKL.size > 0,
            backward=self._graph.direction == "in",
        )
        return Explanation(
            text=text,
            click=self.article(source),
            click_share=weights[source],
            neighbours=neighbours,
            chain=chain,
            continues=continues,
            occlusion=occlusion,
            clicks=clicks,
            branches=self._branches(source, [hop.article.row for hop in chain], candidate),
        )

    def _place(
        self, chains_KL: NDArray[np.integer], attention_KL: NDArray[np.float32], candidate: int
    ) -> tuple[int, int]:
        """Which chain of a click, and where in it, is like the candidate and looked at."""
        similar_KL = self._similarity(chains_KL, candidate)
        # A chain that is like nothing still has a place: the one looked at most.
        strength_KL = np.where(chains_KL > 0, attention_KL * np.maximum(similar_KL, 1e-3), -1.0)
        which, place = np.unravel_index(int(np.argmax(strength_KL)), strength_KL.shape)
        return int(which), int(place)

    def _similarity(self, rows: NDArray[np.integer], candidate: int) -> NDArray[np.float32]:
        vectors = self._content_Nd[rows]
        target_d = self._content_Nd[candidate]
        lengths = np.linalg.norm(vectors, axis=-1) * np.linalg.norm(target_d)
        return np.divide(vectors @ target_d, lengths, out=np.zeros(rows.shape, np.float32), where=lengths > 0)

    def _chain(
        self, source: int, rows: NDArray[np.integer], attention: NDArray[np.float32], candidate: int
    ) -> tuple[Hop, ...]:
        similar = self._similarity(rows, candidate)
        hops = []
        for place, row in enumerate(rows):
            before = source if place == 0 else int(rows[place - 1])
            hops.append(
                Hop(
                    self.article(int(row)),
                    self._readers(before, int(row)),
                    float(similar[place]),
                    float(attention[place]),
                )
            )
        return tuple(hops)

    def _neighbours(self, source: int, candidate: int) -> tuple[Hop, ...]:
        """The heaviest steps from the click, those first that are most like the candidate."""
        rows = self._graph.neighbours(source)[: 2 * NEIGHBOURS_SHOWN] if source < len(self._graph) else ()
        rows = np.asarray(rows, np.int64)
        similar = self._similarity(rows, candidate)
        order = np.argsort(-similar, kind="stable")[:NEIGHBOURS_SHOWN]
        return tuple(
            Hop(self.article(int(rows[i])), self._readers(source, int(rows[i])), float(similar[i]))
            for i in order
        )

    def _branches(self, source: int, path: list[int], candidate: int) -> tuple[tuple[Hop, ...], ...]:
        shown = {source, *path, candidate}
        branches = []
        for row in path:
            others = self._graph.neighbours(row) if row < len(self._graph) else np.zeros(0, np.int32)
            others = np.array(
                [other for other in others[:16] if int(other) not in shown][:BRANCHES_SHOWN], np.int64
            )
            shown.update(int(other) for other in others)
            similar = self._similarity(others, candidate)
            branches.append(
                tuple(
                    Hop(self.article(int(other)), self._readers(row, int(other)), float(similar[place]))
                    for place, other in enumerate(others)
                )
            )
        return tuple(branches)

    def _readers(self, source: int, target: int) -> int | None:
        """Readers of the step in the graph; None where it has none or where they are too few to be told."""
        if source >= len(self._graph):
            return None
        places = np.flatnonzero(self._graph.neighbours(source) == target)
        if not len(places):
            return None
        readers = int(self._graph.weights[self._graph.indptr[source] + places[0]])
        return readers if readers >= self._min_readers else None


def _in_words(
    click: Article,
    chain: tuple[Hop, ...],
    continues: int | None,
    neighbours: tuple[Hop, ...],
    occlusion: Occlusion,
    score: float,
    *,
    has_chains: bool,
    backward: bool,
) -> str:
    sentences = []
    steps = "readers had come to it from" if backward else "its readers went on to"
    if chain and continues is not None:
        told = [_quoted(hop.article) for hop in chain[: continues + 1]]
        told[0] += _readers(chain[0].readers)
        if len(told) > _HOPS_TOLD:  # the first ones and the one that counts; the picture shows all
            first, left_out = told[: _HOPS_TOLD - 1], len(told) - _HOPS_TOLD
            told = [*first, f"{left_out} more", told[-1]]
        path = ", ".join(told)
        sentences.append(
            f"You read {_quoted(click)}; {steps} {path}; this article continues {_quoted(chain[continues].article)}."
        )
    else:
        missing = "; no long chain speaks for it" if has_chains else ""
        sentences.append(f"You read {_quoted(click)}, which speaks most for this article{missing}.")
    if neighbours:
        names = ", ".join(_quoted(hop.article) + _readers(hop.readers) for hop in neighbours)
        sentences.append(f"Right {'before' if backward else 'after'} it, readers read {names}.")
    check = f"The score is {_number(score)}; without that click it {_change(occlusion.without_click)}"
    if chain:
        check += f", without its chain it {_change(occlusion.without_chain)}"
    sentences.append(check + ".")
    return " ".join(sentences)


def _quoted(article: Article) -> str:
    title = article.title or article.id
    if len(title) > _TITLE_LENGTH:
        title = title[: _TITLE_LENGTH - 1].rstrip() + "…"
    return f"“{title}”"


def _readers(count: int | None) -> str:
    return "" if count is None else f" ({count} reader{'' if count == 1 else 's'})"


def _change(delta: float) -> str:
    if abs(delta) < _NOTHING:
        return "would stay the same"
    return f"would {'fall' if delta < 0 else 'rise'} by {abs(delta):.2f}"


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")

"""A list of recommendations and its JSON, schema ``multiway.news-recommendation/1``."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import TypedDict

from multiway_recsys.serving.explanation import Article, Explanation, ExplanationJson

SCHEMA = "multiway.news-recommendation/1"
SIMILAR_SCHEMA = "multiway.similar-news/1"


class RecommendationJson(TypedDict):
    """JSON form of :class:`Recommendation`."""

    id: str
    title: str
    category: str
    score: float
    parts: dict[str, float]
    explanation: ExplanationJson | None


class RecommendationListJson(TypedDict):
    """JSON form of :class:`RecommendationList`; ``history`` and ``unknown`` are ids of articles."""

    schema: str
    model: str
    simulated: bool
    user: str | None
    at: int | None
    rule: str | None
    history: list[str]
    unknown: list[str]
    recommendations: list[RecommendationJson]


@dataclass(frozen=True)
class Recommendation:
    """One news of the list; ``parts`` sum up to ``score``."""

    article: Article
    score: float
    parts: dict[str, float]
    explanation: Explanation | None = None

    def to_json(self) -> RecommendationJson:
        """JSON-ready."""
        return {
            "id": self.article.id,
            "title": self.article.title,
            "category": self.article.category,
            "score": round(self.score, 5),
            "parts": {name: round(value, 5) for name, value in self.parts.items()},
            "explanation": None if self.explanation is None else self.explanation.to_json(),
        }


@dataclass(frozen=True)
class RecommendationList:
    """What one reader is recommended, in the order to show it."""

    model: str
    simulated: bool
    user: str | None
    history: tuple[Article, ...]  # oldest first, unknown ids left out
    unknown: tuple[str, ...]  # ids of the history that the model has no news for
    recommendations: tuple[Recommendation, ...]
    at: int | None = None  # seconds since 1970, the moment of the request
    rule: str | None = None  # the rule that ranked, where the network did not

    def to_json(self) -> RecommendationListJson:
        """JSON-ready, with its schema."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "simulated": self.simulated,
            "user": self.user,
            "at": self.at,
            "rule": self.rule,
            "history": [article.id for article in self.history],
            "unknown": list(self.unknown),
            "recommendations": [item.to_json() for item in self.recommendations],
        }


class SimilarJson(TypedDict):
    """One similar news."""

    id: str
    title: str
    category: str
    score: float


class SimilarNewsJson(TypedDict):
    """JSON form of :class:`SimilarNews`."""

    schema: str
    id: str
    title: str
    similar: list[SimilarJson]


@dataclass(frozen=True)
class SimilarNews:
    """News that are like one, the most similar first, with their similarity."""

    article: Article
    similar: tuple[tuple[Article, float], ...]

    def to_json(self) -> SimilarNewsJson:
        """JSON-ready, with its schema."""
        return {
            "schema": SIMILAR_SCHEMA,
            "id": self.article.id,
            "title": self.article.title,
            "similar": [
                {
                    "id": article.id,
                    "title": article.title,
                    "category": article.category,
                    "score": round(score, 5),
                }
                for article, score in self.similar
            ],
        }

"""The operations behind HTTP and MCP: a reader in, news and reasons out; clicks as they come; similar news."""

from __future__ import annotations

from typing import Annotated, Any

from multiway_core.app.serve.operation import Operation, Service
from multiway_core.errors import InputError
from multiway_recsys.serving.result import RecommendationListJson, SimilarNewsJson
from pydantic import Field
from typing_extensions import TypedDict

CLICKS_SCHEMA = "multiway.news-clicks/1"


class ClicksJson(TypedDict):
    """What is known of a reader after some clicks; ``unknown`` are ids that no news has."""

    schema: str
    user: str
    clicks: int
    unknown: list[str]


def recommendations(
    pipeline: Any,
    user: str | None = None,
    history: Annotated[list[str] | None, Field(max_length=10_000)] = None,
    top: Annotated[int, Field(ge=1, le=100)] = 10,
    explain: bool = False,
    diversity: Annotated[float, Field(ge=0, le=1)] = 0.3,
) -> RecommendationListJson:
    """Recommend news to a known reader, or to the reader of a history of article ids (oldest first)."""
    from multiway_recsys.serving.reranking import RerankingOptions

    if (user is None) == (history is None):
        raise InputError("give one of user and history (an empty history is a new reader)")
    clicks = pipeline.history_of(user) if history is None else history
    detail = "explanation" if explain else "parts"
    return pipeline.recommend(
        clicks, user=user, top=top, rules=RerankingOptions(diversity=diversity), detail=detail
    ).to_json()


def news_clicks(
    pipeline: Any,
    user: Annotated[str, Field(min_length=1, max_length=200)],
    news: Annotated[list[str], Field(min_length=1, max_length=1000)],
    at: Annotated[int | None, Field(ge=0, le=2**40)] = None,
) -> ClicksJson:
    """Tell what a reader, known or new, has just clicked (oldest first); the next recommendations look at it."""
    unknown = pipeline.click(user, news, at)
    return {
        "schema": CLICKS_SCHEMA,
        "user": user,
        "clicks": len(pipeline.history_of(user)),
        "unknown": list(unknown),
    }


def similar_news(
    pipeline: Any,
    id: Annotated[str, Field(min_length=1, max_length=200)],
    top: Annotated[int, Field(ge=1, le=100)] = 10,
) -> SimilarNewsJson:
    """List the news that are most like one, for a box below an article."""
    return pipeline.similar(id, top).to_json()


SERVICE = Service(
    operations=(
        Operation(
            "/v1/recommendations",
            recommendations,
            RecommendationListJson,
            schema="multiway.news-recommendation/1",
        ),
        Operation("/v1/clicks", news_clicks, ClicksJson, schema=CLICKS_SCHEMA),
        Operation("/v1/similar", similar_news, SimilarNewsJson, schema="multiway.similar-news/1"),
    )
)

"""The operation behind HTTP and MCP: a reader in, news and reasons out."""

from __future__ import annotations

from typing import Annotated, Any

from multiway_core.app.serve.operation import Operation, Service
from multiway_core.errors import InputError
from multiway_recsys.serving.result import RecommendationListJson
from pydantic import Field


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


SERVICE = Service(
    operations=(
        Operation(
            "/v1/recommendations",
            recommendations,
            RecommendationListJson,
            schema="multiway.news-recommendation/1",
        ),
    )
)

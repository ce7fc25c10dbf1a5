"""What this app tells the umbrella about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multiway_core.app import App

if TYPE_CHECKING:
    from multiway_core.evaluation import Report


def _demo() -> Any:
    from multiway_news_recommendation.demo import build_demo

    return build_demo()


def _quick_evaluation() -> Report:
    from multiway_news_recommendation.evaluation import quick_evaluation

    return quick_evaluation()


APP = App(
    name="news-recommendation",
    title="Multiway News Recommendation",
    description="News for a reader, ranked from click logs and explained: which click, which chain of other readers.",
    cli="multiway_news_recommendation.cli:cli",
    demo=_demo,
    quick_evaluation=_quick_evaluation,
)

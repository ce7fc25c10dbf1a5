"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="summarization",
    title="Multiway Summarization",
    description="Titles of texts, questions on passages, extracted summaries; train, measure and serve your own.",
    model="bundled:title-question",
    cli="multiway_summarization.cli:cli",
    pipeline="multiway_summarization.models:load",
    recipes="multiway_summarization.recipes:RECIPES",
    demo="multiway_summarization.demo:build_demo",
    quick_evaluation="multiway_summarization.evaluation:quick_evaluation",
    serve="multiway_summarization.server:SERVICE",
    picture="viewer/card.webp",
)

"""The app's declaration."""

from multiway_core.app import App

MULTILINGUAL = "bundled:multilingual-small"
"""For what compares languages."""
APP = App(
    name="search",
    title="Multiway Search",
    description="Search in one's own texts by meaning and by words: index a folder, ask it, serve it.",
    model="bundled:minilm-l6",
    picture="demo/card.webp",
    cli="multiway_search.cli:cli",
    pipeline="multiway_text.search.pipeline:SearchPipeline",
    recipes="multiway_text.search.recipe:RECIPES",
    demo="multiway_search.demo:build_demo",
    quick_evaluation="multiway_search.evaluation:quick_evaluation",
    serve="multiway_search.server:SERVICE",
)

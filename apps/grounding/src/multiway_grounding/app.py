"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="grounding",
    title="Multiway Grounding",
    description="Phrase grounding with absence detection, grounded captions, visual question answering.",
    model="bundled:grounding-small",
    cli="multiway_grounding.cli:cli",
    pipeline="multiway_vision_language.tasks.pipeline:open_pipeline",
    recipes="multiway_vision_language.recipes:RECIPES",
    demo="multiway_grounding.demo:build_demo",
    quick_evaluation="multiway_grounding.evaluation:quick_evaluation",
    serve="multiway_grounding.server:SERVICE",
    picture="demo/card.webp",
)

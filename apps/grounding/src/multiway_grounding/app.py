"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="grounding",
    title="Multiway Grounding",
    description="Find what words name in pictures, and put pictures into words, on this machine.",
    model="bundled:grounding-small",
    cli="multiway_grounding.cli:cli",
    pipeline="multiway_vision_language.pipeline:GroundingPipeline",
    evaluation="multiway_grounding.evaluation",
    demo="multiway_grounding.demo:build_demo",
    quick_evaluation="multiway_grounding.evaluation:quick_evaluation",
    picture="demo/card.webp",
)

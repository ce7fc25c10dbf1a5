"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="pathology",
    title="Multiway Pathology",
    description="Gigapixel slides: classes, survival, deciding regions. For research only; no medical device.",
    model="bundled:longvit-tissue",
    picture="card.webp",
    cli="multiway_pathology.cli:cli",
    pipeline="multiway_vision_language.longvit.pipeline:LongVitPipeline",
    demo="multiway_pathology.viewer:build_demo",
    quick_evaluation="multiway_pathology.evaluation:quick_evaluation",
    serve="multiway_pathology.server:SERVICE",
    recipes="multiway_pathology.training:RECIPES",
)

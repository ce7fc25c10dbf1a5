"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="encoder",
    title="Multiway Encoder",
    description="Text encoders: vectors, similarity, classes and tags; fine-tune, distil, shrink and serve them.",
    model="bundled:minilm-l6",
    picture="demo/card.webp",
    cli="multiway_encoder.cli:cli",
    pipeline="multiway_text.encoder.pipeline:EncoderPipeline",
    recipes="multiway_text.encoder.recipe:RECIPES",
    demo="multiway_encoder.demo:build_demo",
    quick_evaluation="multiway_encoder.evaluation:quick_evaluation",
    serve="multiway_encoder.server:SERVICE",
)

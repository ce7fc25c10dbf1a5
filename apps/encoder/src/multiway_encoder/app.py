"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="encoder",
    title="Multiway Encoder",
    description="Text encoders: vectors, similarity, classes and tags; fine-tune, distil, shrink and serve them.",
    model="bundled:minilm-l6",
    cli="multiway_encoder.cli:cli",
    pipeline="multiway_text.encoder.pipeline:EncoderPipeline",
    recipes="multiway_text.encoder.recipe:RECIPES",
)

"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="frame-interpolation",
    title="Multiway Frame Interpolation",
    description="Video frame interpolation and extrapolation from the events of an event camera.",
    model="bundled:frame-fusion-small",
    cli="multiway_frame_interpolation.cli:cli",
    pipeline="multiway_event_vision.interpolation:InterpolationPipeline",
    recipes="multiway_event_vision.interpolation_recipes:RECIPES",
    demo="multiway_frame_interpolation.demo:build_demo",
    quick_evaluation="multiway_frame_interpolation.evaluation:quick_evaluation",
    serve="multiway_frame_interpolation.server:SERVICE",
    picture="demo/card.webp",
)

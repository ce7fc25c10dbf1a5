"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="event-detection",
    title="Multiway Event Detection",
    description="Object detection in event-camera recordings; conversion, rendering and simulation of recordings.",
    model="auto",
    cli="multiway_event_detection.cli:cli",
    pipeline="multiway_event_vision.pipeline:DetectorChoice",
    recipes="multiway_event_vision.recipes:RECIPES",
    demo="multiway_event_detection.demo:build_demo",
    quick_evaluation="multiway_event_detection.shapes_evaluation:quick_evaluation",
    serve="multiway_event_detection.server:SERVICE",
    picture="demo/card.webp",
)

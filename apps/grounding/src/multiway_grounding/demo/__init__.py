"""The demo: words and places of a picture, linked; and the same for many pictures."""

from __future__ import annotations

from typing import Any

from multiway_core.app import ModelLoader, ModelOptions, frame

from multiway_grounding.app import APP
from multiway_grounding.demo.session import DemoGrounder

__all__ = ["DemoGrounder", "build_demo"]

TITLE = "Multiway Grounding"
DESCRIPTION = (
    "Phrase grounding with absence detection, grounded captions and visual question answering. Everything runs on this "
    "machine; nothing is sent anywhere."
)


def build_demo(model: str = APP.model, *, device: str = "auto", dtype: str = "auto") -> Any:
    """The demo as Gradio Blocks, with the model loaded. Raises StopRun when it cannot be."""
    import gradio as gr

    from multiway_grounding.demo.events import connect, connect_batch
    from multiway_grounding.demo.layout import batch_components, components

    session = DemoGrounder(ModelLoader(APP, ModelOptions(model, device, dtype)))
    with frame(TITLE, DESCRIPTION) as blocks, gr.Tabs():
        with gr.Tab("One picture"):
            connect(session, components(knows_absence=session.pipeline.knows_absence))
        with gr.Tab("Many pictures"):
            connect_batch(session, batch_components())
    return blocks

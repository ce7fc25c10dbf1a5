"""What stands where on the demo's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multiway_core.app import example_gallery, run_and_stop, viewer
from multiway_event_vision.labels.folder import RECORDING_ENDINGS
from multiway_event_vision.sources import VIDEO_ENDINGS

from multiway_event_detection.app import APP
from multiway_event_detection.demo.examples import example_files, thumbnail
from multiway_event_detection.demo.view import empty_value

_PERIODS = [("every 1 ms", 1_000), ("every 5 ms", 5_000), ("every 10 ms", 10_000), ("every 50 ms", 50_000)]
_USUAL_PERIOD = 10_000


@dataclass(frozen=True)
class Components:
    """The parts of the page that events read or change (Gradio's own types, which are loaded late)."""

    chosen: Any
    file: Any
    video: Any
    model: Any
    period: Any
    detect: Any
    stop: Any
    examples: list[Path]
    gallery: Any
    view: Any


def components(models: Sequence[tuple[str, str]]) -> Components:
    """Put the components on the page that is being built, for these (label, name) of models."""
    import gradio as gr

    with gr.Row(equal_height=False):
        with gr.Column(scale=0, min_width=340):
            examples = example_files()
            gallery = example_gallery(
                [(thumbnail(path), caption) for path, caption in examples],
                "events-examples",
                columns=3,
                height=125,
            )
            with gr.Tabs():
                with gr.Tab("Recording"):
                    file = gr.File(
                        label="DAT, RAW, HDF5, AEDAT4 ...",
                        file_types=sorted(RECORDING_ENDINGS | VIDEO_ENDINGS),
                        type="filepath",
                        height=150,
                        elem_id="events-file",
                    )
                with gr.Tab("Video or webcam"):
                    video = gr.Video(
                        label="No event camera? Any video works",
                        sources=["upload", "webcam"],
                        include_audio=False,
                        height=220,
                        elem_id="events-video",
                    )
            model = gr.Dropdown(
                list(models),
                value=models[0][1],
                label="Detector",
                visible=len(models) > 1,
                elem_id="events-model",
            )
            period = gr.Dropdown(
                _PERIODS, value=_USUAL_PERIOD, label="Boxes are read", elem_id="events-period"
            )
            detect, stop = run_and_stop("Detect", "events-detect")
        with gr.Column(scale=7, min_width=320):
            view = viewer(APP, empty_value(), "events-view")
    paths = [path for path, _ in examples]
    return Components(gr.State(None), file, video, model, period, detect, stop, paths, gallery, view)

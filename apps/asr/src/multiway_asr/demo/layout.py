"""Layout of the demo's page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multiway_core.app import download_buttons, repository_examples, run_and_stop, viewer

from multiway_asr.app import APP
from multiway_asr.batch import Format
from multiway_asr.demo.view import view_value
from multiway_asr.transcriber import SUFFIXES

_FORMAT_LABELS = {
    Format.TXT: "Text",
    Format.SRT: "SRT",
    Format.VTT: "WebVTT",
    Format.TSV: "Table",
    Format.JSON: "JSON",
    Format.RTTM: "RTTM",
    Format.STM: "STM",
}
_LABEL_CSS = "font-size: 14px; line-height: 28px; color: var(--body-text-color-subdued);"


@dataclass(frozen=True)
class Components:
    """The parts of the page that events read or change (Gradio's own types, which are loaded late)."""

    file: Any
    microphone: Any
    context: Any
    speakers: Any
    transcribe: Any
    stop: Any
    examples: list[tuple[Path, Any]]
    view: Any
    downloads: list[Any]


def components() -> Components:
    """Put the components on the page that is being built."""
    import gradio as gr

    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            file = gr.File(
                label="Recording or video",
                file_types=sorted(SUFFIXES),
                type="filepath",
                height=130,
                elem_id="asr-file",
            )
            microphone = gr.Audio(
                label="Or speak",
                sources=["microphone"],
                type="filepath",
                format="wav",
                elem_id="asr-microphone",
            )
            with gr.Row():
                examples = [
                    (path, gr.Button(f"Example: {path.stem}", size="sm", elem_id=f"asr-example-{path.stem}"))
                    for path in repository_examples(APP, SUFFIXES)
                ]
            context = gr.Textbox(
                label="Context: names and terms that are spoken",
                placeholder="Anna Kovács, Multiway",
                lines=2,
                max_lines=6,
                elem_id="asr-context",
            )
            speakers = gr.Slider(
                0,
                10,
                value=0,
                step=1,
                label="Max speakers (0: no limit)",
                elem_id="asr-speakers",
            )
            transcribe, stop = run_and_stop("Transcribe", "asr-transcribe")
        with gr.Column(scale=4, min_width=320):
            view = viewer(APP, view_value(), "asr-view", padding=False)
            with gr.Row(elem_id="asr-downloads"):
                gr.HTML("Download", css_template=_LABEL_CSS, apply_default_css=False, min_width=80)
                downloads = download_buttons(_FORMAT_LABELS, "asr", min_width=70)
    return Components(file, microphone, context, speakers, transcribe, stop, examples, view, downloads)

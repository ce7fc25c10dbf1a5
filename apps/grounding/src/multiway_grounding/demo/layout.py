"""What stands where on the demo's page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from multiway_core.app import example_gallery, run_and_stop, viewer
from multiway_vision_language.pictures import SUFFIXES

from multiway_grounding.app import APP
from multiway_grounding.demo.downloads import DOWNLOADS
from multiway_grounding.demo.examples import Example, examples
from multiway_grounding.demo.view import empty_value

CHOICES = {
    "locate": "Find phrases",
    "caption": "Caption",
    "detailed": "Detailed caption",
    "describe": "Describe a place",
    "ask": "Ask a question",
    "prompt": "Free prompt with tags",
}
"""What can be asked, in the order of the menu."""
BATCH_CHOICES = {key: CHOICES[key] for key in ("locate", "caption", "detailed", "ask")}
_STATUS_CSS = "font-size: 14px; min-height: 28px; color: var(--body-text-color-subdued);"


@dataclass(frozen=True)
class Components:
    """The parts of the page that events read or change (Gradio's own types, which are loaded late)."""

    file: Any
    task: Any
    phrases: Any
    threshold: Any
    box: Any
    text: Any
    places: Any
    run: Any
    stop: Any
    examples: list[Example]
    gallery: Any
    view: Any
    downloads: list[Any]

    @property
    def asked(self) -> list[Any]:
        """What a request is made of."""
        return [self.task, self.phrases, self.threshold, self.box, self.text, self.places]


@dataclass(frozen=True)
class BatchComponents:
    """The same for many pictures."""

    files: Any
    task: Any
    phrases: Any
    text: Any
    run: Any
    stop: Any
    status: Any
    cards: Any
    downloads: list[Any]


def components(*, knows_absence: bool) -> Components:
    """Put the components for one picture on the page that is being built.

    The threshold is for models that know absence.
    """
    import gradio as gr

    with gr.Row(equal_height=False):
        with gr.Column(scale=0, min_width=345):
            offered = examples()
            file = gr.File(
                label="Picture",
                file_types=sorted(SUFFIXES),
                type="filepath",
                height=140,
                elem_id="ground-file",
            )
            gallery = example_gallery(
                [(str(example.path), example.caption) for example in offered],
                "ground-examples",
                columns=3,
                height=225,
            )
            task = gr.Dropdown(
                [(label, key) for key, label in CHOICES.items()],
                value="locate",
                label="Task",
                elem_id="ground-task",
            )
            phrases = gr.Textbox(
                label="Phrases, one a line",
                placeholder="the red ball\na tree",
                lines=3,
                max_lines=8,
                elem_id="ground-phrases",
            )
            threshold = gr.Slider(
                0,
                1,
                value=0.5,
                step=0.05,
                label="Least 'present'",
                visible=knows_absence,
                elem_id="ground-threshold",
            )
            box = gr.Textbox(
                label="Box: left, top, right, bottom",
                placeholder="draw it on the picture",
                visible=False,
                elem_id="ground-box",
            )
            text = gr.Textbox(label="Question", lines=2, visible=False, elem_id="ground-text")
            places = gr.Checkbox(True, label="with places", visible=False, elem_id="ground-places")
            run, stop = run_and_stop("Run", "ground-run")
        with gr.Column(scale=7, min_width=320):
            view = viewer(APP, empty_value(), "ground-view")
            with gr.Row(elem_id="ground-downloads"):
                downloads = [
                    gr.DownloadButton(
                        f"Download {label}",
                        size="sm",
                        interactive=False,
                        min_width=110,
                        elem_id=f"ground-get-{kind}",
                    )
                    for kind, label in DOWNLOADS.items()
                ]
    return Components(
        file, task, phrases, threshold, box, text, places, run, stop, offered, gallery, view, downloads
    )


def batch_components() -> BatchComponents:
    """Put the components for many pictures on the page that is being built."""
    import gradio as gr

    with gr.Row(equal_height=False):
        with gr.Column(scale=0, min_width=320):
            files = gr.File(
                label="Pictures",
                file_count="multiple",
                file_types=sorted(SUFFIXES),
                type="filepath",
                height=200,
                elem_id="ground-files",
            )
            task = gr.Dropdown(
                [(label, key) for key, label in BATCH_CHOICES.items()],
                value="caption",
                label="Task",
                elem_id="ground-batch-task",
            )
            phrases = gr.Textbox(
                label="Phrases, one a line",
                lines=3,
                max_lines=8,
                visible=False,
                elem_id="ground-batch-phrases",
            )
            text = gr.Textbox(label="Question", lines=2, visible=False, elem_id="ground-batch-text")
            run, stop = run_and_stop("Run", "ground-batch-run")
        with gr.Column(scale=7, min_width=320):
            status = gr.HTML(
                "", apply_default_css=False, css_template=_STATUS_CSS, elem_id="ground-batch-status"
            )
            cards = viewer(APP, [], "ground-batch-cards", name="cards")
            with gr.Row():
                downloads = [
                    gr.DownloadButton(
                        label, size="sm", interactive=False, min_width=140, elem_id=f"ground-batch-{kind}"
                    )
                    for kind, label in (("zip", "Everything (zip)"), ("jsonl", "Results (JSON lines)"))
                ]
    return BatchComponents(files, task, phrases, text, run, stop, status, cards, downloads)

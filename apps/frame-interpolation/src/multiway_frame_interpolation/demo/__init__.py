"""The demo: frames left out of a video made again, with a slider between ours and another method's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from multiway_core.app import ModelOptions, frame, messages

from multiway_frame_interpolation.app import APP
from multiway_frame_interpolation.demo.session import METHODS, OURS, TRUTH, DemoSession, GapRequest, GapResult

__all__ = ["DemoSession", "build_demo"]

TITLE = "Multiway Frame Interpolation"
DESCRIPTION = (
    "Frames between the frames of a video, from the events of an event camera. No such camera? Frames are left out of "
    "your video, a simulated sensor sees what they showed, and the network has to make them again."
)
_SKIPPED = [("1", 1), ("3", 3), ("7", 7), ("none: fill the video's own gaps", 0)]
_COMPARED = [*METHODS, TRUTH]
_SOURCES = (
    "Where the network's frame is from: red, optical flow; green, events; blue, flow that events guide."
)


def build_demo(model: str = APP.model, *, device: str = "auto", dtype: str = "auto") -> Any:
    """The demo as Gradio Blocks, with the model loaded. Raises ModelNotFoundError, CheckpointError, ConfigError."""
    import gradio as gr

    session = DemoSession(ModelOptions(model, device, dtype))
    with frame(TITLE, DESCRIPTION) as blocks, gr.Row(equal_height=False):
        with gr.Column(scale=0, min_width=300):
            video = gr.File(
                label="Video (none: drawn shapes)", file_types=["video"], height=140, elem_id="fi-video"
            )
            events = gr.File(label="Its events, if any", height=140, elem_id="fi-events")
            skipped = gr.Radio(_SKIPPED, value=7, label="Frames left out", elem_id="fi-skipped")
            number = gr.Slider(1, 2, value=1, step=1, label="Gap", elem_id="fi-gap")
            position = gr.Slider(0.0, 1.0, value=0.5, step=0.01, label="Time in the gap", elem_id="fi-time")
            compared = gr.Radio(_COMPARED, value="blend", label="Left of the line", elem_id="fi-compared")
            make = gr.Button("Make the frame", variant="primary", elem_id="fi-make")
            slow = gr.Button("Slow motion, 8 times", elem_id="fi-slow")
        with gr.Column(scale=6, min_width=560):
            slider = gr.ImageSlider(
                label="Left: chosen. Right: auto",
                show_label=True,
                type="numpy",
                format="png",
                interactive=False,
                height=430,
                elem_id="fi-slider",
            )
            summary = gr.HTML(elem_id="fi-summary")
            film = gr.Video(label="Slow motion", visible=False, autoplay=True, loop=True, elem_id="fi-film")
        with gr.Column(scale=4, min_width=380):
            gallery = gr.Gallery(
                label="All methods",
                columns=2,
                height=720,
                object_fit="contain",
                format="png",
                interactive=False,
                elem_id="fi-gallery",
            )

        inputs = [video, events, skipped, number, position]
        outputs = [slider, gallery, summary]

        @messages
        def show(*values: Any) -> list[Any]:
            return _page(session.show(_wish(*values[:-1])), values[-1])

        @messages
        def open_video(path: str | None, left_out: int) -> Any:
            return gr.Slider(maximum=max(2, session.gaps(path, left_out)), value=1)

        @messages
        def slow_motion(*values: Any) -> Any:
            return gr.Video(value=str(session.slow_motion(_wish(*values))), visible=True)

        opening = [video, skipped]
        for change in (video.change, skipped.change, blocks.load):
            change(open_video, opening, number).success(show, [*inputs, compared], outputs)
        for change in (make.click, number.release, position.release, compared.input, events.change):
            change(show, [*inputs, compared], outputs)
        slow.click(slow_motion, inputs, film)
    return blocks


def _wish(video: str | None, events: str | None, skipped: int, number: int, position: float) -> GapRequest:
    return GapRequest(video, events, int(skipped), int(number) - 1, float(position))


def _page(shown: GapResult, compared: str) -> list[Any]:
    left = compared if compared in shown.frames else "blend"
    beside = [(image, name) for name, image in shown.frames.items() if name != OURS]
    beside += [
        (shown.events, "events"),
        (shown.sources, "where it is from"),
    ]
    return [(shown.frames[left], shown.frames[OURS]), beside, _table(shown, list(shown.psnr))]


def _table(shown: GapResult, names: Sequence[str]) -> str:
    """PSNR of every method, the best one in bold."""
    if not names:
        return f"<p>{shown.summary}. The true frame is not known.</p>"
    best = max(names, key=lambda name: shown.psnr[name])
    rows = "".join(  # a row a method: a row of all methods is wider than a phone
        f"<tr><th>{name}</th><td>{'<b>' if name == best else ''}{shown.psnr[name]:.2f} dB"
        f"{'</b>' if name == best else ''}</td></tr>"
        for name in names
    )
    return f"<table class='fi-scores'>{rows}</table><p>{shown.summary}</p><p>{_SOURCES}</p>"

"""What happens on the demo's page: something is opened and detected in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multiway_core.app import messages
from multiway_core.errors import InputError

from multiway_event_detection.demo.layout import Components
from multiway_event_detection.demo.session import DemoDetector
from multiway_event_detection.demo.view import empty_value


def connect(session: DemoDetector, parts: Components) -> None:
    """Give the components of the page that is being built their events."""
    import gradio as gr

    @messages
    def run(path: str | None, model: str, period: int) -> Iterator[dict[str, Any]]:
        if path is None:
            raise InputError("choose an example, a recording or a video first")
        try:
            yield from session.detect(Path(path), model, int(period))
        except Exception:
            yield empty_value("This could not be read.")
            raise

    @messages
    def as_json(path: str | None, model: str, period: int) -> dict[str, Any]:
        if path is None:
            raise InputError("choose a recording or a video first")
        return session.result(Path(path), model, int(period))

    detecting = []

    def detect_on(trigger: Any) -> None:
        detecting.append(
            trigger(
                run,
                [parts.chosen, parts.model, parts.period],
                parts.view,
                api_visibility="private",
                show_progress="hidden",
                concurrency_id="model",
            )
        )

    # What was opened last counts, whichever way it came; an emptied input changes nothing.
    for source in (parts.file, parts.video):
        opened = source.change(
            lambda path, before: path or before,
            [source, parts.chosen],
            parts.chosen,
            api_visibility="private",
            show_progress="hidden",
        )
        detect_on(opened.success)
    detect_on(parts.detect.click)
    parts.stop.click(None, cancels=detecting, api_visibility="private")

    def example(event: Any) -> str:
        return str(parts.examples[event.index])

    example.__annotations__["event"] = gr.SelectData  # Gradio passes the event by this annotation
    parts.gallery.select(example, None, parts.file, api_visibility="private", show_progress="hidden")
    # The same for programs (gradio_client): one call, JSON of schema multiway.event-detection/2.
    gr.Button(visible=False).click(
        as_json,
        [parts.file, parts.model, parts.period],
        gr.JSON(visible=False),
        api_name="detect",
        concurrency_id="model",
    )

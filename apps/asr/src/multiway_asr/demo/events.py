"""Event handlers of the demo: open or record, transcribe, download."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from multiway_core.app import messages
from multiway_core.errors import InputError
from multiway_core.files import write_text
from multiway_speech.export import export

from multiway_asr.batch import Format
from multiway_asr.demo.layout import Components
from multiway_asr.demo.session import DemoSession
from multiway_asr.demo.view import view_value

_NOTHING = "choose a recording, or record one, first (an upload may still be on its way)"


def connect(session: DemoSession, parts: Components) -> None:
    """Give the components of the page that is being built their events."""
    import gradio as gr

    outputs = [parts.view, *parts.downloads]
    cleared = [gr.update(value=None, interactive=False)] * len(parts.downloads)
    chosen = gr.State()  # the path of the recording that is shown

    @messages
    def opened(path: str | None) -> Iterator[list[Any]]:
        ready = gr.update(interactive=path is None)
        yield [None, ready, view_value(), *cleared]  # also what stays if this one cannot be opened
        if path is not None:
            yield [path, gr.update(interactive=True), session.open(Path(path)), *cleared]

    @messages
    def run(path: str | None, file: str | None, context: str, speakers: float) -> Iterator[list[Any]]:
        path = path or file  # one that was uploaded this moment is not opened yet
        if path is None:
            raise InputError(_NOTHING)
        value = view_value()
        try:
            for value, transcript in session.transcribe(Path(path), context, speakers):
                if transcript is None:
                    yield [value, *cleared]
                    continue
                with tempfile.TemporaryDirectory(prefix="multiway-asr-") as folder:
                    buttons = []
                    for name in Format:
                        target = Path(folder) / f"{Path(path).stem}.{name}"
                        write_text(target, export(transcript, name))
                        buttons.append(gr.update(value=str(target), interactive=True))
                    yield [value, *buttons]  # Gradio copies the files meanwhile
        except Exception:
            yield [{**value, "working": False, "summary": "", "note": "The transcription failed."}, *cleared]
            raise

    @messages
    def as_json(path: str | None, context: str, speakers: float) -> dict[str, Any]:
        if path is None:
            raise InputError(_NOTHING)
        return session.transcript(Path(path), context, speakers).to_json()

    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    opening = [chosen, parts.transcribe, *outputs]
    parts.file.change(opened, parts.file, opening, **hidden)
    parts.microphone.stop_recording(opened, parts.microphone, opening, **hidden)
    working = parts.transcribe.click(
        run,
        [chosen, parts.file, parts.context, parts.speakers],
        outputs,
        api_visibility="private",
        show_progress="minimal",
        concurrency_id="model",
    )
    parts.stop.click(None, cancels=[working], api_visibility="private")
    for path, button in parts.examples:
        button.click(_constant(str(path)), None, parts.file, **hidden)
    # The same for programs (gradio_client): one call, JSON of schema multiway.asr/1.
    gr.Button(visible=False).click(
        as_json,
        [parts.file, parts.context, parts.speakers],
        gr.JSON(visible=False),
        api_name="transcribe",
        concurrency_id="model",
    )


def _constant(value: str) -> Callable[[], str]:
    return lambda: value

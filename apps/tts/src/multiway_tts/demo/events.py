"""Event handlers of the demo."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multiway_core.app import messages

from multiway_tts.demo.examples import EXAMPLES
from multiway_tts.demo.layout import SPEAKERS, Components
from multiway_tts.demo.session import Choice, Session, seed_of, voices_of, write_files
from multiway_tts.demo.view import editor_value, empty_value

HIDDEN: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def choice_of(*values: Any) -> Choice:
    """From what Gradio passes, in the order of ``Components.settings``. Raises InputError."""
    own, consent, disclaimer, seed, guidance, steps, speed = values[SPEAKERS:]
    return Choice(
        voices_of(values[:SPEAKERS]),
        own or None,
        bool(consent),
        disclaimer,
        seed_of(seed),
        None if guidance is None else float(guidance),
        None if steps is None else int(steps),
        1.0 if speed is None else float(speed),
    )


def connect(session: Session, parts: Components) -> None:
    """Give the components of the page that is being built their events."""
    import gradio as gr

    cleared = [gr.update(value=None, interactive=False)] * len(parts.downloads)
    outputs = [parts.player, *parts.downloads]

    def run(request: Any, editor: dict[str, Any] | None, *values: Any) -> Iterator[list[Any]]:
        text = (editor or {}).get("text", "")
        try:
            for value, manifest, samples in session.speak(text, choice_of(*values), request.session_hash):
                if manifest is None or not len(samples):
                    yield [value, *cleared]
                    continue
                with tempfile.TemporaryDirectory(prefix="multiway-tts-") as folder:
                    files = write_files(Path(folder), manifest, samples)
                    # Gradio copies the files meanwhile.
                    yield [value, *(gr.update(value=file, interactive=True) for file in files)]
        except Exception:
            yield [empty_value("This failed."), *cleared]
            raise

    def stop(request: Any) -> None:
        session.stop(request.session_hash)

    @messages
    def speak_once(text: str, *values: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        *_, (_, manifest, samples) = session.speak(text, choice_of(*values))
        assert manifest is not None
        with tempfile.TemporaryDirectory(prefix="multiway-tts-") as folder:
            yield write_files(Path(folder), manifest, samples)[0], manifest.to_json()

    for function in (run, stop):
        function.__annotations__["request"] = gr.Request  # Gradio passes it by this annotation
    asking: dict[str, Any] = {**HIDDEN, "concurrency_id": "model"}
    inputs = [parts.editor, *parts.settings]
    for trigger in (parts.speak.click, parts.editor.submit):
        trigger(messages(run), inputs, outputs, **asking)
    parts.stop.click(stop, None, None, queue=False, **HIDDEN)
    for name, button in parts.examples.items():
        button.click(
            lambda text=EXAMPLES[name]: editor_value(text, session.voices),
            None,
            parts.editor,
            queue=False,
            **HIDDEN,
        )
    # The same for programs (gradio_client): one call, the sound file and JSON of schema multiway.tts/1.
    gr.Button(visible=False).click(
        speak_once,
        [gr.Textbox(visible=False), *parts.settings],
        [gr.File(visible=False), gr.JSON(visible=False)],
        api_name="speak",
        concurrency_id="model",
    )

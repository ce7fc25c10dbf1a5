"""What happens on the demo's page: a picture is opened, a box drawn, something asked, results offered."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multiway_core.app import messages
from multiway_core.errors import InputError, MultiwayError

from multiway_grounding.demo.downloads import Archive, json_lines, write_downloads
from multiway_grounding.demo.layout import BatchComponents, Components
from multiway_grounding.demo.session import DemoGrounder
from multiway_grounding.demo.view import card, empty_value, error_card
from multiway_grounding.render import remarks
from multiway_grounding.request import Request, parse_box

HIDDEN: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def request_of(task: str, phrases: str, threshold: float, box: str, text: str, places: bool) -> Request:
    """What the page's components ask. Raises InputError."""
    if task == "locate":
        lines = tuple(line for line in phrases.splitlines() if line.strip())
        if not lines:
            raise InputError("type what to look for, one phrase a line")
        return Request("locate", phrases=lines, threshold=threshold)
    if task == "describe":
        if not box.strip():
            raise InputError("draw a box on the picture, or type its left, top, right, bottom")
        return Request("describe", box=parse_box(box))
    if task in ("caption", "detailed"):
        return Request("caption", detailed=task == "detailed", grounded=places)
    if not text.strip():
        raise InputError("type a question" if task == "ask" else "type a prompt")
    if task == "ask":
        return Request("ask", text=text, grounded=places)
    return Request("prompt", text=text)


def connect(session: DemoGrounder, parts: Components) -> None:
    """Give the components for one picture their events."""
    import gradio as gr

    cleared = [gr.update(value=None, interactive=False)] * len(parts.downloads)
    outputs = [parts.view, *parts.downloads]

    @messages
    def opened(path: str | None) -> list[Any]:
        return [empty_value() if path is None else session.preview(Path(path)), *cleared]

    @messages
    def run(path: str | None, *asked: Any) -> Iterator[list[Any]]:
        if path is None:
            raise InputError("choose a picture first")
        request = request_of(*asked)
        value = empty_value()
        try:
            for value, picture, result in session.stream(Path(path), request):
                if picture is None or result is None:
                    yield [value, *cleared]
                    continue
                for remark in remarks(result):
                    gr.Warning(html.escape(remark))
                with tempfile.TemporaryDirectory(prefix="multiway-grounding-") as folder:
                    files = write_downloads(Path(folder), picture, result)
                    # Gradio copies the files meanwhile.
                    yield [value, *(gr.update(value=file, interactive=True) for file in files)]
        except Exception:
            yield [{**value, "entities": [], "segments": [], "summary": "", "note": "This failed."}, *cleared]
            raise

    @messages
    def as_json(path: str | None, *asked: Any) -> dict[str, Any]:
        if path is None:
            raise InputError("choose a picture first")
        return session.ground(Path(path), request_of(*asked))[1].to_json()

    def chosen_task(task: str) -> list[Any]:
        question = task == "ask"
        return [
            gr.update(visible=task == "locate"),
            gr.update(visible=task == "locate" and session.pipeline.knows_absence),
            gr.update(visible=task == "describe"),
            gr.update(visible=question or task == "prompt", label="Question" if question else "Prompt"),
            gr.update(visible=question or task in ("caption", "detailed")),
        ]

    def drawn(event: Any) -> list[Any]:
        return [", ".join(f"{number:g}" for number in event.box), "describe"]

    drawn.__annotations__["event"] = gr.EventData  # Gradio passes the event by this annotation

    def example(event: Any) -> list[str]:
        chosen = parts.examples[event.index]
        return [str(chosen.path), chosen.phrases]

    example.__annotations__["event"] = gr.SelectData

    fields = [parts.phrases, parts.threshold, parts.box, parts.text, parts.places]
    parts.file.change(opened, parts.file, outputs, **HIDDEN)
    parts.gallery.select(example, None, [parts.file, parts.phrases], **HIDDEN)
    parts.task.change(chosen_task, parts.task, fields, **HIDDEN)
    asking: dict[str, Any] = {**HIDDEN, "concurrency_id": "model"}
    inputs = [parts.file, *parts.asked]
    running = [
        parts.run.click(run, inputs, outputs, **asking),
        parts.view.draw(drawn, None, [parts.box, parts.task], **HIDDEN).then(run, inputs, outputs, **asking),
    ]
    parts.stop.click(None, cancels=running, api_visibility="private")
    # The same for programs (gradio_client): one call, JSON of schema multiway.grounding/1.
    gr.Button(visible=False).click(
        as_json, inputs, gr.JSON(visible=False), api_name="ground", concurrency_id="model"
    )


def connect_batch(session: DemoGrounder, parts: BatchComponents) -> None:
    """Give the components for many pictures their events."""
    import gradio as gr

    cleared = [gr.update(value=None, interactive=False)] * len(parts.downloads)

    @messages
    def run(paths: list[str] | None, task: str, phrases: str, text: str) -> Iterator[list[Any]]:
        if not paths:
            raise InputError("choose some pictures first")
        request = request_of(task, phrases, 0.5, "", text, True)
        cards: list[dict[str, Any]] = []
        results = []
        archive = Archive()
        for number, path in enumerate(map(Path, paths), 1):
            try:
                picture, result = session.ground(path, request)
            except MultiwayError as error:
                cards.append(error_card(path.name, str(error)))
            else:
                results.append(result)
                archive.add(picture, result)
                cards.append(card(picture, result))
            yield [f"{number} of {len(paths)} pictures", cards, *cleared]
        with tempfile.TemporaryDirectory(prefix="multiway-grounding-") as folder:
            files = {
                "pictures.zip": archive.close(results),
                "results.jsonl": json_lines(results),
            }
            for name, data in files.items():
                Path(folder, name).write_bytes(data)
            buttons = [gr.update(value=str(Path(folder, name)), interactive=bool(results)) for name in files]
            failed = len(paths) - len(results)
            wrong = f", {failed} could not be read" if failed else ""
            yield [f"{len(results)} of {len(paths)} pictures done{wrong}", cards, *buttons]

    parts.task.change(
        lambda task: [gr.update(visible=task == "locate"), gr.update(visible=task == "ask")],
        parts.task,
        [parts.phrases, parts.text],
        **HIDDEN,
    )
    running = parts.run.click(
        run,
        [parts.files, parts.task, parts.phrases, parts.text],
        [parts.status, parts.cards, *parts.downloads],
        concurrency_id="model",
        **HIDDEN,
    )
    parts.stop.click(None, cancels=[running], api_visibility="private")

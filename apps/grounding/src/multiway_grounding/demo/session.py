"""Pictures of visitors, read by one pipeline for all."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelLoader, named_as_uploaded
from multiway_core.errors import InputError

from multiway_grounding.demo.view import picture_value, result_value
from multiway_grounding.request import Request

if TYPE_CHECKING:
    from multiway_vision_language.pictures import Picture
    from multiway_vision_language.result import Grounding

MAX_PHRASES = 50
_SECONDS_BETWEEN_UPDATES = 0.15


class DemoGrounder:
    """Asks about pictures with one pipeline for all visitors, and makes the values of the viewer."""

    def __init__(self, loader: ModelLoader) -> None:
        self.pipeline = loader()

    def open(self, path: Path) -> Picture:
        """The picture of an upload, under the name that its owner knows. Raises InputError."""
        from multiway_vision_language.pictures import open_picture

        with named_as_uploaded(path):
            return replace(open_picture(path), source=path.name)

    def preview(self, path: Path) -> dict[str, Any]:
        """The viewer's value of a picture about which nothing was asked."""
        picture = self.open(path)
        summary = f"{picture.width} x {picture.height} pixels"
        return picture_value(picture, self.pipeline.grid.size, summary=summary)

    def ground(self, path: Path, request: Request) -> tuple[Picture, Grounding]:
        """The picture and the whole result. Raises InputError."""
        if len(request.phrases) > MAX_PHRASES:
            raise InputError(
                f"{len(request.phrases)} phrases; the demo looks for at most {MAX_PHRASES} at once"
            )
        picture = self.open(path)
        return picture, request.run(self.pipeline, picture)

    def stream(
        self, path: Path, request: Request
    ) -> Iterator[tuple[dict[str, Any], Picture | None, Grounding | None]]:
        """The viewer's values while text is written; the last one comes with picture and result."""
        if len(request.phrases) > MAX_PHRASES:
            raise InputError(
                f"{len(request.phrases)} phrases; the demo looks for at most {MAX_PHRASES} at once"
            )
        picture = self.open(path)
        before = picture_value(picture, self.pipeline.grid.size, summary="Looking ...")
        yield before, None, None
        started = updated = time.monotonic()
        result: Grounding | None = None
        for result, whole in while_running(lambda report: request.run(self.pipeline, picture, report)):
            if not whole and time.monotonic() - updated >= _SECONDS_BETWEEN_UPDATES:
                updated = time.monotonic()
                value = result_value(before, result, task=request.task, summary="Writing ...", waiting=True)
                yield value, None, None
        assert result is not None
        summary = summary_of(result, time.monotonic() - started)
        value = result_value(before, result, task=request.task, summary=summary, note=note_of(result))
        yield value, picture, result


def summary_of(result: Grounding, seconds: float) -> str:
    """How many places there are, and what it took."""
    boxes = sum(len(entity.boxes) for entity in result.entities)
    absent = sum(not entity.boxes for entity in result.entities)
    parts = [f"{boxes} place{'' if boxes == 1 else 's'}"]
    if absent:
        parts.append(f"{absent} not present")
    return " · ".join([*parts, f"{seconds:.1f} s", Path(result.model).name])


def note_of(result: Grounding) -> str:
    """What stands behind a text that is not as it should be."""
    if result.truncated:
        return " (cut off at the length limit)"
    return "" if result.text else "The model had nothing to say."


def while_running(
    run: Callable[[Callable[[Grounding], None]], Grounding],
) -> Iterator[tuple[Grounding, bool]]:
    """Results as ``run`` reports them (False) and the one that it returns (True).

    ``run`` works in a thread of its own; when the caller stops asking, the next report ends it.
    """
    events: queue.Queue[tuple[Grounding, bool] | BaseException] = queue.Queue()
    stopped = threading.Event()

    def report(result: Grounding) -> None:
        if stopped.is_set():
            raise _Stopped
        events.put((result, False))

    def work() -> None:
        try:
            events.put((run(report), True))
        except BaseException as error:
            events.put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            event = events.get()
            if isinstance(event, BaseException):
                raise event
            yield event
            if event[1]:
                return
    finally:
        stopped.set()
        thread.join()


class _Stopped(Exception):
    """Nobody waits for the result any more."""

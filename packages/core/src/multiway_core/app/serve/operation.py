"""What an app can be asked for: one function gives an HTTP route, its page in the documentation, and an MCP tool.

    def ocr(pipeline: OcrPipeline, file: InputFile, task: Literal["ocr", "markdown"] = "ocr") -> Document:
        \"\"\"Read the text of a page.\"\"\"

    SERVICE = Service(operations=(Operation("/v1/ocr", ocr, Document, schema="multiway.ocr/1"),))

The parameters behind the first are the request's fields (``InputFile``: a file; see :data:`typing.Annotated` and
pydantic's ``Field`` for their limits). A request with files is a form, one without is JSON.
"""

from __future__ import annotations

import inspect
import re
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from multiway_core.errors import InputError

if TYPE_CHECKING:
    from fastapi import APIRouter

    from multiway_core.app.serve.service import Endpoint

_MAX_NAME = 100


class _File:
    """Marks a parameter that is the path of a file of the caller."""


InputFile = Annotated[Path, _File]
OptionalFile = Annotated[Path | None, _File]


@dataclass(frozen=True)
class Content:
    """A result that is not JSON."""

    data: bytes
    media_type: str


@dataclass(frozen=True)
class Streamed:
    """Yielded first by an operation whose further items are the bytes of the response, sent as they come."""

    media_type: str


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        path: of its route.
        function: takes the loaded model first. It returns the result (JSON-ready, or with ``to_json()``, or
            :class:`Content`), or yields progress and the result last, or :class:`Streamed` and bytes. Between two
            items it is ended when the client leaves. Its first paragraph of documentation is for users.
        result: the form of a JSON result: a dataclass or ``TypedDict``, or a union of some.
        schema: what stands under ``schema`` in a JSON result.
        media_types: of a result that is not JSON.
    """

    path: str
    function: Callable[..., Any]
    result: Any = None
    schema: str | None = None
    media_types: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the MCP tool, and in the documentation."""
        return self.function.__name__

    @property
    def summary(self) -> str:
        """What it does."""
        return " ".join((inspect.getdoc(self.function) or "").partition("\n\n")[0].split())

    def parameters(self) -> list[inspect.Parameter]:
        """The request's fields with their evaluated annotations."""
        hints = typing.get_type_hints(self.function, include_extras=True)
        found = list(inspect.signature(self.function).parameters.values())[1:]
        return [item.replace(annotation=hints[item.name]) for item in found]

    def files(self) -> frozenset[str]:
        """Names of the fields that are files."""
        return frozenset(item.name for item in self.parameters() if is_file(item.annotation))


@dataclass(frozen=True)
class Service:
    """What an app serves.

    Attributes:
        operations: run one at a time on the model, as routes and as tools for assistants.
        tools: likewise, but without a route.
        routes: adds routes that no function describes, such as those of an engine that runs requests side by side.
        prepare: turns the loaded pipeline into what the operations get; called in a thread.
        close: ends what ``prepare`` began.
        pending: how many requests run or wait there.
    """

    operations: tuple[Operation, ...] = ()
    tools: tuple[Operation, ...] = ()
    routes: Callable[[APIRouter, Endpoint], None] | None = None
    prepare: Callable[[Any], Any] | None = None
    close: Callable[[Any], object] | None = None
    pending: Callable[[Any], int] | None = None


@dataclass(frozen=True)
class Upload:
    """A file that came with a request."""

    name: str
    data: bytes


def is_file(annotation: Any) -> bool:
    """Whether a parameter of this annotation is a file."""
    return _File in getattr(annotation, "__metadata__", ())


def items_of(operation: Operation, model: Any, arguments: Mapping[str, Any]) -> Iterator[Any]:
    """What the operation gives for these arguments, uploads being files in a folder of their own while it runs."""
    with tempfile.TemporaryDirectory(prefix="multiway-") as folder:
        given = {
            name: _written(value, Path(folder, name)) if isinstance(value, Upload) else value
            for name, value in arguments.items()
        }
        places = [f"{path.parent}/" for path in given.values() if isinstance(path, Path)]
        try:
            result = operation.function(model, **given)
            for item in result if inspect.isgenerator(result) else (result,):
                yield _without(places, _json_ready(item))
        except InputError as error:
            raise InputError(_without(places, str(error))) from error


def _written(upload: Upload, folder: Path) -> Path:
    folder.mkdir()
    name = (
        re.sub(r"[^\w. -]", "_", Path(upload.name.replace("\\", "/")).name)[-_MAX_NAME:].lstrip(".") or "file"
    )
    path = folder / name
    path.write_bytes(upload.data)
    return path


def _json_ready(value: Any) -> Any:
    return value.to_json() if hasattr(value, "to_json") else value


def _without(places: list[str], value: Any) -> Any:
    """Folders of this machine do not belong in answers: the file's name is what the caller knows."""
    if isinstance(value, dict) and isinstance(value.get("source"), str):
        return {**value, "source": _without(places, value["source"])}
    if isinstance(value, str):
        for place in places:
            value = value.replace(place, "")
    return value

"""The server: questions to texts that come with the request, or to the files or the index that is served."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from multiway_core.app.serve.operation import Operation, Service
from multiway_core.errors import InputError
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from multiway_text.question_answering.pipeline import Collection, QuestionAnsweringPipeline

SERVED_VARIABLE = "MULTIWAY_QUESTION_ANSWERING_IN"
"""What is served: files and folders (several behind each other as in PATH), or one index of multiway-search."""
MAX_CHARACTERS = 1_000_000
"""Of all texts of a request."""


class Text(BaseModel):
    """A text under a name of the caller's."""

    id: Annotated[str, Field(min_length=1, max_length=500)]
    text: Annotated[str, Field(max_length=MAX_CHARACTERS)]


class Found(TypedDict):
    """A span: characters [start, end) of ``place`` of the document ``source``, and of the passage that was read."""

    text: str
    probability: float
    margin: float
    source: str
    place: str
    start: int
    end: int
    passage: str
    passage_start: int
    passage_end: int
    retrieval: float | None


class AnswersResult(TypedDict):
    """The likeliest answers, best first; ``answered``: whether the best is likelier than ``threshold``."""

    schema: str
    question: str
    answered: bool
    probability: float
    threshold: float
    passages: int
    read: int
    seconds: float
    notes: list[str]
    answers: list[Found]


@dataclass
class Served:
    """A pipeline with the collection that it serves, if one is named; ``opened`` closes it."""

    pipeline: QuestionAnsweringPipeline
    collection: Collection | None
    opened: ExitStack


def answer_question(
    served: Served,
    question: Annotated[str, Field(max_length=2000)],
    texts: Annotated[list[Text], Field(max_length=256)] | None = None,
    top: Annotated[int, Field(ge=1, le=20)] = 3,
    passages: Annotated[int, Field(ge=1, le=100)] = 8,
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5,
    path: str | None = None,
) -> dict[str, Any]:
    """Find the words that answer a question in texts of the request or of the server, or say that none do."""
    asking: dict[str, Any] = {"top": top, "passages": passages, "threshold": threshold, "path": path}
    if texts:
        if (size := sum(len(one.text) for one in texts)) > MAX_CHARACTERS:
            raise InputError(f"the texts have {size:,} characters together, at most {MAX_CHARACTERS:,}")
        with served.pipeline.texts({one.id: one.text for one in texts}) as collection:
            return served.pipeline.ask(collection, question, **asking).to_json()
    if served.collection is None:
        raise InputError(f"send texts with the question; this server was started without {SERVED_VARIABLE}")
    return served.pipeline.ask(served.collection, question, **asking).to_json()


def opened(pipeline: QuestionAnsweringPipeline) -> Served:
    """With what ``SERVED_VARIABLE`` names, brought up to date. Raises InputError, OutputError."""
    stack = ExitStack()
    named = [path for path in os.environ.get(SERVED_VARIABLE, "").split(os.pathsep) if path]
    return Served(pipeline, stack.enter_context(pipeline.open(named)) if named else None, stack)


SERVICE = Service(
    operations=(
        Operation("/v1/answer", answer_question, AnswersResult, schema="multiway.question-answering/1"),
    ),
    prepare=opened,
    close=lambda served: served.opened.close(),
)

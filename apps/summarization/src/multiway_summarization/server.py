"""The operations behind HTTP and MCP: a text in, a title, a summary or a question out."""

from __future__ import annotations

from typing import Annotated, Any

from multiway_core.app.serve.operation import Operation, Service
from multiway_text.s2s_ft.result import SCHEMA, Question, Summary, Title
from pydantic import Field

from multiway_summarization.options import DecodingOptions

Text = Annotated[str, Field(min_length=1, max_length=200_000)]


def title(pipeline: Any, text: Text, language: Annotated[str, Field(max_length=20)] = "") -> dict[str, Any]:
    """Write a title for a text, in ``language`` where the model has several; a long text's windows have titles too."""
    from multiway_summarization.models import title_writer

    return title_writer(pipeline, DecodingOptions(), language or None)([text])[0].to_json()


def summarize(pipeline: Any, text: Text, sentences: Annotated[int, Field(ge=1, le=50)] = 3) -> dict[str, Any]:
    """Pick the sentences of a text that tell most of its title, which is generated."""
    return pipeline.summarize(text, sentences).to_json()


def ask(pipeline: Any, text: Text, answer: Annotated[str, Field(max_length=1000)] = "") -> dict[str, Any]:
    """Write a question about a passage that a part of the passage, the answer, answers."""
    return pipeline.ask(text, answer).to_json()


SERVICE = Service(
    operations=(
        Operation("/v1/title", title, Title, schema=SCHEMA),
        Operation("/v1/summarize", summarize, Summary, schema=SCHEMA),
        Operation("/v1/ask", ask, Question, schema=SCHEMA),
    )
)

"""The operation behind HTTP and MCP: a picture and words in, places and captions out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from multiway_core.app.serve.operation import InputFile, Operation, Service
from multiway_vision_language.result import Grounding
from pydantic import Field

from multiway_grounding.request import Request


def grounding(
    pipeline: Any,
    image: InputFile,
    task: Literal["caption", "locate", "ask"] = "caption",
    phrases: Annotated[list[str], Field(max_length=64)] = [],  # noqa: B006 (never changed)
    text: Annotated[str, Field(max_length=2000)] = "",
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5,
    detailed: bool = False,
) -> dict[str, Any]:
    """Find phrases in a picture (task locate), describe it with places (caption), or answer a question (ask).

    ``phrases`` are for locate, ``text`` is the question of ask. A phrase whose ``present`` is below ``threshold`` gets
    no box.
    """
    request = Request(task, detailed=detailed, phrases=tuple(phrases), threshold=threshold, text=text)
    return request.run(pipeline, image).to_json()


SERVICE = Service(
    operations=(Operation("/v1/grounding", grounding, Grounding, schema="multiway.grounding/1"),)
)

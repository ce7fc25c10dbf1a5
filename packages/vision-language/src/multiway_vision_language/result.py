"""Grounding results: a text with entities and their boxes, as JSON ``multiway.grounding/1``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from multiway_core.errors import InputError
from multiway_core.json_fields import finite, members, share, shown, typed, whole

SCHEMA = "multiway.grounding/1"

XYXY = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the source picture (upright, as EXIF says); right and bottom lie outside."""


@dataclass(frozen=True)
class Box:
    """One place in the picture.

    ``cells`` are the two location tokens, upper left and lower right, as row-major numbers of the location grid;
    ``confidence`` (0 to 1) is the model's own.
    """

    xyxy: XYXY
    cells: tuple[int, int]
    confidence: float


@dataclass(frozen=True)
class Entity:
    """A phrase, where it stands in the text (characters, end exclusive), and where in the picture.

    ``present`` (0 to 1): how likely the picture shows it at all. A phrase that is absent may have no boxes.
    """

    phrase: str
    span: tuple[int, int]
    boxes: tuple[Box, ...]
    present: float


@dataclass(frozen=True)
class LabelScore:
    """A label with its probability: of an answer to a question by itself, of classes and statements among all."""

    label: str
    probability: float


@dataclass(frozen=True)
class Grounding:
    """One picture read by one model; ``tagged`` is the model's own output with its tags, where there is one.

    ``truncated``: the model hit its length limit. ``problems``: what was malformed in the output, in words.
    """

    source: str
    model: str
    width: int
    height: int
    text: str
    entities: tuple[Entity, ...]
    tagged: str = ""
    truncated: bool = False
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data of schema ``multiway.grounding/1``."""
        return {
            "schema": SCHEMA,
            # Python keeps the bytes of a file name that are no UTF-8 as lone surrogates; JSON cannot.
            "source": self.source.encode("utf-8", "replace").decode("utf-8"),
            "model": self.model,
            "width": self.width,
            "height": self.height,
            "frame": "pixel",
            "text": self.text,
            "tagged": self.tagged,
            "truncated": self.truncated,
            "problems": list(self.problems),
            "entities": [
                {
                    "phrase": entity.phrase,
                    "span": list(entity.span),
                    "present": entity.present,
                    "boxes": [
                        {"xyxy": list(box.xyxy), "cells": list(box.cells), "confidence": box.confidence}
                        for box in entity.boxes
                    ],
                }
                for entity in self.entities
            ],
        }

    @classmethod
    def from_json(cls, data: object, *, where: str = "grounding") -> Grounding:
        """Read what :meth:`to_json` wrote.

        Strict: a missing or unknown key, a wrong type, a span outside the text, a box that is not four finite
        ordered numbers or a share outside 0..1 raises InputError that names the place
        (``grounding.entities[0].boxes[2].xyxy``).
        """
        names = ("schema", "source", "model", "width", "height", "frame", "text", "tagged", "truncated",
                 "problems", "entities")  # fmt: skip
        fields = members(data, names, where)
        for key, expected in (("schema", SCHEMA), ("frame", "pixel")):
            if fields[key] != expected:
                raise InputError(f"{where}.{key}: expected {expected!r}, got {shown(fields[key])}")
        text = typed(fields["text"], str, f"{where}.text")
        return cls(
            source=typed(fields["source"], str, f"{where}.source"),
            model=typed(fields["model"], str, f"{where}.model"),
            width=whole(fields["width"], f"{where}.width", minimum=1),
            height=whole(fields["height"], f"{where}.height", minimum=1),
            text=text,
            entities=tuple(
                _entity(entity, len(text), f"{where}.entities[{i}]")
                for i, entity in enumerate(typed(fields["entities"], list, f"{where}.entities"))
            ),
            tagged=typed(fields["tagged"], str, f"{where}.tagged"),
            truncated=typed(fields["truncated"], bool, f"{where}.truncated"),
            problems=tuple(
                typed(problem, str, f"{where}.problems[{i}]")
                for i, problem in enumerate(typed(fields["problems"], list, f"{where}.problems"))
            ),
        )


def _entity(data: object, text_length: int, where: str) -> Entity:
    fields = members(data, ("phrase", "span", "present", "boxes"), where)
    span = [whole(value, f"{where}.span") for value in typed(fields["span"], list, f"{where}.span")]
    if len(span) != 2 or not span[0] <= span[1] <= text_length:
        raise InputError(
            f"{where}.span: expected [start, end] inside a text of {text_length} characters, got {shown(span)}"
        )
    return Entity(
        phrase=typed(fields["phrase"], str, f"{where}.phrase"),
        span=(span[0], span[1]),
        boxes=tuple(
            _box(box, f"{where}.boxes[{i}]")
            for i, box in enumerate(typed(fields["boxes"], list, f"{where}.boxes"))
        ),
        present=share(fields["present"], f"{where}.present"),
    )


def _box(data: object, where: str) -> Box:
    fields = members(data, ("xyxy", "cells", "confidence"), where)
    xyxy = [finite(value, f"{where}.xyxy") for value in typed(fields["xyxy"], list, f"{where}.xyxy")]
    if len(xyxy) != 4 or xyxy[0] > xyxy[2] or xyxy[1] > xyxy[3]:
        raise InputError(
            f"{where}.xyxy: expected [x0, y0, x1, y1] with x0 <= x1 and y0 <= y1, got {shown(xyxy)}"
        )
    cells = [whole(value, f"{where}.cells") for value in typed(fields["cells"], list, f"{where}.cells")]
    if len(cells) != 2:
        raise InputError(f"{where}.cells: expected [upper left, lower right], got {shown(cells)}")
    return Box(
        xyxy=(xyxy[0], xyxy[1], xyxy[2], xyxy[3]),
        cells=(cells[0], cells[1]),
        confidence=share(fields["confidence"], f"{where}.confidence"),
    )

"""What grounding gives: a text with entities that stand somewhere in a picture, as JSON ``multiway.grounding/1``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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

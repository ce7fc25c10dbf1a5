"""The values of the viewer component, and its files (multiway_grounding/viewer)."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

from multiway_vision_language.overlay import annotated, colour

if TYPE_CHECKING:
    from multiway_vision_language.pictures import Picture
    from multiway_vision_language.result import Entity, Grounding
    from PIL import Image

_SHOWN_SIDE = 1600  # pixels of the picture that the browser gets
_THUMBNAIL_SIDE = 480


def empty_value() -> dict[str, Any]:
    """The value of a viewer without a picture."""
    return {"image": None, "width": 1, "height": 1, "grid": 1, "entities": [], "segments": []}


def picture_value(picture: Picture, grid: int, *, summary: str = "", note: str = "") -> dict[str, Any]:
    """A picture about which nothing was asked yet; ``grid`` is the number of location cells a side."""
    return {
        **empty_value(),
        "image": data_uri(picture.image),
        "width": picture.width,
        "height": picture.height,
        "grid": grid,
        "summary": summary,
        "note": note,
    }


def result_value(
    before: dict[str, Any],
    result: Grounding,
    *,
    task: str,
    summary: str,
    note: str = "",
    waiting: bool = False,
) -> dict[str, Any]:
    """``before`` (a picture's value) with the result of a task; ``waiting``: one that is still being written."""
    return {
        **before,
        "task": task,
        "entities": [_entity(entity, index, waiting) for index, entity in enumerate(result.entities)],
        "segments": segments(result),
        "tagged": result.tagged,
        "summary": summary,
        "note": note,
    }


def card(picture: Picture, result: Grounding) -> dict[str, Any]:
    """One picture of many: a small annotated copy, its name, its words and how sure the model was."""
    confidences = [box.confidence for entity in result.entities for box in entity.boxes]
    mean = f", mean confidence {sum(confidences) / len(confidences):.2f}" if confidences else ""
    return {
        "name": result.source,
        "image": data_uri(annotated(picture, result), _THUMBNAIL_SIDE),
        "segments": [
            {"text": piece["text"], "colour": None if piece["entity"] is None else colour(piece["entity"])}
            for piece in segments(result)
        ],
        "detail": f"{len(confidences)} place{'' if len(confidences) == 1 else 's'}{mean}",
        "error": None,
    }


def error_card(name: str, error: str) -> dict[str, Any]:
    """A picture that could not be read."""
    return {"name": name, "image": None, "segments": [], "detail": "", "error": error}


def data_uri(image: Image.Image, side: int = _SHOWN_SIDE) -> str:
    """The picture, reduced for the screen, inside a data URI: no file of the server is ever named."""
    shown = image.copy()
    shown.thumbnail((side, side))
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _entity(entity: Entity, index: int, waiting: bool) -> dict[str, Any]:
    return {
        "phrase": entity.phrase,
        "colour": colour(index),
        "present": entity.present,
        "waiting": waiting,
        "boxes": [
            {
                "xyxy": [round(value, 2) for value in box.xyxy],
                "cells": list(box.cells),
                "confidence": box.confidence,
            }
            for box in entity.boxes
        ],
    }


def segments(result: Grounding) -> list[dict[str, Any]]:
    """The text in pieces, each of an entity or of none: the browser counts characters otherwise than we do."""
    pieces: list[dict[str, Any]] = []
    place = 0
    spans = sorted((entity.span, index) for index, entity in enumerate(result.entities))
    for (start, end), index in spans:
        if start < place or start == end:
            continue
        pieces.append({"text": result.text[place:start], "entity": None})
        pieces.append({"text": result.text[start:end], "entity": index})
        place = end
    pieces.append({"text": result.text[place:], "entity": None})
    return [piece for piece in pieces if piece["text"]]

"""Generated text -> entities with boxes in pixels and confidences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from multiway_vision_language.grounded_text import GroundedEntity
from multiway_vision_language.kosmos2.config import TokenConfig
from multiway_vision_language.kosmos2.generation import GeneratedSequence
from multiway_vision_language.kosmos2.processor import Kosmos2Processor
from multiway_vision_language.pictures import Picture
from multiway_vision_language.prompts import Prompt
from multiway_vision_language.result import Box, Entity


@dataclass(frozen=True)
class Answer:
    """Parsed output behind a prompt. ``own`` says of each entity whether the model found it, not the prompt."""

    tagged: str
    text: str
    entities: tuple[Entity, ...]
    own: tuple[bool, ...]
    problems: tuple[str, ...]


def read_answer(
    processor: Kosmos2Processor,
    picture: Picture,
    prompt: Prompt,
    ids: Sequence[int],
    written: GeneratedSequence | None = None,
) -> Answer:
    """Parse the prompt's opening with ``ids`` behind it; without ``written`` all confidences are 1.

    A box of the prompt has confidence 1; one of the model sqrt(p(upper left) p(lower right)), each among the cells that
    the grammar allowed. ``present`` of all entities is 1.
    """
    opening = prompt.tagged[prompt.opening :]
    tagged = opening + processor.decode(ids)
    parsed = processor.parse(tagged)
    given = opening.count("<patch_index_")  # these location tags are the prompt's
    entities = tuple(
        Entity(entity.phrase, entity.span, _boxes(picture, entity, given, written), 1.0)
        for entity in parsed.entities
    )
    problems = parsed.problems
    if written is not None and written.stop_reason in ("stopped:no_token", "stopped:loop"):
        problems = (*problems, "the model repeated itself and was stopped")
    own = tuple(entity.locations[0] >= given for entity in parsed.entities)
    return Answer(tagged, parsed.text, entities, own, problems)


def close_truncated_boxes(ids: Sequence[int], tokens: TokenConfig) -> list[int]:
    """The ids, with an ``<object>`` that the length limit cut closed behind its last whole box, or left out."""
    kept = list(ids)
    if tokens.object not in kept:
        return kept
    opened = len(kept) - 1 - kept[::-1].index(tokens.object)
    if tokens.object_end in kept[opened:]:
        return kept
    boxes = (len(kept) - opened) // 3  # <object> or a delimiter, and two locations
    return [*kept[: opened + 3 * boxes], tokens.object_end] if boxes else kept[:opened]


def _boxes(
    picture: Picture, entity: GroundedEntity, given: int, written: GeneratedSequence | None
) -> tuple[Box, ...]:
    boxes: dict[tuple[int, int], Box] = {}  # a box that is written twice says nothing more
    for cells, normal, location in zip(entity.cells, entity.boxes, entity.locations, strict=True):
        left, top, right, bottom = normal
        xyxy = (left * picture.width, top * picture.height, right * picture.width, bottom * picture.height)
        confidence = 1.0
        if written is not None and location >= given:
            upper_left, lower_right = written.locations[location - given : location - given + 2]
            confidence = math.sqrt(float(upper_left[cells[0]]) * float(lower_right[cells[1]]))
        boxes.setdefault(cells, Box(xyxy, cells, confidence))
    return tuple(boxes.values())

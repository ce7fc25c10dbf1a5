"""Flickr30k Entities (Plummer et al. 2015) as MDETR prepared it: ``final_flickr_separateGT_{val,test}.json``.

The phrases to find are the spans ``tokens_positive_eval`` of each caption. Their boxes and categories come from
Flickr30k Entities' own ``Annotations/ID.xml`` and ``Sentences/ID.txt``, as in the published evaluation: a phrase is
looked up by its text, and one that occurs twice in a sentence gets the first occurrence's. Without these files the
boxes are those annotations of the JSON file that have the same span, and there are no categories.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multiway_core.data_files import get, get_items, number, read_json, read_text, shown
from multiway_core.errors import DataError

from multiway_vision_language.datasets.files import (
    coco_box,
    find_picture,
    id_of,
    missing_picture,
    read_xml,
    size_fields,
    unique,
)
from multiway_vision_language.datasets.samples import GroundingSample, TruePhrase
from multiway_vision_language.result import XYXY

# [/EN#283585/people/clothing A young girl]
_PHRASE = re.compile(r"\[/EN#([^/\s\]]+)((?:/[^/\s\]]+)*) ([^\]]*)\]")
Span = tuple[int, int]


@dataclass(frozen=True)
class EntityPhrase:
    """A marked phrase of a sentence of Flickr30k Entities."""

    text: str
    entity: str
    categories: tuple[str, ...]


def read_flickr30k(
    annotations: Path, images: Path, *, entities: Path | None = None, skip_missing: bool = False
) -> Iterator[GroundingSample]:
    """One sample a caption that has phrases with boxes, in the file's order.

    Args:
        annotations: MDETR's JSON file.
        images: folder of ``flickr30k-images``.
        entities: folder of Flickr30k Entities with ``Annotations`` and ``Sentences``, for the published protocol.
        skip_missing: leave out captions whose picture is not there.

    Raises DataError: a file is not of its layout, a phrase is not found, or a picture is not there.
    """
    data = read_json(annotations)
    boxes: dict[str, list[tuple[Span, XYXY]]] = {}
    for annotation, where in get_items(data, "annotations", str(annotations)):
        box = coco_box(annotation, where)
        spans = _spans(get(annotation, "tokens_positive", list, where), f"{where}.tokens_positive")
        boxes.setdefault(id_of(annotation, "image_id", where), []).extend((span, box) for span in spans)
    for image, where in get_items(data, "images", str(annotations)):
        name, caption = get(image, "file_name", str, where), get(image, "caption", str, where)
        path = find_picture(images, name, where)
        if path is None:
            if skip_missing:
                continue
            raise missing_picture(images, name, where)
        known = boxes.get(id_of(image, "id", where), [])
        spans = _eval_spans(image, caption, where)
        if entities is None:
            phrases = [
                TruePhrase(caption[start:end], (start, end), found)
                for start, end in spans
                if (found := unique(box for span, box in known if span == (start, end)))
            ]
        else:
            phrases = list(_of_entities(image, caption, spans, entities, where))
        if phrases:
            identity = f"{id_of(image, 'original_img_id', where)}_{id_of(image, 'sentence_id', where)}"
            yield GroundingSample(
                identity,
                path,
                *size_fields(image, where),
                caption,
                tuple(phrases),
                unique(box for _, box in known),
            )


def parse_sentence(line: str) -> tuple[str, list[EntityPhrase]]:
    """A line of ``Sentences/ID.txt``: the plain sentence and its marked phrases."""
    phrases = [
        EntityPhrase(" ".join(text.split()), entity, tuple(filter(None, categories.split("/"))))
        for entity, categories, text in _PHRASE.findall(line)
    ]
    return " ".join(_PHRASE.sub(r"\3", line).split()), phrases


def read_entity_boxes(path: Path) -> dict[str, list[XYXY]]:
    """``Annotations/ID.xml``: the boxes of every entity that has any, as they are written."""
    boxes: dict[str, list[XYXY]] = {}
    for place, item in enumerate(read_xml(path).findall("object")):
        where = f"{path}: object {place}"
        box = item.find("bndbox")
        if box is not None:
            left, top, right, bottom = (
                number(box.findtext(key), f"{where}.{key}") for key in ("xmin", "ymin", "xmax", "ymax")
            )
            for name in item.findall("name"):
                boxes.setdefault(name.text or "", []).append((left, top, right, bottom))
    return boxes


def _of_entities(
    image: Any, caption: str, spans: list[Span], entities: Path, where: str
) -> Iterator[TruePhrase]:
    identity, sentence = id_of(image, "original_img_id", where), id_of(image, "sentence_id", where)
    boxes = read_entity_boxes(entities / "Annotations" / f"{identity}.xml")
    path = entities / "Sentences" / f"{identity}.txt"
    lines = [line for line in read_text(path).split("\n") if line.strip()]
    if not sentence.isdecimal() or int(sentence) >= len(lines):
        raise DataError(f"{path}: no sentence {sentence}, which {where} names; it has {len(lines)}")
    _, marked = parse_sentence(lines[int(sentence)])
    for start, end in spans:
        text = caption[start:end]
        found = next((phrase for phrase in marked if phrase.text == text and phrase.entity in boxes), None)
        if found is None:
            raise DataError(
                f"{path}: no phrase {text!r} with a box in sentence {sentence}, which {where} names"
            )
        yield TruePhrase(text, (start, end), tuple(boxes[found.entity]), found.categories)


def _eval_spans(image: Any, caption: str, where: str) -> list[Span]:
    """The first span of each phrase: the published evaluation takes no other."""
    spans = []
    for place, item in enumerate(get(image, "tokens_positive_eval", list, where)):
        here = f"{where}.tokens_positive_eval[{place}]"
        found = _spans(item, here)
        if not found or not 0 <= found[0][0] < found[0][1] <= len(caption):
            raise DataError(f"{here}: expected [[start, end]] inside the caption, got {shown(item)}")
        spans.append(found[0])
    return spans


def _spans(value: Any, where: str) -> list[Span]:
    if not isinstance(value, list):
        raise DataError(f"{where}: expected a list, got {shown(value)}")
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(item) is int for item in pair)):
            raise DataError(f"{where}: expected [start, end], got {shown(pair)}")
    return [(start, end) for start, end in value]

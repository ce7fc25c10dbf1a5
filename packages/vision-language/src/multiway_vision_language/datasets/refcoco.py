"""RefCOCO, RefCOCO+ and RefCOCOg as MDETR prepared them: ``finetune_refcoco{,+,g}_{val,testA,testB,test}.json``.

Each ``images`` record is one expression (its ``caption``) about one picture; its ``annotations`` are the object's
boxes. Pictures are COCO's of 2014, in one folder or in ``train2014/`` and ``val2014/``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from multiway_core.data_files import get, get_items, read_json
from multiway_core.errors import DataError

from multiway_vision_language.datasets.files import (
    coco_box,
    find_picture,
    id_of,
    missing_picture,
    size_fields,
    unique,
)
from multiway_vision_language.datasets.samples import GroundingSample, TruePhrase
from multiway_vision_language.result import XYXY


def read_refcoco(annotations: Path, images: Path, *, skip_missing: bool = False) -> Iterator[GroundingSample]:
    """One sample an expression, in the file's order; its one phrase is the whole caption.

    ``objects`` are all boxes that any expression of the file has in the same picture.

    Raises DataError: the file is not of this layout, an expression without a box, or (unless ``skip_missing``) a
    picture that is not there.
    """
    data = read_json(annotations)
    boxes: dict[str, list[XYXY]] = {}
    for annotation, where in get_items(data, "annotations", str(annotations)):
        boxes.setdefault(id_of(annotation, "image_id", where), []).append(coco_box(annotation, where))
    of_picture: dict[str, list[XYXY]] = {}
    for image, where in get_items(data, "images", str(annotations)):
        found = boxes.get(id_of(image, "id", where), [])
        of_picture.setdefault(get(image, "file_name", str, where), []).extend(found)
    for image, where in get_items(data, "images", str(annotations)):
        name, number = image["file_name"], id_of(image, "id", where)
        caption = get(image, "caption", str, where)
        if number not in boxes:
            raise DataError(f"{where}: no annotation has image_id {number}")
        path = find_picture(images, name, where)
        if path is None:
            if skip_missing:
                continue
            raise missing_picture(images, name, where)
        phrase = TruePhrase(caption, (0, len(caption)), tuple(boxes[number]))
        yield GroundingSample(
            number, path, *size_fields(image, where), caption, (phrase,), unique(of_picture[name])
        )

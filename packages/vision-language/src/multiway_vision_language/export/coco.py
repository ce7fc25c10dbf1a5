"""COCO detection (Lin et al. 2014, "data format"): images, annotations and categories in one JSON file.

Beside COCO's own keys every annotation has ``score``, the box's confidence, so that its list is also what
``pycocotools``' ``loadRes`` takes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from multiway_vision_language.export.annotations import boxes_in, categories_of, category, file_name, merged
from multiway_vision_language.result import XYXY, Grounding


def to_coco(results: Sequence[Grounding]) -> str:
    """All results as one detection file; the ids of images, annotations and categories count from 1."""
    results = merged(results)
    categories = categories_of(results)
    annotations: list[dict[str, Any]] = []
    for image_id, result in enumerate(results, 1):
        for entity, box, xyxy in boxes_in(result):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": categories[category(entity.phrase)] + 1,
                    **bbox_fields(xyxy),
                    "score": box.confidence,
                }
            )
    return dumps(
        {
            "info": {"description": "multiway grounding"},
            "licenses": [],
            "images": [
                {
                    "id": i,
                    "file_name": file_name(result.source),
                    "width": result.width,
                    "height": result.height,
                }
                for i, result in enumerate(results, 1)
            ],
            "annotations": annotations,
            "categories": [
                {"id": number + 1, "name": phrase, "supercategory": "phrase"}
                for phrase, number in categories.items()
            ],
        }
    )


def bbox_fields(xyxy: XYXY) -> dict[str, Any]:
    """A box as COCO writes it: [left, top, width, height] in pixels, and its area."""
    left, top, right, bottom = xyxy
    width, height = right - left, bottom - top
    return {"bbox": [left, top, width, height], "area": width * height, "iscrowd": 0, "segmentation": []}


def dumps(data: Any) -> str:
    """JSON text that is UTF-8 as it stands."""
    return json.dumps(data, ensure_ascii=False, indent=1) + "\n"

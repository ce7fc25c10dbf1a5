"""A referring-expression file in the layout that MDETR gave RefCOCO: one ``images`` record an expression.

``multiway_vision_language.datasets.refcoco`` reads it, so that corrected results can serve as a data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from multiway_vision_language.export.annotations import boxes_in, file_name
from multiway_vision_language.export.coco import bbox_fields, dumps
from multiway_vision_language.result import Grounding


def to_referring(results: Sequence[Grounding]) -> str:
    """One record for each entity that has boxes: its phrase is the ``caption``, its boxes the annotations."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    originals: dict[str, int] = {}
    for result in results:
        original = originals.setdefault(result.source, len(originals) + 1)
        for entity in result.entities:
            found = [(box, xyxy) for owner, box, xyxy in boxes_in(result) if owner is entity]
            if not found:
                continue
            image_id = len(images) + 1
            images.append(
                {
                    "id": image_id,
                    "original_id": original,
                    "file_name": file_name(result.source),
                    "width": result.width,
                    "height": result.height,
                    "caption": entity.phrase,
                    "dataset_name": "multiway",
                }
            )
            for box, xyxy in found:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "original_id": original,
                        "category_id": 1,
                        **bbox_fields(xyxy),
                        "tokens_positive": [[0, len(entity.phrase)]],
                        "score": box.confidence,
                    }
                )
    return dumps(
        {
            "info": {"description": "multiway grounding"},
            "licenses": [],
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": "object", "supercategory": "object"}],
        }
    )

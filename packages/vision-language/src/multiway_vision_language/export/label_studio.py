"""Label Studio: ``tasks.json`` to import, whose rectangles a person can correct, and the labelling config.

Paths become addresses of Label Studio's local file storage (``/data/local-files/?d=PATH``; its root is set by
``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT``); addresses stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from multiway_vision_language.export.annotations import (
    boxes_in,
    categories_of,
    category,
    file_name,
    is_url,
    merged,
)
from multiway_vision_language.export.coco import dumps
from multiway_vision_language.export.voc import xml_legal
from multiway_vision_language.result import Grounding

_FROM, _TO = "label", "image"


def to_label_studio(results: Sequence[Grounding]) -> dict[str, str]:
    """``tasks.json`` (one task a picture, the boxes as an editable prediction) and ``labeling_config.xml``."""
    results = merged(results)
    labels = "".join(
        f"    <Label value={quoteattr(xml_legal(phrase))}/>\n" for phrase in categories_of(results)
    )
    config = (
        f'<View>\n  <Image name="{_TO}" value="$image"/>\n'
        f'  <RectangleLabels name="{_FROM}" toName="{_TO}">\n{labels}  </RectangleLabels>\n</View>\n'
    )
    return {
        "tasks.json": dumps([_task(number, result) for number, result in enumerate(results, 1)]),
        "labeling_config.xml": config,
    }


def _task(number: int, result: Grounding) -> dict[str, Any]:
    regions = []
    scores = []
    for index, (entity, box, (left, top, right, bottom)) in enumerate(boxes_in(result), 1):
        regions.append(
            {
                "id": f"{number}-{index}",
                "type": "rectanglelabels",
                "from_name": _FROM,
                "to_name": _TO,
                "original_width": result.width,
                "original_height": result.height,
                "image_rotation": 0,
                "value": {
                    "x": 100 * left / result.width,
                    "y": 100 * top / result.height,
                    "width": 100 * (right - left) / result.width,
                    "height": 100 * (bottom - top) / result.height,
                    "rotation": 0,
                    "rectanglelabels": [category(entity.phrase)],
                },
                "score": box.confidence,
            }
        )
        scores.append(box.confidence)
    source = file_name(result.source)
    address = source if is_url(source) else f"/data/local-files/?d={quote(source.lstrip('/'))}"
    prediction = {
        "model_version": result.model,
        "score": sum(scores) / len(scores) if scores else 0.0,
        "result": regions,
    }
    return {"id": number, "data": {"image": address, "source": source}, "predictions": [prediction]}

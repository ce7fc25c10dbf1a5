"""COCO json: images with the time of their label in microseconds as `t` (or in `timestamp`), boxes as annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.errors import DataError, InputError, os_reason
from multiway_core.files import write_text

from multiway_event_vision.labels.boxes import Boxes


def read_coco_boxes(path: Path | str) -> tuple[Boxes, list[str]]:
    """(boxes, names of the classes). Class ids are places in the list of categories, whose own ids may have gaps.

    An image without a time stands for its place among the images, one microsecond apart. Crowd annotations are left
    out. Raises DataError: unreadable, not this form, or boxes that cannot be.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {os_reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON ({error})") from error
    try:
        categories = data["categories"]
        place = {category["id"]: index for index, category in enumerate(categories)}
        times = {image["id"]: _time(image, index) for index, image in enumerate(data["images"])}
        rows: list[tuple[Any, ...]] = []
        for item in data["annotations"]:
            if item.get("iscrowd"):
                continue
            x, y, width, height = (float(number) for number in item["bbox"])
            score, track = float(item.get("score", 1.0)), int(item.get("track_id", -1))
            rows.append(
                (times[item["image_id"]], x, y, width, height, place[item["category_id"]], track, score)
            )
        names = [str(category["name"]) for category in categories]
        columns = list(zip(*rows, strict=True)) if rows else [np.zeros(0)] * 8
        return Boxes.from_arrays(*columns), names
    except InputError as error:
        raise DataError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{path}: not the form of COCO ({type(error).__name__}: {error}); "
            "expected images, annotations and categories"
        ) from error


def _time(image: dict[str, Any], index: int) -> int:
    return int(image.get("t", image.get("timestamp", index)))


def write_coco_boxes(path: Path | str, boxes: Boxes, names: list[str], size: tuple[int, int]) -> None:
    """Write `boxes` as COCO json: one image of `size` (width, height) for every time of a label.

    Raises InputError: a class without a name; OutputError.
    """
    if len(boxes) and int(boxes.class_id.max()) >= len(names):
        raise InputError(f"class {int(boxes.class_id.max())} has no name among {len(names)}")
    times, image_of_box = np.unique(boxes.t, return_inverse=True)
    width, height = size
    images = [
        {"id": i + 1, "t": int(t), "width": width, "height": height, "file_name": str(int(t))}
        for i, t in enumerate(times)
    ]
    annotations = [
        {
            "id": i + 1,
            "image_id": int(image_of_box[i]) + 1,
            "category_id": int(boxes.class_id[i]) + 1,
            "bbox": [float(boxes.x[i]), float(boxes.y[i]), float(boxes.width[i]), float(boxes.height[i])],
            "area": float(boxes.width[i]) * float(boxes.height[i]),
            "iscrowd": 0,
            "track_id": int(boxes.track_id[i]),
            "score": float(boxes.confidence[i]),
        }
        for i in range(len(boxes))
    ]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    write_text(
        Path(path), json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )

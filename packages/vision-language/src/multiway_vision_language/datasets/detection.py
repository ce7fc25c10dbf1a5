"""Detection sets: COCO instances, a YOLO folder, a folder of Pascal VOC XML files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from multiway_core.data_files import get, get_items, number, read_json, read_text, shown
from multiway_core.errors import DataError

from multiway_vision_language.datasets.files import (
    IMAGE_SUFFIXES,
    coco_box,
    find_picture,
    id_of,
    missing_picture,
    picture_size,
    pictures_in,
    read_xml,
    size_fields,
)
from multiway_vision_language.datasets.samples import DetectionSample, NamedObject
from multiway_vision_language.result import XYXY


def read_coco(annotations: Path, images: Path, *, skip_missing: bool = False) -> Iterator[DetectionSample]:
    """COCO's ``instances_*.json``: one sample a picture, also where it has no object.

    Raises DataError: the file is not of this layout, or (unless ``skip_missing``) a picture is not there.
    """
    data = read_json(annotations)
    names = {
        id_of(category, "id", where): get(category, "name", str, where)
        for category, where in get_items(data, "categories", str(annotations))
    }
    objects: dict[str, list[NamedObject]] = {}
    for annotation, where in get_items(data, "annotations", str(annotations)):
        category = id_of(annotation, "category_id", where)
        if category not in names:
            raise DataError(f"{where}.category_id: no category has the id {category}")
        found = NamedObject(names[category], coco_box(annotation, where), bool(annotation.get("iscrowd")))
        objects.setdefault(id_of(annotation, "image_id", where), []).append(found)
    for image, where in get_items(data, "images", str(annotations)):
        name, identity = get(image, "file_name", str, where), id_of(image, "id", where)
        path = find_picture(images, name, where)
        if path is not None:
            yield DetectionSample(name, path, *size_fields(image, where), tuple(objects.get(identity, ())))
        elif not skip_missing:
            raise missing_picture(images, name, where)


def read_yolo(folder: Path) -> Iterator[DetectionSample]:
    """A YOLO folder: pictures with a ``.txt`` file of the same name, beside them or in ``labels/``.

    Class names come from ``classes.txt`` (one a line) or from ``names`` in a YAML file. A picture without labels has
    no objects. Raises DataError: no names, no pictures, a bad row, or a damaged picture.
    """
    names = _yolo_names(folder)
    images = folder / "images" if (folder / "images").is_dir() else folder
    labels = folder / "labels" if (folder / "labels").is_dir() else images
    pictures = pictures_in(images)
    if not pictures:
        raise DataError(f"{images}: no pictures ({', '.join(IMAGE_SUFFIXES)})")
    for path in pictures:
        size = picture_size(path)
        label = labels / f"{path.stem}.txt"
        rows = read_text(label).split("\n") if label.is_file() else []
        objects = [
            _yolo_row(row.split(), names, *size, f"{label}:{line}")
            for line, row in enumerate(rows, 1)
            if row.strip()
        ]
        yield DetectionSample(path.name, path, *size, tuple(objects))


def read_voc(folder: Path) -> Iterator[DetectionSample]:
    """A folder of VOC files (or with ``Annotations/`` and ``JPEGImages/``), whose pixels count from 1.

    The size is the picture's own; files that state another one are not rare. Raises DataError: no XML file, one that
    is not of this layout, a picture that is not there or is damaged.
    """
    annotations = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
    images = folder / "JPEGImages" if (folder / "JPEGImages").is_dir() else folder
    files = sorted(annotations.glob("*.xml"))
    if not files:
        raise DataError(f"{annotations}: no .xml files")
    for file in files:
        root = read_xml(file)
        name = root.findtext("filename") or f"{file.stem}.jpg"
        path = find_picture(images, name, str(file))
        if path is None:
            raise missing_picture(images, name, str(file))
        objects = [
            _voc_object(item, f"{file}: object {place}") for place, item in enumerate(root.findall("object"))
        ]
        yield DetectionSample(path.name, path, *picture_size(path), tuple(objects))


def _voc_object(item: Any, where: str) -> NamedObject:
    left, top, right, bottom = (
        number(item.findtext(f"bndbox/{key}"), f"{where}.{key}") for key in ("xmin", "ymin", "xmax", "ymax")
    )
    name = item.findtext("name")
    if not name or left > right or top > bottom:
        raise DataError(f"{where}: expected a name and xmin <= xmax, ymin <= ymax")
    return NamedObject(name, (left - 1, top - 1, right, bottom))


def _yolo_names(folder: Path) -> dict[int, str]:
    plain = folder / "classes.txt"
    if plain.is_file():
        return dict(enumerate(read_text(plain).rstrip("\n").split("\n")))
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            data = yaml.safe_load(read_text(path))
        except (yaml.YAMLError, RecursionError) as error:
            raise DataError(f"{path}: not YAML: {error}") from error
        names = data.get("names") if isinstance(data, dict) else None
        if isinstance(names, list):
            names = dict(enumerate(names))
        if isinstance(names, dict):
            wrong = next(
                (item for item in names.items() if type(item[0]) is not int or type(item[1]) is not str), None
            )
            if wrong is not None:
                raise DataError(f"{path}: names: expected a number and a name, got {shown(wrong)}")
            return names
    raise DataError(f"{folder}: no class names; expected classes.txt, or a YAML file with names")


def _yolo_row(row: list[str], names: dict[int, str], width: int, height: int, where: str) -> NamedObject:
    if len(row) not in (5, 6):
        raise DataError(f"{where}: expected class cx cy width height, got {shown(' '.join(row))}")
    if not row[0].isdecimal() or int(row[0]) not in names:
        raise DataError(f"{where}: expected a class from 0 to {max(names)}, got {shown(row[0])}")
    cx, cy, w, h = (number(value, where) for value in row[1:5])
    box: XYXY = ((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
    if w < 0 or h < 0:
        raise DataError(f"{where}: expected a width and a height of at least 0, got {shown(' '.join(row))}")
    return NamedObject(names[int(row[0])], box)

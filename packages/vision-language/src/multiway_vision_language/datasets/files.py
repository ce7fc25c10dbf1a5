"""Pictures and boxes of data sets; whatever is wrong is a DataError that names the file and the place."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from multiway_core.data_files import get, number, shown
from multiway_core.errors import DataError, InputError
from multiway_core.pictures import open_header, upright_size

from multiway_vision_language.result import XYXY

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "MPO")
_SPLIT = re.compile(r"COCO_((?:train|val|test)20\d\d)_")


def find_picture(folder: Path, file_name: str, where: str) -> Path | None:
    """The picture of this name in the folder, or, for COCO's, in its folder for the split (``train2014``).

    None if it is not there. Raises DataError: the name leaves the folder.
    """
    name = PurePosixPath(file_name)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise DataError(f"{where}: expected a name inside the picture folder, got {shown(file_name)}")
    split = _SPLIT.match(name.name)
    folders = (folder, *([folder / split[1]] if split else []))
    try:
        return next((place / name for place in folders if (place / name).is_file()), None)
    except (OSError, ValueError) as error:  # longer than the file system allows, or with a null character
        raise DataError(f"{where}: {shown(file_name)} cannot be a file name") from error


def missing_picture(folder: Path, file_name: str, where: str) -> DataError:
    """What to raise for a picture that is named but not there."""
    return DataError(
        f"{where}: no picture {folder / file_name}; give the pictures' folder, or leave such out (skip missing)"
    )


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels as the picture is shown. Raises DataError: it is no picture, or damaged."""
    try:
        with open_header(path, str(path), _FORMATS) as image:
            return upright_size(image)
    except InputError as error:
        raise DataError(str(error)) from error


def size_fields(data: Any, where: str) -> tuple[int, int]:
    """The positive whole numbers ``width`` and ``height`` of an object."""
    width, height = get(data, "width", int, where), get(data, "height", int, where)
    if width < 1 or height < 1:
        raise DataError(f"{where}: expected width and height of at least 1, got {width} and {height}")
    return width, height


def coco_box(data: Any, where: str) -> XYXY:
    """``bbox`` as COCO writes it, [left, top, width, height]. Raises DataError: not four numbers, or a side < 0."""
    values = get(data, "bbox", list, where)
    if len(values) != 4:
        raise DataError(f"{where}.bbox: expected [left, top, width, height], got {shown(values)}")
    left, top, width, height = (number(value, f"{where}.bbox") for value in values)
    if width < 0 or height < 0:
        raise DataError(f"{where}.bbox: expected a width and a height of at least 0, got {shown(values)}")
    return left, top, left + width, top + height


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, by name."""
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )


def unique(boxes: Iterable[XYXY]) -> tuple[XYXY, ...]:
    """The boxes without repetitions, in their order."""
    return tuple(dict.fromkeys(boxes))


def text_id(value: Any, where: str) -> str:
    """An id, which data sets write as a whole number or as text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DataError(f"{where}: expected a whole number or a string, got {shown(value)}")
    try:
        return str(value)
    except ValueError as error:  # Python refuses to print whole numbers of more than 4,300 digits
        raise DataError(f"{where}: expected an id, got a number of thousands of digits") from error


def id_of(data: Any, key: str, where: str) -> str:
    """The id under a key of an object."""
    return text_id(get(data, key, object, where), f"{where}.{key}")


def read_xml(path: Path) -> ET.Element:
    """An XML file's root. Raises DataError: it cannot be read, or is no XML."""
    try:
        return ET.fromstring(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except ET.ParseError as error:
        raise DataError(f"{path}:{error.position[0]}: not XML: {error}") from error
    except (LookupError, ValueError) as error:
        raise DataError(f"{path}: not XML: {error}") from error

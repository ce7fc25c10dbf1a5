"""Scenes kept as a folder: ``scenes.json`` and a JPEG file each, so that a measurement is repeated on the same ones.

A folder holds several sets by name (such as pictures by known hands and by unknown ones), and the names from which
phrases of what is not there are made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.data_files import get, get_items, number, read_json, shown
from multiway_core.errors import DataError, InputError
from multiway_core.files import atomic_write, replace_folder, write_text
from PIL import Image

from multiway_vision_language.datasets.files import find_picture
from multiway_vision_language.pictures import open_picture
from multiway_vision_language.scenes.scene import Scene, Thing

SCHEMA = "multiway.scenes/1"
INDEX = "scenes.json"
QUALITY = 92


@dataclass(frozen=True)
class SceneFolder:
    """A folder's content. Pictures are opened only when :meth:`scenes` comes to them."""

    folder: Path
    names: tuple[str, ...]
    sets: tuple[str, ...]

    def scenes(self, name: str) -> Iterator[Scene]:
        """The scenes of one set, in order. Raises DataError: a field or a picture is wrong; names the place."""
        index = self.folder / INDEX
        sets = get(read_json(index), "sets", dict, str(index))
        for row, where in get_items(sets, name, f"{index}.sets"):
            yield _scene(row, self.folder, where)


def save_scenes(
    folder: Path, sets: Mapping[str, Iterable[Scene]], names: Sequence[str], *, overwrite: bool = False
) -> None:
    """Write scenes, set by set. JPEG loses a little, so measure on what :func:`open_scenes` gives.

    Raises OutputError: the folder cannot be written, or is not empty and ``overwrite`` is not given.
    """
    with replace_folder(folder, overwrite=overwrite) as temporary:
        rows: dict[str, list[dict[str, Any]]] = {}
        for place, (name, scenes) in enumerate(sets.items()):
            rows[name] = []
            for count, scene in enumerate(scenes):
                picture = f"{place}-{count:04d}.jpg"
                with atomic_write(temporary / picture) as file:
                    Image.fromarray(scene.picture).save(file, "JPEG", quality=QUALITY)
                rows[name].append(_row(picture, scene))
        data = {"schema": SCHEMA, "names": list(names), "sets": rows}
        write_text(temporary / INDEX, json.dumps(data, ensure_ascii=False, indent=1) + "\n")


def open_scenes(folder: Path) -> SceneFolder:
    """Open what :func:`save_scenes` wrote. Raises InputError: no such folder; DataError: not of this form."""
    index = Path(folder) / INDEX
    if not index.is_file():
        raise InputError(f"{folder}: no {INDEX} there; expected a folder of scenes")
    data = read_json(index)
    if get(data, "schema", str, str(index)) != SCHEMA:
        raise DataError(f"{index}.schema: expected {SCHEMA!r}, got {shown(data['schema'])}")
    names = [_text(name, where) for name, where in get_items(data, "names", str(index))]
    return SceneFolder(Path(folder), tuple(names), tuple(get(data, "sets", dict, str(index))))


def _row(picture: str, scene: Scene) -> dict[str, Any]:
    return {
        "picture": picture,
        "is_photo": scene.is_photo,
        "complete": scene.complete,
        "things": [
            {
                "name": thing.name,
                "box": [round(side, 5) for side in thing.box],
                "color": thing.color,
                "other_name": thing.other_name,
                "pasted": thing.pasted,
            }
            for thing in scene.things
        ],
    }


def _scene(row: Any, folder: Path, where: str) -> Scene:
    name = get(row, "picture", str, where)
    path = find_picture(folder, name, where)
    if path is None:
        raise DataError(f"{where}: no picture {folder / name}")
    try:
        picture = np.asarray(open_picture(path).image)
    except InputError as error:
        raise DataError(str(error)) from error
    return Scene(
        picture,
        tuple(_thing(thing, place) for thing, place in get_items(row, "things", where)),
        is_photo=get(row, "is_photo", bool, where),
        complete=get(row, "complete", bool, where),
    )


def _thing(data: Any, where: str) -> Thing:
    box = [number(side, f"{where}.box") for side in get(data, "box", list, where)]
    if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        raise DataError(f"{where}.box: expected left < right and top < bottom from 0 to 1, got {shown(box)}")
    return Thing(
        get(data, "name", str, where),
        (box[0], box[1], box[2], box[3]),
        _optional(data, "color", where),
        _optional(data, "other_name", where),
        get(data, "pasted", bool, where),
    )


def _optional(data: Any, key: str, where: str) -> str | None:
    value = get(data, key, object, where)
    return None if value is None else _text(value, f"{where}.{key}")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: expected a string, got {shown(value)}")
    return value

"""Scenes as a folder: they come back as they were, and a broken folder is told by its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from multiway_core.errors import DataError, InputError, OutputError
from multiway_vision_language.scenes.folder import INDEX, open_scenes, save_scenes
from multiway_vision_language.scenes.scene import Scene, Thing


def scene(shade: int) -> Scene:
    things = (
        Thing("cat", (0.125, 0.25, 0.5, 0.75), "red", "tabby", pasted=True),
        Thing("dog", (0.5, 0.5, 1.0, 1.0)),
    )
    return Scene(np.full((32, 32, 3), shade, np.uint8), things, is_photo=shade > 100, complete=shade < 100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_scenes(
        tmp_path / "s", {"seen": [scene(20), scene(40)], "unseen": [scene(200)]}, ["cat", "dog", "bus"]
    )
    return tmp_path / "s"


def test_round_trip(folder: Path) -> None:
    opened = open_scenes(folder)
    assert (opened.names, opened.sets) == (("cat", "dog", "bus"), ("seen", "unseen"))
    first, second = opened.scenes("seen")
    (third,) = opened.scenes("unseen")
    for read, written in ((first, scene(20)), (second, scene(40)), (third, scene(200))):
        assert read.things == written.things
        assert (read.is_photo, read.complete) == (written.is_photo, written.complete)
        assert np.abs(read.picture.astype(int) - written.picture).max() <= 2


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["schema"], "x", r"scenes\.json\.schema: expected 'multiway\.scenes/1'"),
        (["names", 1], 5, r"scenes\.json\.names\[1\]: expected a string, got 5"),
        (["sets", "seen", 0, "picture"], "none.jpg", r"sets\.seen\[0\]: no picture .*none\.jpg"),
        (["sets", "seen", 0, "picture"], "../x.jpg", r"sets\.seen\[0\]: expected a name inside"),
        (["sets", "seen", 0, "picture"], INDEX, r"scenes\.json.*not a picture|scenes\.json"),
        (["sets", "seen", 0, "things", 0, "box"], [0, 0, 0, 1], r"things\[0\]\.box: expected left < right"),
        (["sets", "seen", 0, "things", 1, "color"], 3, r"things\[1\]\.color: expected a string, got 3"),
    ],
)
def test_broken_folders(folder: Path, place: list[Any], value: Any, message: str) -> None:
    data = holder = json.loads((folder / INDEX).read_text())
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    (folder / INDEX).write_text(json.dumps(data))
    with pytest.raises(DataError, match=message):
        list(open_scenes(folder).scenes("seen"))


def test_what_is_no_folder_of_scenes(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match=r"no scenes\.json there; expected a folder of scenes"):
        open_scenes(tmp_path)
    with pytest.raises(OutputError, match="not empty"):
        save_scenes(folder, {}, [])
    with pytest.raises(DataError, match=r"missing key 'other'"):
        list(open_scenes(folder).scenes("other"))

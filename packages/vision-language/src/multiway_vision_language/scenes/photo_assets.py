"""Photographs and backgrounds of scenes, read from the folder that `assets.py` describes."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from multiway_core.errors import InputError
from PIL import Image

from multiway_vision_language.locations import NormalBox
from multiway_vision_language.scenes.object_names import name_within
from multiway_vision_language.scenes.photos import Photo
from multiway_vision_language.scenes.scene import Thing

Detector = Callable[[Image.Image], Sequence[tuple[str, NormalBox, float]]]
"""A picture -> names, boxes, scores."""

_LARGEST = 400
_LEAST_SCORE = 0.35
_LONGEST_CAPTION = 110
_SMALLEST_BACKGROUND = 200

# ImageNet's classes (by number) that are kinds of a COCO class: a box of the latter may have the finer name.
_KINDS: dict[str, Collection[int]] = {
    "dog": range(151, 269), "cat": range(281, 286), "bird": {*range(7, 25), *range(80, 101), *range(127, 147)},
    "elephant": {101, 385, 386}, "bear": range(294, 298), "horse": {339}, "sheep": {348, 349, 350},
    "cow": {345, 346, 347}, "car": {436, 468, 511, 609, 627, 656, 717, 751, 817}, "truck": {555, 569, 675, 864, 867},
    "bus": {654, 779, 874}, "airplane": {404, 895}, "motorcycle": {665, 670}, "bicycle": {444, 671},
    "train": {466, 547, 820}, "boat": {472, 510, 554, 576, 625, 628, 780, 814, 914}, "cup": {504, 968},
    "bottle": {440, 737, 898, 907}, "chair": {423, 559, 765}, "couch": {831}, "clock": {409, 892}, "umbrella": {879},
    "laptop": {620, 681}, "keyboard": {508}, "mouse": {673},
}  # fmt: skip
_KIND_OF = {number: name for name, numbers in _KINDS.items() for number in numbers}
_ANIMALS = {"dog", "cat", "bird", "elephant", "bear", "horse", "sheep", "cow"}


def class_names(folder: Path) -> list[str]:
    """COCO's classes in the order of the labels' numbers, one a line of ``photos/coco/classes.txt``. InputError."""
    path = folder / "photos" / "coco" / "classes.txt"
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the names of classes are not there ({error})") from error


def coco_photos(folder: Path) -> list[Photo]:
    """``photos/coco`` with its own boxes and captions. Raises :class:`InputError`."""
    root = folder / "photos" / "coco"
    try:
        names = class_names(folder)
        captions = json.loads((root / "captions.json").read_text(encoding="utf-8"))
        photos = []
        for path in sorted((root / "images").glob("*.jpg")):
            rows = [line.split() for line in (root / "labels" / f"{path.stem}.txt").read_text().splitlines()]
            things = []
            for kind, *numbers in rows:
                x, y, width, height = map(float, numbers)
                box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
                things.append(Thing(names[int(kind)], box))
            own = [_plain(text) for text in captions.get(path.stem, [])]
            kept = tuple(text for text in own if 5 < len(text) < _LONGEST_CAPTION and "<" not in text)
            with Image.open(path) as image:
                photos.append(Photo(_small(image), tuple(things), complete=True, captions=kept))
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"{root}: photographs with labels are not as described ({error})") from error
    return photos


def imagenet_photos(folder: Path, detect: Detector) -> list[Photo]:
    """One photograph of each ImageNet class, with the boxes that a detector finds. Raises :class:`InputError`."""
    root = folder / "photos" / "imagenet-sample-images"
    paths = sorted(root.glob("*.JPEG"))  # sorted as ImageNet's classes are
    if not paths:
        raise InputError(f"{root}: no .JPEG there")
    photos = []
    for number, path in enumerate(paths):
        with Image.open(path) as file:
            image = file.convert("RGB")
            title = path.stem.split("_", 1)[1].replace("_", " ").lower()
            kind = _KIND_OF.get(number)
            found = [(name, box) for name, box, score in detect(image) if score >= _LEAST_SCORE]
            if kind in _ANIMALS:  # the label knows better which animal it is
                found = [(name, box) for name, box in found if name == kind or name not in _ANIMALS]
            only = sum(name == kind for name, _ in found) == 1
            things = tuple(
                Thing(name, box, other_name=title if only and name == kind else None) for name, box in found
            )
            photos.append(Photo(_small(image), things, complete=False, label=_label(title)))
    return photos


def background_pictures(folder: Path) -> list[np.ndarray]:
    """Pictures of ``backgrounds``, at most 480 pixels wide, without those that show nothing; one of each file name."""
    found: dict[str, np.ndarray] = {}
    for path in sorted((folder / "backgrounds").rglob("*")):
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
            continue
        try:
            with Image.open(path) as file:
                if min(file.size) < _SMALLEST_BACKGROUND:
                    continue
                file.draft("RGB", (1000, 1000))
                image = file.convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        image.thumbnail((480, 480))
        pixels = np.array(image)
        if pixels.std() > 12:
            found[path.name] = pixels
    return list(found.values())


def _label(title: str) -> str | None:
    name = name_within(title)
    return name if name and title.endswith(name) else None


def _plain(text: str) -> str:
    return " ".join(text.split()).rstrip(".").lower()


def _small(image: Image.Image) -> np.ndarray:
    image = image.convert("RGB")
    image.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
    return np.array(image)

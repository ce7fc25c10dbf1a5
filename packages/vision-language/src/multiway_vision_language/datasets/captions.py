"""Captions: COCO's ``captions_*.json``, and the split files of Karpathy & Fei-Fei (``dataset_flickr30k.json``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from multiway_core.data_files import get, get_items, read_json
from multiway_core.errors import DataError

from multiway_vision_language.datasets.files import find_picture, id_of, missing_picture
from multiway_vision_language.datasets.samples import CaptionSample


def read_captions(
    annotations: Path, images: Path, *, split: str = "test", skip_missing: bool = False
) -> Iterator[CaptionSample]:
    """One sample a picture that has captions, in the file's order.

    ``split`` counts in files that hold several. Raises DataError: the file is of neither layout, has no picture of
    the split, or (unless ``skip_missing``) a picture is not there.
    """
    data = read_json(annotations)
    rows = (
        _coco(data, annotations)
        if isinstance(data, dict) and "annotations" in data
        else _karpathy(data, annotations, split)
    )
    for identity, file_name, captions, where in rows:
        path = find_picture(images, file_name, where)
        if path is not None:
            yield CaptionSample(identity, path, captions)
        elif not skip_missing:
            raise missing_picture(images, file_name, where)


_Row = tuple[str, str, tuple[str, ...], str]


def _coco(data: Any, path: Path) -> Iterator[_Row]:
    captions: dict[str, list[str]] = {}
    for annotation, where in get_items(data, "annotations", str(path)):
        captions.setdefault(id_of(annotation, "image_id", where), []).append(
            get(annotation, "caption", str, where)
        )
    for image, where in get_items(data, "images", str(path)):
        identity = id_of(image, "id", where)
        if identity in captions:
            yield identity, get(image, "file_name", str, where), tuple(captions[identity]), where


def _karpathy(data: Any, path: Path, split: str) -> Iterator[_Row]:
    splits = set()
    for image, where in get_items(data, "images", str(path)):
        splits.add(get(image, "split", str, where))
        if image["split"] == split:
            sentences = get_items(image, "sentences", where)
            captions = tuple(get(sentence, "raw", str, place) for sentence, place in sentences)
            name = get(image, "filename", str, where)
            folder = get(image, "filepath", str, where) if "filepath" in image else ""
            yield name, str(PurePosixPath(folder, name)), captions, where
    if split not in splits:
        raise DataError(
            f"{path}: no picture of the split {split!r}; it has {', '.join(sorted(splits)) or 'none'}"
        )

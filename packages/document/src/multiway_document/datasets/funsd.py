"""FUNSD (Jaume et al. 2019): scanned forms. ``annotations/NAME.json`` beside ``images/NAME.png``.

Each file lists the form's entities with their words. An entity may run over several lines, so its words are
put into lines by where they stand, and the lines into reading order, since entities come in none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from multiway_core.data_files import get, get_items, read_json

from multiway_document.datasets.files import has_files, image_of, points_to_box
from multiway_document.datasets.layout import in_reading_order, words_to_lines
from multiway_document.datasets.sample import OcrSample, sample_of_lines


def matches(folder: Path) -> bool:
    """Whether the folder is a part of FUNSD."""
    return has_files(folder / "annotations", "*.json") and (folder / "images").is_dir()


def read(folder: Path) -> Iterator[OcrSample]:
    """The forms of one part (``training_data`` or ``testing_data``)."""
    for path in sorted((folder / "annotations").glob("*.json")):
        lines = []
        for entity, where in get_items(read_json(path), "form", str(path)):
            words = []
            for word, place in get_items(entity, "words", where):
                text = get(word, "text", str, place).strip()
                box = points_to_box(get(word, "box", list, place), f"{place}.box")
                if text:
                    words.append((text, box))
            lines += words_to_lines(words)
        image = image_of(folder / "images" / path.stem, path)
        yield sample_of_lines(path.stem, image, in_reading_order(lines))

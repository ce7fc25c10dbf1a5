"""CORD (Park et al. 2019): photographed receipts. ``json/NAME.json`` beside ``image/NAME.png``.

``valid_line`` groups words by what they mean; ``row_id`` says which of them share a line on paper, so that
is what makes a line here. Words are quadrilaterals. Regions marked as illegible (``dontcare``) have no text
and are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multiway_core.data_files import get, get_items, read_json

from multiway_document.datasets.files import has_files, image_of, points_to_box
from multiway_document.datasets.layout import in_reading_order, words_to_line
from multiway_document.datasets.sample import OcrSample, sample_of_lines
from multiway_document.result import Box

_CORNERS = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")


def matches(folder: Path) -> bool:
    """Whether the folder is a part of CORD."""
    return has_files(folder / "json", "*.json") and (folder / "image").is_dir()


def read(folder: Path) -> Iterator[OcrSample]:
    """The receipts of one part (``train``, ``dev`` or ``test``)."""
    for path in sorted((folder / "json").glob("*.json")):
        rows: dict[Any, list[tuple[str, Box]]] = defaultdict(list)
        for line, where in get_items(read_json(path), "valid_line", str(path)):
            for word, place in get_items(line, "words", where):
                text = get(word, "text", str, place).strip()
                quad = get(word, "quad", dict, place)
                corners = [get(quad, corner, object, f"{place}.quad") for corner in _CORNERS]
                box = points_to_box(corners, f"{place}.quad")
                if text:
                    rows[str(word.get("row_id", where))].append((text, box))
        lines = [words_to_line(sorted(words, key=lambda word: word[1][0])) for words in rows.values()]
        yield sample_of_lines(
            path.stem, image_of(folder / "image" / path.stem, path), in_reading_order(lines)
        )

"""YOLO: one text file a picture with ``class cx cy width height`` in shares of the picture, and the class names.

The format has no place for confidences: trainers refuse a sixth column. Pictures go to ``images/`` beside
``labels/``, under the same relative names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from multiway_vision_language.export.annotations import boxes_in, categories_of, category, label_paths, merged
from multiway_vision_language.result import Grounding


def to_yolo(results: Sequence[Grounding]) -> dict[str, str]:
    """``labels/NAME.txt`` for every picture (empty where nothing was found), ``classes.txt``, ``data.yaml``."""
    results = merged(results)
    classes = categories_of(results)
    files = {
        "classes.txt": "".join(f"{' '.join(phrase.split())}\n" for phrase in classes),
        "data.yaml": "path: .\ntrain: images\nval: images\nnames:\n"
        + "".join(f"  {number}: {yaml_string(phrase)}\n" for phrase, number in classes.items()),
    }
    for path, result in zip(label_paths(results, ".txt"), results, strict=True):
        rows = []
        for entity, _, (left, top, right, bottom) in boxes_in(result):
            shares = (
                (left + right) / 2 / result.width,
                (top + bottom) / 2 / result.height,
                (right - left) / result.width,
                (bottom - top) / result.height,
            )
            rows.append(
                f"{classes[category(entity.phrase)]} {' '.join(f'{share:.6f}' for share in shares)}\n"
            )
        files[f"labels/{path}"] = "".join(rows)
    return files


def yaml_string(text: str) -> str:
    """A YAML double-quoted scalar; what is not printable is escaped by its number."""
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return (
        '"' + re.sub(r"[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]", _escape, text) + '"'
    )


def _escape(match: re.Match[str]) -> str:
    return f"\\U{ord(match[0]):08X}"

"""Pascal VOC (Everingham et al. 2010): one XML file a picture.

Coordinates are VOC's: whole pixels counted from 1, the last one included. So a box is rounded to the pixel
grid, and ``xmin - 1, ymin - 1, xmax, ymax`` are its edges again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from xml.sax.saxutils import escape

from multiway_vision_language.export.annotations import boxes_in, category, file_name, label_paths, merged
from multiway_vision_language.result import XYXY, Grounding

# What XML 1.0 cannot hold, not even escaped.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_voc(results: Sequence[Grounding]) -> dict[str, str]:
    """``NAME.xml`` for every picture; ``confidence`` follows each object's box."""
    results = merged(results)
    return {
        str(path): _annotation(result)
        for path, result in zip(label_paths(results, ".xml"), results, strict=True)
    }


def xml_legal(text: str) -> str:
    """Text with U+FFFD for every character that XML cannot hold."""
    return _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text)


def _text(text: str) -> str:
    # A bare carriage return would be read back as a line feed.
    return escape(xml_legal(text), {"\r": "&#13;"})


def _annotation(result: Grounding) -> str:
    source = file_name(result.source)
    objects = []
    for entity, box, xyxy in boxes_in(result):
        left, top, right, bottom = _pixels(xyxy, result.width, result.height)
        objects.append(
            f"  <object>\n    <name>{_text(category(entity.phrase))}</name>\n    <pose>Unspecified</pose>\n"
            "    <truncated>0</truncated>\n    <difficult>0</difficult>\n"
            f"    <bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox>\n"
            f"    <confidence>{box.confidence:.4f}</confidence>\n  </object>\n"
        )
    return (
        f"<annotation>\n  <filename>{_text(PurePosixPath(source).name or source)}</filename>\n"
        f"  <path>{_text(source)}</path>\n  <source><database>multiway grounding</database></source>\n"
        f"  <size><width>{result.width}</width><height>{result.height}</height><depth>3</depth></size>\n"
        f"  <segmented>0</segmented>\n{''.join(objects)}</annotation>\n"
    )


def _pixels(xyxy: XYXY, width: int, height: int) -> tuple[int, int, int, int]:
    left, top = min(round(xyxy[0]) + 1, width), min(round(xyxy[1]) + 1, height)
    return left, top, max(left, round(xyxy[2])), max(top, round(xyxy[3]))

"""A picture with what was found drawn on it: a colour an entity, its boxes, its phrase."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from multiway_vision_language.pictures import Picture
from multiway_vision_language.result import Entity, Grounding

PALETTE = (
    "#2563eb",
    "#dc2626",
    "#047857",
    "#b45309",
    "#7c3aed",
    "#db2777",
    "#0e7490",
    "#4d7c0f",
    "#713f12",
    "#475569",
)
"""Colours of entities in their order, again from the first after the last; white text is readable on each."""

_LABEL_CHARACTERS = 40
_FONT_NAMES = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf")


def colour(index: int) -> str:
    """The colour of the entity at ``index``, as ``#rrggbb``."""
    return PALETTE[index % len(PALETTE)]


def annotated(picture: Picture, result: Grounding) -> Image.Image:
    """A copy of the picture (at most as large as it was opened) with the boxes and phrases of ``result``."""
    image = picture.image.copy()
    scale_x, scale_y = image.width / picture.width, image.height / picture.height
    side = max(image.size)
    stroke = max(1, round(side / 300))
    font = _font(max(11, round(side / 45)))
    pen = ImageDraw.Draw(image, "RGBA")
    places: list[tuple[str, tuple[float, float, float, float], str]] = []
    for index, entity in enumerate(result.entities):
        for number, box in enumerate(entity.boxes):
            left, top, right, bottom = box.xyxy
            left, top = left * scale_x, top * scale_y
            # Pillow's right and bottom belong to the rectangle, ours lie outside.
            place = (left, top, max(right * scale_x - 1, left), max(bottom * scale_y - 1, top))
            pen.rectangle(place, outline=colour(index), width=stroke, fill=_translucent(colour(index)))
            places.append((colour(index), place, _label(entity, number)))
    for paint, place, label in places:  # after all boxes, so that no box crosses a label
        _draw_label(pen, image.size, place, label, font, paint)
    return image


def _label(entity: Entity, number: int) -> str:
    phrase = entity.phrase.strip()
    if len(phrase) > _LABEL_CHARACTERS:
        phrase = phrase[: _LABEL_CHARACTERS - 1] + "…"
    printable = "".join(character if character.isprintable() else " " for character in phrase)
    return f"{printable} {100 * entity.boxes[number].confidence:.0f} %"


def _draw_label(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    place: Sequence[float],
    label: str,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    paint: str,
) -> None:
    """On top of the box where there is room, else inside it; never beyond the picture's edges."""
    left, top, right, bottom = pen.textbbox((0, 0), label, font=font)
    pad = max(2, round((bottom - top) / 4))
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x = max(0.0, min(place[0], size[0] - width))
    y = place[1] - height if place[1] >= height else min(place[1], max(0.0, size[1] - height))
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=paint)
    pen.text((x + pad - left, y + pad - top), label, font=font, fill="white")


def _translucent(paint: str) -> tuple[int, int, int, int]:
    return (int(paint[1:3], 16), int(paint[3:5], 16), int(paint[5:7], 16), 24)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    for name in _FONT_NAMES:  # Pillow's own has Latin letters only
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)

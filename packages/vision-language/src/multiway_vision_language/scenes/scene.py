"""A scene: a picture and the named objects in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from multiway_vision_language.locations import NormalBox


@dataclass(frozen=True)
class Thing:
    """A named thing with its box, as fractions of the picture; ``color`` where one is sure.

    ``other_name``: a finer name of the same thing, such as a breed. ``pasted``: a cut-out, no part of a photograph.
    """

    name: str
    box: NormalBox
    color: str | None = None
    other_name: str | None = None
    pasted: bool = False

    @property
    def area(self) -> float:
        """Fraction of the picture that the box covers."""
        return area(self.box)

    @property
    def center(self) -> tuple[float, float]:
        """x and y of the box's middle, as fractions."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


@dataclass(frozen=True)
class Scene:
    """A square picture, uint8 (size, size, 3), with its things.

    ``is_photo``: whether there is a photograph behind; ``complete``: whether all its things are named (otherwise those
    that a detector found). ``label`` names what a photograph shows somewhere; ``captions`` describe it.
    """

    picture: np.ndarray
    things: tuple[Thing, ...]
    is_photo: bool = False
    complete: bool = True
    label: str | None = None
    captions: tuple[str, ...] = ()

    def by_name(self) -> dict[str, list[Thing]]:
        """Things grouped by name, in order."""
        return by_name(self.things)

    def without_picture(self) -> Scene:
        """The same without its pixels, for keeping many."""
        return replace(self, picture=np.empty((0, 0, 3), np.uint8))


def by_name(things: Iterable[Thing]) -> dict[str, list[Thing]]:
    """Things grouped by name, in order."""
    groups: dict[str, list[Thing]] = {}
    for thing in things:
        groups.setdefault(thing.name, []).append(thing)
    return groups


def area(box: NormalBox) -> float:
    """Width times height."""
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


def overlap(first: NormalBox, second: NormalBox) -> float:
    """Area that two boxes share."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0.0) * max(height, 0.0)

"""Referring expressions of a scene: phrases, each with the boxes it means, and no other reading."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from multiway_vision_language.locations import NormalBox
from multiway_vision_language.scenes.english import SYNONYMS, plural, with_article
from multiway_vision_language.scenes.scene import Scene, Thing, by_name

Kind = Literal["single", "several", "color", "relation"]

_APART = 0.08  # fraction of the picture between centres, for one thing to be left of another
_CLEARLY = 0.1
_NEARER = 0.12
_LARGER = 1.5


@dataclass(frozen=True)
class Expression:
    """A phrase with what it means: ``name`` of the things, and their boxes from the top on."""

    phrase: str
    boxes: tuple[NormalBox, ...]
    kind: Kind
    name: str


def plain_expressions(scene: Scene, rng: random.Random) -> list[Expression]:
    """By name, and by colour and name where that leaves no doubt."""
    found = []
    for name, things in scene.by_name().items():
        boxes = reading_order(things)
        if len(things) == 1:
            word = rng.choice(SYNONYMS[name]) if name in SYNONYMS and rng.random() < 0.25 else name
            phrase = rng.choice([f"the {word}", with_article(word), word])
            found.append(Expression(phrase, boxes, "single", name))
            if things[0].other_name:
                finer = rng.choice(["the ", "a "]) + things[0].other_name
                found.append(Expression(finer, boxes, "single", name))
        else:
            many = plural(name)
            found.append(
                Expression(rng.choice([many, f"the {many}", f"all {many}", name]), boxes, "several", name)
            )
        certain = len(things) == 1 or all(thing.color for thing in things)
        for color in {thing.color: None for thing in things if thing.color}:
            own = [thing for thing in things if thing.color == color]
            if certain and len(own) == 1:
                phrase = rng.choice(
                    [f"the {color} {name}", with_article(f"{color} {name}"), f"{color} {name}"]
                )
                found.append(Expression(phrase, reading_order(own), "color", name))
    return found


def relations(scene: Scene, rng: random.Random, *, needed: bool = True) -> list[Expression]:
    """By size, by place, and by another thing.

    ``needed``: only of names that stand for several things, so that the relation decides.
    """
    groups = scene.by_name()
    found = []
    for name, things in groups.items():
        if needed and len(things) < 2:
            continue
        if len(things) > 1:
            found += _superlatives(name, things, rng)
        for anchor in (others[0] for other, others in groups.items() if other != name and len(others) == 1):
            found += _beside(name, things, anchor, rng)
    return found


def absent_phrases(scene: Scene, names: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """Phrases of things that the scene does not show; ``names``: of things that it could."""
    there = {thing.name for thing in scene.things} | {thing.other_name for thing in scene.things}
    pool = [name for name in names if name not in there]
    return [
        rng.choice([f"the {name}", with_article(name), name, plural(name)])
        for name in rng.sample(pool, min(len(pool), count))
    ]


def reading_order(things: Sequence[Thing]) -> tuple[NormalBox, ...]:
    """Boxes by the row, then the column of the location grid in which they begin."""
    return tuple(
        sorted((thing.box for thing in things), key=lambda box: (int(box[1] * 32), int(box[0] * 32)))
    )


def _superlatives(name: str, things: Sequence[Thing], rng: random.Random) -> list[Expression]:
    found = []

    def add(phrase: str, thing: Thing) -> None:
        found.append(Expression(phrase, (thing.box,), "relation", name))

    by_size = sorted(things, key=lambda thing: thing.area)
    if by_size[-1].area > _LARGER * by_size[-2].area:
        add(rng.choice(["the largest ", "the biggest ", "the large "]) + name, by_size[-1])
    if by_size[0].area * _LARGER < by_size[1].area:
        add(rng.choice(["the smallest ", "the small "]) + name, by_size[0])
    for axis, last, words in (
        (0, False, ("the leftmost {}", "the {} on the left")),
        (0, True, ("the rightmost {}", "the {} on the right")),
        (1, False, ("the topmost {}", "the {} at the top")),
        (1, True, ("the lowest {}", "the {} at the bottom")),
    ):
        places = sorted(things, key=lambda thing: thing.center[axis], reverse=last)
        if abs(places[0].center[axis] - places[1].center[axis]) > _CLEARLY:
            add(rng.choice(words).format(name), places[0])
    return found


def _beside(name: str, things: Sequence[Thing], anchor: Thing, rng: random.Random) -> list[Expression]:
    found = []
    anchor_name = anchor.name
    if anchor.color and rng.random() < 0.3:
        anchor_name = f"{anchor.color} {anchor.name}"
    for axis, sign, relation in ((0, -1, "left of"), (0, 1, "right of"), (1, -1, "above"), (1, 1, "below")):
        shifts = [sign * (thing.center[axis] - anchor.center[axis]) for thing in things]
        hits = [thing for thing, shift in zip(things, shifts, strict=True) if shift > _APART]
        if len(hits) == 1 and not any(abs(shift) < _APART for shift in shifts):
            words = f"to the {relation}" if axis == 0 and rng.random() < 0.4 else relation
            found.append(
                Expression(f"the {name} {words} the {anchor_name}", (hits[0].box,), "relation", name)
            )
    if len(things) > 1:
        distance = sorted((_distance(thing, anchor), index) for index, thing in enumerate(things))
        if distance[1][0] > distance[0][0] + _NEARER:
            words = rng.choice(["next to", "closest to", "near"])
            nearest = things[distance[0][1]]
            found.append(
                Expression(f"the {name} {words} the {anchor_name}", (nearest.box,), "relation", name)
            )
    return found


def _distance(first: Thing, second: Thing) -> float:
    (x, y), (other_x, other_y) = first.center, second.center
    return ((x - other_x) ** 2 + (y - other_y) ** 2) ** 0.5


def grouped(things: Sequence[Thing]) -> list[tuple[str, list[Thing]]]:
    """Things by name, the group with the largest thing first."""
    return sorted(by_name(things).items(), key=lambda item: -max(thing.area for thing in item[1]))

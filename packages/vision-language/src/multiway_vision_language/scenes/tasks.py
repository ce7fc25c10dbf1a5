"""Training tasks of a scene with their answers, in Kosmos-2's tagged text.

A task is a prompt (after the picture) and a target; the loss is on the target. A target ends with ``</s>`` or, after a
phrase that the prompt gave, with ``</object>``. A phrase that the picture does not show is answered by ``</s>`` alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from multiway_vision_language.grounded_text import GROUNDING, PHRASE, PHRASE_END, object_tags
from multiway_vision_language.locations import LocationGrid, NormalBox
from multiway_vision_language.scenes.english import number, plural, with_article
from multiway_vision_language.scenes.phrases import (
    Expression,
    absent_phrases,
    grouped,
    plain_expressions,
    reading_order,
    relations,
)
from multiway_vision_language.scenes.scene import Scene, Thing

END = "</s>"
_GRID = LocationGrid()
_MOST_BOXES = 6
_APART = 0.08


class Task(NamedTuple):
    """Prompt and target, both tagged text."""

    prompt: str
    target: str


def boxes_text(boxes: Sequence[NormalBox]) -> str:
    """``<object>...</object>`` of boxes given as fractions of the picture."""
    return object_tags([_GRID.encode(box) for box in boxes[:_MOST_BOXES]])


def make_tasks(
    scene: Scene,
    names: Sequence[str],
    photo_names: Sequence[str],
    level: int,
    rng: random.Random,
    unknown_nouns: Sequence[str] = (),
) -> list[Task]:
    """Tasks of a scene in random order.

    ``names``: of things that any scene could show, ``photo_names`` of those that are named in photographs, from which
    absent phrases are made; ``unknown_nouns``: that no cut-out shows, and hardly any photograph. ``level``: 1 for
    single things, 2 adds groups and captions, 3 relations and questions.
    """
    tasks = [
        _locate(found) for found in plain_expressions(scene, rng) if level > 1 or found.kind != "several"
    ]
    rng.shuffle(tasks)
    tasks = tasks[:6]
    if level > 2:
        related = relations(scene, rng)
        if rng.random() < 0.3:
            related += relations(scene, rng, needed=False)
        rng.shuffle(related)
        tasks += [_locate(found) for found in related[:5]]

    pool = photo_names if scene.is_photo and rng.random() < 0.6 else names
    missing = absent_phrases(scene, pool, 3, rng) + _wrong_color(scene, rng)
    if unknown_nouns:
        strange = rng.sample(unknown_nouns, rng.choice([0, 1, 2]))
        missing += [rng.choice([f"the {word}", with_article(word), word]) for word in strange]
    tasks += [Task(f"{GROUNDING}{PHRASE}{phrase}{PHRASE_END}", END) for phrase in missing]

    if scene.things and scene.complete:
        if level > 1:
            tasks.append(_caption(scene, rng))
        if level > 2:
            tasks += _questions(scene, names, rng)
            tasks.append(_description(scene, rng))
    if scene.label and rng.random() < 0.6:
        if rng.random() < 0.6:
            tasks.append(Task("An image of", f" {with_article(scene.label)}.{END}"))
        else:
            tasks.append(_answer("What is in the picture?", f" {with_article(scene.label)}"))
    if scene.captions and rng.random() < 0.7:
        tasks.append(Task("An image of", f" {scene.captions[0]}{END}"))
    rng.shuffle(tasks)
    return tasks


def _locate(found: Expression) -> Task:
    return Task(f"{GROUNDING}{PHRASE}{found.phrase}{PHRASE_END}", boxes_text(found.boxes))


def _wrong_color(scene: Scene, rng: random.Random) -> list[str]:
    colored = [thing for thing in scene.things if thing.color and thing.pasted]
    if not colored or rng.random() > 0.5:
        return []
    name = rng.choice(colored).name
    worn = {thing.color for thing in scene.things if thing.name == name}
    if None in worn:
        return []
    free = [c for c in ("red", "yellow", "green", "blue", "purple", "black", "white") if c not in worn]
    return [f"the {rng.choice(free)} {name}"] if free else []


def _caption(scene: Scene, rng: random.Random) -> Task:
    chance = rng.random()
    if chance < 0.4:
        return Task(f"{GROUNDING}An image of", _listing(scene, 3, grounded=True) + "." + END)
    if chance < 0.6:
        listing = _listing(scene, 6, grounded=True, places=True)
        return Task(f"{GROUNDING}Describe this image in detail:", f" there is{listing}.{END}")
    return Task("An image of", _listing(scene, 3, grounded=False) + "." + END)


def _listing(scene: Scene, max_groups: int, *, grounded: bool, places: bool = False) -> str:
    parts = []
    groups = grouped(scene.things)[:max_groups]
    for index, (name, things) in enumerate(groups):
        if index:
            parts.append(" and" if index == len(groups) - 1 else " ,")
        words = f" {_group_words(name, things)}"
        if grounded:
            words = f"{PHRASE}{words}{PHRASE_END}{boxes_text(reading_order(things))}"
        parts.append(words)
        if places and len(things) == 1:
            place = place_words(things[0])
            parts.append(f" in the {place}" if place == "center" else f" at the {place}")
    return "".join(parts)


def _group_words(name: str, things: Sequence[Thing]) -> str:
    color = things[0].color
    if len(things) == 1:
        return with_article(f"{color} {name}" if color else name)
    shared = f"{color} " if color and all(thing.color == color for thing in things) else ""
    return f"{number(len(things))} {shared}{plural(name)}"


def place_words(thing: Thing) -> str:
    """ "top left", "bottom", "center" ..."""
    x, y = thing.center
    across = "left" if x < 0.38 else "right" if x > 0.62 else ""
    down = "top" if y < 0.38 else "bottom" if y > 0.62 else ""
    return f"{down} {across}".strip() or "center"


def _description(scene: Scene, rng: random.Random) -> Task:
    thing = rng.choice(scene.things)
    words = with_article(f"{thing.color} {thing.name}" if thing.color else thing.name)
    return Task(f"{GROUNDING}{PHRASE}It{PHRASE_END}{boxes_text([thing.box])} is", f" {words}.{END}")


def _answer(question: str, answer: str, *, grounded: bool = False) -> Task:
    return Task(f"{GROUNDING if grounded else ''}Question: {question} Answer:", f"{answer}{END}")


def _questions(scene: Scene, names: Sequence[str], rng: random.Random) -> list[Task]:
    """Two questions; half of all are asked with ``<grounding>``, and then things in the answer have their places."""
    groups = scene.by_name()
    name, things = rng.choice(list(groups.items()))
    asked = rng.choice(names) if rng.random() < 0.5 else name
    # Question, answer, and the answer with places where it names things.
    pool: list[tuple[str, str, str | None]] = [
        (f"How many {plural(name)} are there?", f" {len(things)}", None),
        (f"Is there {with_article(asked)}?", " yes" if asked in groups else " no", None),
        (
            "What is in the picture?",
            _listing(scene, 3, grounded=False),
            _listing(scene, 3, grounded=True),
        ),
    ]
    single = [thing for thing in scene.things if len(groups[thing.name]) == 1]
    colored = [thing for thing in single if thing.color]
    if colored:
        thing = rng.choice(colored)
        pool += 2 * [(f"What color is the {thing.name}?", f" {thing.color}", None)]
    if single:
        thing = rng.choice(single)
        pool.append((f"Where is the {thing.name}?", f" {place_words(thing)}", None))
        pool += _neighbours(scene, thing)
    tasks = []
    for question, answer, with_places in rng.sample(pool, min(2, len(pool))):
        grounded = rng.random() < 0.5
        answer = with_places if grounded and with_places else answer
        tasks.append(_answer(question, answer, grounded=grounded))
    return tasks


def _neighbours(scene: Scene, thing: Thing) -> list[tuple[str, str, str | None]]:
    found: list[tuple[str, str, str | None]] = []
    for axis, sign, words in (
        (0, -1, "to the left of"),
        (0, 1, "to the right of"),
        (1, -1, "above"),
        (1, 1, "below"),
    ):
        beside = [
            other
            for other in scene.things
            if other is not thing and sign * (other.center[axis] - thing.center[axis]) > _APART
        ]
        if len({other.name for other in beside}) == 1:
            name = beside[0].name
            places = f"{PHRASE} {name}{PHRASE_END}{boxes_text(reading_order(beside))}"
            found.append((f"What is {words} the {thing.name}?", f" {name}", places))
    return found

"""Generated scenes: what is pasted is where it is said to be, and phrases mean what they say."""

from __future__ import annotations

import random

import numpy as np
import pytest
from multiway_vision_language.grounded_text import GROUNDING, PHRASE_END, parse
from multiway_vision_language.scenes.colors import COLORS, color_of, paint
from multiway_vision_language.scenes.compose import SIZE, Material, compose
from multiway_vision_language.scenes.english import number, plural, with_article
from multiway_vision_language.scenes.object_names import emoji_names, name_within, object_names
from multiway_vision_language.scenes.photos import Photo, photo_view
from multiway_vision_language.scenes.phrases import absent_phrases, plain_expressions, relations
from multiway_vision_language.scenes.scene import Scene, Thing
from multiway_vision_language.scenes.tasks import END, make_tasks


def disc(color: tuple[int, int, int]) -> np.ndarray:
    y, x = np.mgrid[:60, :60]
    inside = (x - 30) ** 2 + (y - 30) ** 2 < 29**2
    return np.dstack([np.full((60, 60, 3), color, np.uint8), (255 * inside).astype(np.uint8)])


MATERIAL = Material(
    {"ball": [disc((220, 30, 30))], "coin": [disc((240, 210, 40))], "moon": [disc((200, 200, 200))]}
)


def scene(*things: Thing) -> Scene:
    return Scene(np.zeros((SIZE, SIZE, 3), np.uint8), things)


def test_words() -> None:
    assert [plural(name) for name in ("dog", "fox", "cherry", "toy", "mouse", "scissors")] == [
        "dogs", "foxes", "cherries", "toys", "mice", "scissors",
    ]  # fmt: skip
    assert [with_article(name) for name in ("apple", "red apple", "scissors", "blue scissors")] == [
        "an apple", "a red apple", "scissors", "blue scissors",
    ]  # fmt: skip
    assert (number(2), number(9)) == ("two", "many")


def test_names() -> None:
    assert len(object_names()) >= 400
    assert emoji_names()["🍎"] == "apple"
    assert name_within("big_red_fire_truck_02") == "fire truck"
    assert name_within("Two dogs.") == "dog"
    assert name_within("adelaide-rosella") is None


@pytest.mark.parametrize("color", COLORS)
def test_painted_things_have_their_colour(color: str) -> None:
    assert color_of(paint(disc((90, 140, 200)), color, random.Random(0))) == color


def test_two_colours_are_none() -> None:
    both = disc((255, 0, 0))
    both[:30, :, :3] = (0, 0, 255)
    assert color_of(both) is None


def test_scenes_are_the_same_for_the_same_seed_and_boxes_hold_what_was_pasted() -> None:
    first, second = (compose(MATERIAL, random.Random(3), "cutouts") for _ in range(2))
    assert np.array_equal(first.picture, second.picture)
    assert first.things == second.things
    seen = 0
    for seed in range(40):
        made = compose(MATERIAL, random.Random(seed), "cutouts")
        for thing in made.things:
            left, top, right, bottom = (round(side * SIZE) for side in thing.box)
            assert 0 <= left < right <= SIZE
            assert 0 <= top < bottom <= SIZE
            if thing.color in ("red", "green", "blue"):
                middle = made.picture[(top + bottom) // 2, (left + right) // 2]
                seen += middle.argmax() == ("red", "green", "blue").index(thing.color)
    assert seen >= 10


def test_photographs_keep_their_boxes_on_what_they_show() -> None:
    picture = np.zeros((100, 150, 3), np.uint8)
    picture[20:60, 30:90] = 255
    photo = Photo(picture, (Thing("tv", (0.2, 0.2, 0.6, 0.6)),), complete=True)
    for seed in range(30):
        image, things = photo_view(photo, 128, random.Random(seed))
        bright = np.asarray(image.convert("L")) > 60
        for thing in things:
            rows, columns = np.nonzero(bright)
            left, top, right, bottom = (side * 128 for side in thing.box)
            found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert np.allclose(found, (left, top, right, bottom), atol=3)


def test_relations_mean_one_thing() -> None:
    left = Thing("dog", (0.05, 0.4, 0.2, 0.6))
    right = Thing("dog", (0.7, 0.1, 1.0, 0.6))
    cat = Thing("cat", (0.4, 0.4, 0.5, 0.6), color="black")
    found = {
        entry.phrase: entry.boxes
        for seed in range(60)
        for entry in relations(scene(left, right, cat), random.Random(seed))
    }
    assert found["the dog left of the cat"] == (left.box,)
    assert found["the dog to the right of the black cat"] == (right.box,)
    assert found["the largest dog"] == (right.box,)
    assert found["the smallest dog"] == found["the leftmost dog"] == (left.box,)
    assert found["the dog at the top"] == (right.box,)
    assert not any("dog above" in phrase or "dog below" in phrase for phrase in found) or all(
        boxes == (right.box,) for phrase, boxes in found.items() if "above" in phrase
    )
    assert not any(phrase.startswith("the cat") for phrase in found)


def test_names_of_several_things_mean_all_of_them() -> None:
    dogs = [Thing("dog", (0.6, 0.1, 0.8, 0.3)), Thing("dog", (0.1, 0.5, 0.3, 0.8))]
    (entry,) = plain_expressions(scene(dogs[1], dogs[0]), random.Random(0))
    assert entry.kind == "several"
    assert entry.boxes == (dogs[0].box, dogs[1].box)


def test_what_is_absent_is_not_there() -> None:
    names = ["dog", "cat", "owl"]
    own = scene(Thing("dog", (0.1, 0.1, 0.5, 0.5), other_name="owl"))
    assert {phrase.split()[-1].rstrip("s") for phrase in absent_phrases(own, names, 5, random.Random(0))} == {
        "cat"
    }


def test_tasks_parse() -> None:
    kinds = set()
    for seed in range(60):
        rng = random.Random(seed)
        made = compose(MATERIAL, rng, "cutouts")
        for task in make_tasks(made, object_names(), ("person",), 3, rng):
            whole = task.prompt + task.target.removesuffix(END)
            problems = parse(whole).problems
            absent = task.target == END
            assert not problems or absent
            assert absent <= (task.prompt.endswith(PHRASE_END) and task.prompt.startswith(GROUNDING))
            kinds.add(task.prompt.split(":")[0] if "Question" in task.prompt else task.prompt[:16])
            for entity in parse(whole).entities:
                for box in entity.boxes:
                    assert any(np.allclose(box, thing.box, atol=0.05) for thing in made.things)
    assert {"An image of", "Question"} <= {kind.replace(GROUNDING, "") for kind in kinds}


def test_first_level_has_single_things_only() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        made = compose(MATERIAL, rng, "cutouts")
        for task in make_tasks(made, object_names(), (), 1, rng):
            assert task.prompt.endswith(PHRASE_END)
            assert "delimiter" not in task.target

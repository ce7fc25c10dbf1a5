"""Nouns of phrases, colours of boxes, and the detector at full size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_vision_language.metrics import pairwise_iou
from multiway_vision_language.photographs.colors import color_chances
from multiway_vision_language.photographs.detector import CLASSES, LEAST, Detections, fused
from multiway_vision_language.photographs.words import COLORS, read_phrase
from multiway_vision_language.pipeline import GroundingPipeline
from PIL import Image


@pytest.mark.parametrize(
    ("phrase", "kind", "colors"),
    [
        ("the plane", "airplane", ()),
        ("two Puppies on a sofa", "dog", ()),
        ("a television", "tv", ()),
        ("the big red and white bus", "bus", ("red", "white")),
        ("a grey teddy bear", "teddy bear", ("gray",)),
        ("people in a boat", "person", ()),
    ],
)
def test_nouns_by_any_word(phrase: str, kind: str, colors: tuple[str, ...]) -> None:
    noun = read_phrase(phrase)
    assert noun is not None
    assert ({CLASSES[number] for number in noun.kinds}, noun.colors) == ({kind}, colors)


def test_wider_narrower_and_unknown_nouns() -> None:
    animal, poodle, piano = (read_phrase(f"a {word}") for word in ("animal", "poodle", "piano"))
    assert animal
    assert poodle
    assert piano
    assert {CLASSES[kind] for kind in animal.kinds} >= {"dog", "giraffe"}
    assert animal.mode == "wider"
    assert (poodle.mode, piano.mode, piano.kinds) == ("narrower", "other", frozenset())
    assert read_phrase("the dog left of the cat") is None  # a relation is the network's
    assert read_phrase("a unicorn") is None or not read_phrase("a unicorn").kinds  # type: ignore[union-attr]
    assert read_phrase("") is None


@pytest.mark.parametrize(
    ("rgb", "color"),
    [((210, 25, 30), "red"), ((30, 60, 200), "blue"), ((240, 240, 240), "white"), ((15, 15, 15), "black")],
)
def test_the_color_of_a_thing_not_of_what_is_around_it(rgb: tuple[int, int, int], color: str) -> None:
    pixels = np.full((100, 120, 3), (70, 160, 70), np.uint8)
    pixels[30:70, 40:90] = rgb
    chances = color_chances(Image.fromarray(pixels), (36.0, 26.0, 94.0, 74.0))
    assert COLORS[int(chances.argmax())] == color
    assert chances[COLORS.index("green")] < 0.5 < chances[COLORS.index(color)]


def test_looks_are_fused_by_kind() -> None:
    box, near, far = [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 12.0], [50.0, 50.0, 60.0, 60.0]
    looks = [
        Detections(torch.tensor([box, far, box]), torch.tensor([0.8, 0.3, 0.2]), torch.tensor([1, 1, 2])),
        Detections(torch.tensor([near]), torch.tensor([0.4]), torch.tensor([1])),
    ]
    found = fused(looks)
    assert found.kinds_N.tolist() == [1, 1, 2]
    assert found.scores_N.tolist() == pytest.approx([0.6, (0.3 + LEAST) / 2, (0.2 + LEAST) / 2])
    assert found.boxes_N4[0].tolist() == pytest.approx([0, 0, 10, 10.4])
    assert found.boxes_N4[1].tolist() == pytest.approx(far)
    nothing = Detections(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.long))
    assert len(fused([nothing, nothing]).scores_N) == 0


def test_a_photograph() -> None:
    pipeline = GroundingPipeline.from_pretrained()
    coffee = Path(__file__).parents[3] / "examples/coffee.jpg"
    cup, mug, green, elephant = pipeline.locate(
        coffee, ["a cup", "the mug", "a green cup", "an elephant"]
    ).entities
    assert [len(each.boxes) for each in (cup, mug, green, elephant)] == [1, 1, 0, 0]
    assert pairwise_iou([cup.boxes[0].xyxy], [(172, 17, 402, 303)])[0, 0] > 0.7
    assert cup.boxes[0].confidence > 0.5
    assert "cup" in pipeline.caption(coffee).text
    assert pipeline.ask(coffee, "How many cups are there?").text.strip() == "one"
    assert pipeline.ask(coffee, "How many dogs are there?").text.strip() == "0"

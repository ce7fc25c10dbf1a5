"""Generated scenes of coloured shapes with captions, questions and statements: data without a download.

Every scene has three shapes of different colours and kinds. Half of the questions are about relations, which need the
picture and the words together; answers are balanced, so that the question alone is worth little.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from multiway_vision_language.multiway.tasks import Task
from multiway_vision_language.tasks.examples import Example

COLORS = {
    "red": (214, 39, 40), "green": (44, 160, 44), "blue": (31, 86, 200), "yellow": (240, 200, 20),
    "purple": (128, 60, 170), "white": (245, 245, 245),
}  # fmt: skip
KINDS = ("circle", "square", "triangle", "cross", "diamond")
SIZE = 96


@dataclass(frozen=True)
class Shape:
    """A shape with the middle and half the side of its square, in pixels."""

    color: str
    kind: str
    x: int
    y: int
    half: int


def draw(shapes: list[Shape], rng: random.Random, size: int = SIZE) -> Image.Image:
    """The picture of a scene, on a dark background of a random colour."""
    image = Image.new("RGB", (SIZE, SIZE), tuple(rng.randint(20, 90) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for shape in shapes:
        x, y, h, fill = shape.x, shape.y, shape.half, COLORS[shape.color]
        box = (x - h, y - h, x + h, y + h)
        if shape.kind == "circle":
            pen.ellipse(box, fill=fill)
        elif shape.kind == "square":
            pen.rectangle(box, fill=fill)
        elif shape.kind == "triangle":
            pen.polygon([(x, y - h), (x - h, y + h), (x + h, y + h)], fill=fill)
        elif shape.kind == "diamond":
            pen.polygon([(x, y - h), (x + h, y), (x, y + h), (x - h, y)], fill=fill)
        else:
            third = max(1, h // 3)
            pen.rectangle((x - third, y - h, x + third, y + h), fill=fill)
            pen.rectangle((x - h, y - third, x + h, y + third), fill=fill)
    return image if size == SIZE else image.resize((size, size), Image.Resampling.BICUBIC)


def scene(rng: random.Random) -> list[Shape]:
    """Three shapes that do not touch, of different colours and kinds."""
    colors, kinds = rng.sample(list(COLORS), 3), rng.sample(KINDS, 3)
    cells = rng.sample([(column, row) for column in range(3) for row in range(3)], 3)
    shapes = []
    for color, kind, (column, row) in zip(colors, kinds, cells, strict=True):
        half = rng.randint(9, 13)
        x, y = 16 + 32 * column + rng.randint(-2, 2), 16 + 32 * row + rng.randint(-2, 2)
        shapes.append(Shape(color, kind, x, y, half))
    return shapes


def make_examples(task: Task, count: int, seed: int, *, size: int = SIZE) -> list[Example]:
    """``count`` examples of a task, the same for the same seed."""
    rng = random.Random(f"shapes/{task}/{seed}")
    return [_example(task, index, rng, size) for index in range(count)]


def _example(task: Task, index: int, rng: random.Random, size: int) -> Example:
    shapes = scene(rng)
    name = f"scene {index}"
    if task == "nlvr2":
        other = scene(rng)
        text, answer = _statement(shapes, other, rng)
        return Example(name, (draw(shapes, rng, size), draw(other, rng, size)), (text,), (answer,))
    picture = draw(shapes, rng, size)
    if task == "imagenet":
        return Example(name, (picture,), (), (max(shapes, key=lambda s: (s.half, s.kind)).kind,))
    if task == "vqa":
        text, answer = _question(shapes, rng)
        return Example(name, (picture,), (text,), (answer,))
    return Example(name, (picture,), (caption(shapes),))


def caption(shapes: list[Shape]) -> str:
    """All shapes from left to right, and from the top where they stand below one another."""
    ordered = sorted(shapes, key=lambda s: (s.x // 32, s.y))
    names = [f"a {shape.color} {shape.kind}" for shape in ordered]
    return f"{names[0]}, {names[1]} and {names[2]}"


def _question(shapes: list[Shape], rng: random.Random) -> tuple[str, str]:
    first, second = rng.sample(shapes, 2)
    kind = rng.choice(["color", "kind", "relation", "relation"])
    if kind == "color":
        return f"what color is the {first.kind}?", first.color
    if kind == "kind":
        return f"what is {first.color}?", first.kind
    axis = rng.choice(["left of", "right of", "above", "below"])
    holds = _holds(first, second, axis)
    if holds is None:
        return f"what color is the {first.kind}?", first.color
    return f"is the {first.color} {first.kind} {axis} the {second.kind}?", "yes" if holds else "no"


def _holds(first: Shape, second: Shape, axis: str) -> bool | None:
    """Whether the relation is clear, and if so whether it holds."""
    distance = second.x - first.x if axis in ("left of", "right of") else second.y - first.y
    if abs(distance) < 16:
        return None
    return (distance > 0) == (axis in ("left of", "above"))


def _statement(first: list[Shape], second: list[Shape], rng: random.Random) -> tuple[str, str]:
    shape = rng.choice(first)
    same = any(other.kind == shape.kind for other in second)
    return f"both pictures show a {shape.kind}", "true" if same else "false"

"""Data of the small studies of experts: scenes of coloured shapes as arrays, with captions, texts and questions in ids.

Every word has a rare synonym, which half of the words are where models are judged. A text names a thing by one of its
words and again by the other, so texts alone say which words mean the same.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import torch
from multiway_vision_language.tasks.shapes import COLORS, KINDS, Shape, draw, scene
from torch import Tensor

from benchmarks.vision_language.small_world import Words

SIDE, LONGEST, SHOWN = 48, 15, 2
RARE, EVEN = 0.1, 0.5
"""Shares of synonyms in training and where models are judged."""
SYNONYMS = {
    "red": "crimson", "green": "emerald", "blue": "azure", "yellow": "golden", "purple": "violet", "white": "ivory",
    "circle": "disc", "square": "box", "triangle": "wedge", "cross": "plus", "diamond": "lozenge",
}  # fmt: skip
SIDES = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}
LABELS = (*COLORS, *KINDS, "no", "yes")
_OTHERS = ("a", "the", ".", "?", "and", "what", "color", "is")
WORDS = Words([*SYNONYMS, *SYNONYMS.values(), *" ".join(SIDES).split(), *_OTHERS])
PAD, BEGIN, END, MASK = range(4)


def named(word: str, rng: random.Random, share: float) -> str:
    """The word or, with the chance ``share``, its synonym."""
    return SYNONYMS[word] if rng.random() < share else word


def thing(shape: Shape, rng: random.Random, share: float) -> str:
    return f"{named(shape.color, rng, share)} {named(shape.kind, rng, share)}"


def caption(shapes: Sequence[Shape], rng: random.Random, share: float) -> str:
    """All shapes, from left to right and from the top."""
    return " and ".join(f"a {thing(s, rng, share)}" for s in sorted(shapes, key=lambda s: (s.x // 32, s.y)))


def text(rng: random.Random) -> str:
    """Two things of no picture; the first is named again with the other word for its colour or its kind."""
    color, kind, other = rng.choice(list(COLORS)), rng.choice(KINDS), rng.choice(KINDS)
    words = [(word, SYNONYMS[word])[:: rng.choice((1, -1))] for word in (color, kind)]
    again = (
        f"the {words[1][0]} is {words[0][1]}" if rng.random() < 0.5 else f"the {words[0][0]} {words[1][1]}"
    )
    return f"a {words[0][0]} {words[1][0]} and a {named(other, rng, EVEN)} . {again}"


def question(shapes: Sequence[Shape], rng: random.Random, share: float) -> tuple[str, str]:
    """A question and its answer: the colour of a kind, the kind of a colour, or (half) whether a relation holds."""
    first, second = rng.sample(list(shapes), 2)
    if rng.random() < 0.5:
        side = rng.choice(list(SIDES))
        axis, sign = SIDES[side]
        distance = sign * (second.x - first.x if axis == 0 else second.y - first.y)
        if abs(distance) >= 16:
            asked = f"is the {thing(first, rng, share)} {side} the {named(second.kind, rng, share)} ?"
            return asked, "yes" if distance > 0 else "no"
    if rng.random() < 0.5:
        return f"what color is the {named(first.kind, rng, share)} ?", first.color
    return f"what is {named(first.color, rng, share)} ?", first.kind


def swapped(shapes: Sequence[Shape], rng: random.Random) -> list[Shape]:
    """The same shapes with two colours exchanged: only the binding of colour and kind is wrong."""
    first, second = rng.sample(range(len(shapes)), 2)
    found = list(shapes)
    for one, other in ((first, second), (second, first)):
        s = shapes[one]
        found[one] = Shape(shapes[other].color, s.kind, s.x, s.y, s.half)
    return found


def encode(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Ids with begin and end, (B, LONGEST) int64, and where they are real."""
    rows = [[BEGIN, *WORDS.encode(one), END] for one in texts]
    tokens = torch.tensor([row + [PAD] * (LONGEST - len(row)) for row in rows])
    return tokens, tokens != PAD


class Scenes:
    """Drawn scenes: ``shapes`` and ``pixels`` (N, 3, SIDE, SIDE) uint8, the same for the same seed."""

    def __init__(self, count: int, seed: int) -> None:
        rng = random.Random(f"experts/{seed}")
        self.shapes = [scene(rng)[:SHOWN] for _ in range(count)]
        drawn = [np.asarray(draw(shapes, rng, SIDE)) for shapes in self.shapes]
        self.pixels = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).contiguous()

    def take(self, places: Sequence[int]) -> Tensor:
        """Pictures between -1 and 1."""
        return self.pixels[list(places)].float() / 127.5 - 1

    def captions(self, places: Sequence[int], rng: random.Random, share: float) -> tuple[Tensor, Tensor]:
        return encode([caption(self.shapes[place], rng, share) for place in places])

    def questions(
        self, places: Sequence[int], rng: random.Random, share: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, where they are real, and the places of the answers in LABELS, (B,)."""
        asked = [question(self.shapes[place], rng, share) for place in places]
        tokens, valid = encode([one for one, _ in asked])
        return tokens, valid, torch.tensor([LABELS.index(answer) for _, answer in asked])

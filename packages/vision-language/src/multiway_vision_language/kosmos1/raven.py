"""Progressive matrices for the protocol of Raven IQ: generator and scores (arXiv 2302.14045, section 4.3).

A panel shows arrows: how many, how turned, how dark and where. Rules say how each property goes through a matrix of
2 x 2 or 3 x 3 panels, whose last one is asked for among six candidates.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

VALUES = {"count": 4, "rotation": 8, "shade": 5, "position": 5}
"""Properties of a panel and how many values each has; rotation is a circle, the others are scales."""
Kind = Literal["same", "row", "column", "progression"]
NUM_CANDIDATES = 6
_CENTRES = ((0.5, 0.5), (0.28, 0.28), (0.72, 0.28), (0.28, 0.72), (0.72, 0.72))


@dataclass(frozen=True)
class Panel:
    """A picture's properties, each counted from 0 (``count`` 0 is one arrow)."""

    count: int
    rotation: int
    shade: int
    position: int

    def draw(self, size: int = 64, rng: random.Random | None = None) -> np.ndarray:
        """uint8 (size, size, 3). ``rng`` moves the arrows by up to a twentieth of the side."""
        scale = 4  # drawn larger, then reduced, for smooth edges
        side = size * scale
        picture = Image.new("L", (side, side), 255)
        pen = ImageDraw.Draw(picture)
        x, y = (part * side for part in _CENTRES[self.position])
        if rng is not None:
            x, y = (part + rng.uniform(-0.05, 0.05) * side for part in (x, y))
        reach, turn = side * 0.1, self.rotation * math.pi / 4
        offsets = ((0.0, 0.0),) if self.count == 0 else _around(self.count + 1, side * 0.13)
        for dx, dy in offsets:
            tip = [(0.0, -1.2), (0.65, 0.8), (0.0, 0.35), (-0.65, 0.8)]
            points = [
                (
                    x + dx + reach * (px * math.cos(turn) - py * math.sin(turn)),
                    y + dy + reach * (px * math.sin(turn) + py * math.cos(turn)),
                )
                for px, py in tip
            ]
            pen.polygon(points, fill=self.shade * 45)
        return np.array(picture.resize((size, size), Image.Resampling.BOX).convert("RGB"))


def _around(number: int, radius: float) -> list[tuple[float, float]]:
    angles = [2 * math.pi * index / number - math.pi / 2 for index in range(number)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


@dataclass(frozen=True)
class Rule:
    """How one property goes: the same everywhere, one value a row or a column, or by a step within each row."""

    attribute: str
    kind: Kind
    starts: tuple[int, ...]
    """Value of each row (rows, progressions: the row's first), of each column, or of all."""
    step: int = 0

    def value(self, row: int, column: int) -> int:
        """The property's value in a panel."""
        if self.kind == "same":
            return self.starts[0]
        if self.kind == "column":
            return self.starts[column]
        value = self.starts[row] + (self.step * column if self.kind == "progression" else 0)
        return value % VALUES[self.attribute] if self.attribute == "rotation" else value

    @property
    def held_out(self) -> bool:
        """Whether these values belong to the test: a quarter of all, by what the last row or column shows."""
        if self.kind == "same":
            return False
        key = f"{self.attribute}/{self.kind}/{self.step}/{self.starts[-1]}/{self.starts[0]}"
        return hashlib.blake2b(key.encode(), digest_size=1).digest()[0] % 4 == 0


@dataclass(frozen=True)
class Matrix:
    """A problem: the given panels in reading order, the candidates, and which of them is right."""

    size: int
    rules: tuple[Rule, ...]
    given: tuple[Panel, ...]
    candidates: tuple[Panel, ...]
    answer: int


def make_matrix(rng: random.Random, size: int, *, held_out: bool, num_rules: int = 1) -> Matrix:
    """A random problem of ``size`` x ``size`` panels (2 or 3) in which ``num_rules`` properties change.

    ``held_out``: its changing properties all take values that problems with ``held_out=False`` never show.
    Candidates are all combinations of three values of one property and two of another, so each value is equally common
    among them and looking at candidates alone finds the answer once in six.
    """
    changing = rng.sample(list(VALUES), num_rules)
    rules = tuple(
        _rule(rng, attribute, size, held_out) if attribute in changing else _constant(rng, attribute)
        for attribute in VALUES
    )

    def panel(row: int, column: int) -> Panel:
        return Panel(**{rule.attribute: rule.value(row, column) for rule in rules})

    panels = [panel(row, column) for row in range(size) for column in range(size)]
    right = panels[-1]
    first = changing[0]
    second = rng.choice([attribute for attribute in VALUES if attribute != first])
    if len(changing) > 1 and rng.random() < 0.5:
        second = changing[1]
    if rng.random() < 0.5:
        first, second = second, first
    three = _with_others(rng, first, getattr(right, first), 2)
    two = _with_others(rng, second, getattr(right, second), 1)
    candidates = [replace(right, **{first: a, second: b}) for a in three for b in two]
    rng.shuffle(candidates)
    return Matrix(size, rules, tuple(panels[:-1]), tuple(candidates), candidates.index(right))


def _constant(rng: random.Random, attribute: str) -> Rule:
    return Rule(attribute, "same", (rng.randrange(VALUES[attribute]),))


def _rule(rng: random.Random, attribute: str, size: int, held_out: bool) -> Rule:
    values = VALUES[attribute]
    kinds: tuple[Kind, ...] = (
        ("row", "column") if attribute == "position" else ("row", "column", "progression")
    )
    while True:
        kind = rng.choice(kinds)
        if kind != "progression":
            rule = Rule(attribute, kind, tuple(rng.sample(range(values), size)))
        else:
            largest = values - 1 if attribute == "rotation" else (values - 1) // (size - 1)
            step = rng.choice([step for step in range(-largest, largest + 1) if step])
            low, high = (0, values) if attribute == "rotation" else _starts(step * (size - 1), values)
            rule = Rule(attribute, kind, tuple(rng.randrange(low, high) for _ in range(size)), step)
        if rule.held_out == held_out:
            return rule


def _starts(change: int, values: int) -> tuple[int, int]:
    return max(0, -change), min(values, values - change)


def _with_others(rng: random.Random, attribute: str, value: int, number: int) -> list[int]:
    others = [other for other in range(VALUES[attribute]) if other != value]
    return [value, *rng.sample(others, number)]


def accuracy(scores: Sequence[Sequence[float]], matrices: Sequence[Matrix]) -> float:
    """Share of problems whose right candidate has the highest score."""
    chosen = (max(range(len(of_one)), key=of_one.__getitem__) for of_one in scores)
    return sum(c == matrix.answer for c, matrix in zip(chosen, matrices, strict=True)) / len(matrices)

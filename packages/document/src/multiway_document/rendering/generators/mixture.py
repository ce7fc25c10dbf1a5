"""Mixture of all line generators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from multiway_document.rendering.generators.choice import Rng, Words, pick
from multiway_document.rendering.generators.figures import date, number, part_number, phone, price, time
from multiway_document.rendering.generators.formulas import formula
from multiway_document.rendering.generators.machine_text import address, code
from multiway_document.rendering.generators.office import (
    cell_row,
    form_line,
    list_item,
    person,
    postal_address,
    receipt_line,
)

MAKERS: tuple[tuple[float, Callable[[Rng, Words], str]], ...] = (
    (10, number),
    (10, price),
    (10, date),
    (5, time),
    (6, phone),
    (10, address),
    (9, code),
    (8, part_number),
    (6, person),
    (8, postal_address),
    (14, receipt_line),
    (10, form_line),
    (8, list_item),
    (8, cell_row),
    (4, formula),
)
_CUMULATIVE = np.cumsum([weight for weight, _ in MAKERS])


def line(rng: Rng, length: int, words: Words) -> str:
    """Generated pieces joined until ``length`` characters are reached (the last piece is cut there)."""
    pieces: list[str] = []
    total = 0
    while total < length:
        pieces.append(
            MAKERS[int(np.searchsorted(_CUMULATIVE, rng.random() * _CUMULATIVE[-1]))][1](rng, words)
        )
        total += len(pieces[-1]) + 1
    separator = " " if rng.random() < 0.8 else pick(rng, [", ", " | ", "; ", " / ", " - ", " – ", " · "])
    return separator.join(pieces)[:length]

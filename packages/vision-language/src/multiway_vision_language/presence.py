"""Probability that a picture shows a phrase.

A model that was trained on absent phrases predicts it: after ``</phrase>`` it generates ``<object>`` or ends. One that
was not (the published Kosmos-2) always gives a box. There the phrase is verified in reverse: its likelihood given the
box is compared with its likelihood given the whole picture. That score is ours and uncalibrated; 0.5 says that the
box makes the phrase no likelier than the whole picture does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from multiway_vision_language.grounded_text import Phrase, build
from multiway_vision_language.kosmos2.generation import Kosmos2Generator, Prefix
from multiway_vision_language.locations import Cells


def predicted(generator: Kosmos2Generator, rows: Prefix) -> list[float]:
    """P(<object>) against P(</s>), for each row of prompts that end in ``</phrase>``."""
    tokens = generator.tokens
    margin_B = rows.logits_BV[:, tokens.object] - rows.logits_BV[:, tokens.eos]
    return torch.sigmoid(margin_B.float()).tolist()


def verification_scores(
    generator: Kosmos2Generator, prefix: Prefix, phrases: Sequence[str], cells: Sequence[Cells]
) -> list[float]:
    """Sigmoid of how much likelier a box makes its phrase, per token, than the whole picture does.

    Args:
        prefix: one row: the picture and ``<grounding>``.
        phrases: words that :func:`prompts.locate_phrase` takes.
        cells: the box of each.
    """
    encode = generator.processor.encode
    words = [encode(phrase) for phrase in phrases]
    whole = (0, generator.processor.grid.num_cells - 1)
    with_box = _mean_scores(generator, prefix, [_opening(place) for place in cells], words)
    without = _mean_scores(generator, prefix, [_opening(whole)], words)
    return [1 / (1 + math.exp(there - here)) for here, there in zip(with_box, without, strict=True)]


def _mean_scores(
    generator: Kosmos2Generator, prefix: Prefix, openings: Sequence[str], words: Sequence[Sequence[int]]
) -> list[float]:
    behind = generator.extend(prefix, [generator.processor.encode(opening) for opening in openings])
    return [sum(scores) / len(scores) for scores in generator.score(behind, words)]


def _opening(cells: Cells) -> str:
    return build([Phrase("It", (cells,)), " is"])

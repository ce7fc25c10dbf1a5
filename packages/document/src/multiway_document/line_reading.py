"""What the reader of single lines takes and gives, and the decoding of its scores; without torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiway_document.alphabet import ALPHABET

LINE_HEIGHT = 32  # pixels of a cropped line: two rows of patches
LINE_READER_FILE = "line_reader.safetensors"
PATCH = 16  # pixels of a patch's side
STEPS_PER_COLUMN = 4  # one CTC step every 4 pixels


@dataclass(frozen=True)
class LineReading:
    """Text of one line and the mean probability of its characters (1.0 for an empty line); ``words``: of each word."""

    text: str
    confidence: float
    flags: tuple[str, ...] = ()
    words: tuple[float, ...] = ()


ReadLines = Callable[[Sequence[NDArray[np.uint8]]], list[LineReading]]
"""Cropped lines (32, width) uint8 -> their readings, in their order."""


def best_path(classes_T: NDArray[np.integer], probabilities_T: NDArray[np.floating]) -> LineReading:
    """The most probable class of every step, repeats merged, blanks dropped (Graves et al. 2006, 3.2)."""
    kept = (classes_T != 0) & np.append(True, classes_T[1:] != classes_T[:-1])
    text = "".join(ALPHABET[index - 1] for index in classes_T[kept].tolist())
    probabilities: list[float] = probabilities_T[kept].tolist()
    confidence = sum(probabilities) / len(probabilities) if probabilities else 1.0
    return LineReading(text, confidence, words=word_confidences(text, probabilities))


def word_confidences(text: str, probabilities: Sequence[float]) -> tuple[float, ...]:
    """Mean probability of the characters of each word of ``text.split()``."""
    ends = [match.span() for match in re.finditer(r"\S+", text)]
    return tuple(sum(probabilities[start:end]) / (end - start) for start, end in ends)

"""Drawing one of several, figures and short words."""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

Rng = np.random.Generator
Words = Sequence[str]


def pick(rng: Rng, options: Sequence[str]) -> str:
    """One of the options, each as likely as the others."""
    return options[int(rng.integers(len(options)))]


def digits(rng: Rng, count: int) -> str:
    """So many figures."""
    return "".join(map(str, rng.integers(0, 10, count)))


def slug(rng: Rng, words: Words) -> str:
    """One of the words in small plain letters, as in the name of a host."""
    word = "".join(character for character in pick(rng, words).lower() if character in string.ascii_lowercase)
    return word or "info"

"""Strings of receipts: in the alphabet, no longer than asked for, and mostly without small letters."""

from __future__ import annotations

import numpy as np
from multiway_document.alphabet import ALPHABET
from multiway_document.rendering.receipts import till_line


def test_lines_of_a_till() -> None:
    rng = np.random.default_rng(0)
    lines = [till_line(rng, length) for length in np.tile([1, 8, 30, 90], 250)]
    assert all(len(line) <= length for line, length in zip(lines, np.tile([1, 8, 30, 90], 250), strict=True))
    assert set("".join(lines)) <= set(ALPHABET)
    characters = "".join(lines)
    assert sum(map(str.islower, characters)) < 0.1 * len(characters) < 3 * sum(map(str.isdigit, characters))
    whole = [till_line(rng, 90) for _ in range(500)]
    assert sum(any(map(str.isalpha, line)) for line in whole) < 450  # amounts alone
    assert len(set(whole)) > 400


def test_the_same_seed_draws_the_same_lines() -> None:
    first, second = np.random.default_rng(5), np.random.default_rng(5)
    assert [till_line(first, 40) for _ in range(20)] == [till_line(second, 40) for _ in range(20)]

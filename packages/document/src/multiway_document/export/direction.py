"""Writing direction of a line, and the visual order of its words from left to right."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def is_right_to_left(text: str) -> bool | None:
    """Direction of the first letter that has one; None without such a letter (digits, punctuation)."""
    for character in text:
        kind = unicodedata.bidirectional(character)
        if kind in ("R", "AL"):
            return True
        if kind == "L":
            return False
    return None


def visual_order(words: Sequence[str]) -> list[int]:
    """Indices of a line's words from left to right on the page.

    The Unicode bidirectional algorithm at the level of whole words: the line runs the way of its first
    letter, runs of words of the other direction are turned round, and a word without letters goes the line's
    way.
    """
    return _in_visual_order([is_right_to_left(word) for word in words])


def visual_text(word: str) -> str:
    """The characters of a word from left to right on the page: as PDF content has them."""
    if not is_right_to_left(word):
        return word
    directions: list[bool | None] = []
    for character in word:
        kind = unicodedata.bidirectional(character)
        directions.append(False if kind in ("EN", "AN") else is_right_to_left(character))
    return "".join(word[index] for index in _in_visual_order(directions))


def _in_visual_order(directions: Sequence[bool | None]) -> list[int]:
    """Indices from left to right; True runs right to left, the first direction found is the base."""
    base = next((found for found in directions if found is not None), False)
    runs: list[list[int]] = []
    reverse_run: list[bool] = []
    for index, found in enumerate(directions):
        right_to_left = base if found is None else found
        if runs and reverse_run[-1] == right_to_left:
            runs[-1].append(index)
        else:
            runs.append([index])
            reverse_run.append(right_to_left)
    for run, backwards in zip(runs, reverse_run, strict=True):
        if backwards:
            run.reverse()
    if base:
        runs.reverse()
    return [index for run in runs for index in run]

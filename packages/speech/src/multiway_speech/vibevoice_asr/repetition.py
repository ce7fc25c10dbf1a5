"""Detection of repetition loops, which recognizers fall into on music, coughs and silence."""

from __future__ import annotations

REPEATS = 10
WORD_PERIODS = range(10, 41)
"""Lengths in characters of what may be repeated within a segment; shorter patterns count by their multiples."""
SEGMENT_PERIODS = range(41, 201)
"""Lengths of whole segments, of which only the times differ."""


def find_repetition(text: str) -> int | None:
    """Where at the end of ``text`` a loop's second round begins, or None.

    A loop is a pattern that fills the end of the text :data:`REPEATS` times.
    """
    place = _find(text, WORD_PERIODS)
    if place is not None:
        return place
    tail = text[-SEGMENT_PERIODS[-1] * REPEATS :]
    found = _find("".join("0" if c.isdigit() else c for c in tail), SEGMENT_PERIODS)
    return None if found is None else len(text) - len(tail) + found


def _find(text: str, periods: range) -> int | None:
    for period in periods:
        if len(text) < period * REPEATS:
            return None
        end = text[-period * REPEATS :]
        if end[period:] == end[:-period]:
            return len(text) - period * (REPEATS - 1)
    return None

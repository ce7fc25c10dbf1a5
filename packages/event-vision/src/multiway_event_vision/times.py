"""Parses human-readable times."""

from __future__ import annotations

import re

from multiway_core.errors import InputError

_MICROSECONDS = {"": 1, "us": 1, "ms": 1000, "s": 1_000_000, "min": 60_000_000}
_LONGEST = 1 << 50  # microseconds


def microseconds(text: str, name: str) -> int:
    """`10ms`, `0.5s`, `250us`, `2min` or a bare number of microseconds. Raises InputError that tells `name`."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?) ?(us|ms|s|min|)", text.strip())
    if found is None:
        raise InputError(f"{name} {text}: expected a time such as 10ms, 0.5s, 2min or 250us")
    value = round(float(found[1]) * _MICROSECONDS[found[2]])
    if value > _LONGEST:
        raise InputError(f"{name} {text}: that is too long; expected at most {_LONGEST} us")
    return value

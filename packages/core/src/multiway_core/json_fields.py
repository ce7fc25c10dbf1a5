"""Reading our own JSON forms strictly: whatever is wrong is an InputError that names the place.

fields = members(data, ("text", "pages"), where="document")
text = typed(fields["text"], str, "document.text")
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from multiway_core.errors import InputError

_KINDS: dict[type, str] = {str: "a string", list: "a list", dict: "an object", bool: "true or false"}


def members(data: object, names: Iterable[str], where: str) -> Mapping[str, Any]:
    """``data``, which must be an object with exactly these keys."""
    mapping = typed(data, dict, where)
    expected = set(names)
    for problem, keys in (("missing", expected - mapping.keys()), ("unknown", mapping.keys() - expected)):
        if keys:
            raise InputError(f"{where}: {problem} key {', '.join(sorted(map(shown, keys)))}")
    return mapping


def typed(value: object, kind: type, where: str) -> Any:
    """``value``, which must be a ``str``, ``list``, ``dict`` or ``bool``."""
    if not isinstance(value, kind):
        raise InputError(f"{where}: expected {_KINDS[kind]}, got {shown(value)}")
    return value


def whole(value: object, where: str, *, minimum: int = 0) -> int:
    """``value``, which must be a whole number of at minimum ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise InputError(f"{where}: expected a whole number >= {minimum}, got {shown(value)}")
    return value


def finite(value: object, where: str) -> float:
    """``value``, which must be a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where}: expected a number, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{where}: expected a finite number, got {shown(value)}")
    return number


def share(value: object, where: str) -> float:
    """``value``, which must be a number from 0 to 1."""
    number = finite(value, where)
    if not 0.0 <= number <= 1.0:
        raise InputError(f"{where}: expected a number from 0 to 1, got {shown(value)}")
    return number


def shown(value: object) -> str:
    """A value, short enough for an error message."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print whole numbers of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."

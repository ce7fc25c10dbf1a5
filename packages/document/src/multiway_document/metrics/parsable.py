"""Share of a model's raw outputs that are well-formed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from multiway_core.errors import MultiwayError

Output = TypeVar("Output")


def parsable_share(outputs: Iterable[Output], parse: Callable[[Output], object]) -> float:
    """Share of outputs, 0 to 1, that ``parse`` accepts; 1.0 without outputs.

    ``parse`` raises ValueError or a MultiwayError on an output that is not well-formed; other exceptions
    pass through.
    """
    accepted = [_accepts(parse, output) for output in outputs]
    return sum(accepted) / len(accepted) if accepted else 1.0


def _accepts(parse: Callable[[Output], object], output: Output) -> bool:
    try:
        parse(output)
    except (ValueError, MultiwayError):
        return False
    return True

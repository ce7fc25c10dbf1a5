"""The Carnegie Mellon Pronouncing Dictionary (CMUdict), North American English, 126 thousand words.

``cmudict.dict.xz`` is its file as published, compressed; ``cmudict.LICENSE`` is its licence (BSD, two clauses).
"""

from __future__ import annotations

import lzma
from functools import cache
from importlib.resources import files


@cache
def entries() -> dict[str, str]:
    """Word in lower case -> phones with blanks between; a word's second pronunciation is at ``word(2)``."""
    packed = (files(__package__) / "cmudict.dict.xz").read_bytes()
    lines = lzma.decompress(packed).decode("utf-8").splitlines()
    return dict(line.partition(" #")[0].split(" ", 1) for line in lines)


def look_up(word: str, variant: int = 1) -> tuple[str, ...] | None:
    """Phones of a lower-case word in its ``variant``-th pronunciation, or None."""
    found = entries().get(word if variant == 1 else f"{word}({variant})")
    return None if found is None else tuple(found.split())

"""The names of things in generated scenes, the emoji that show them, and names found in file names and captions."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

CLIP_ART_ONLY = ("baby", "boy", "girl", "man", "woman")
_VARIATION = "\ufe0f"


@cache
def emoji_names() -> dict[str, str]:
    """Emoji (without variation selectors) -> the name of what it shows; 420 names."""
    table: dict[str, str] = {}
    for line in Path(__file__).with_name("names.tsv").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, signs = line.split("\t")
            table |= {sign.replace(_VARIATION, ""): name for sign in signs.split(" ")}
    return table


@cache
def object_names() -> tuple[str, ...]:
    """All names, sorted."""
    return tuple(sorted({*emoji_names().values(), *CLIP_ART_ONLY}))


def name_within(text: str) -> str | None:
    """The longest known name among the words of a file name or a caption, the last one of several; else None."""
    words = re.findall(r"[a-z]+", text.lower())
    best: tuple[tuple[int, int], str] | None = None
    for name in object_names():
        parts = name.split()
        for start in range(len(words) - len(parts) + 1):
            found = words[start : start + len(parts)]
            if found == parts or [*found[:-1], found[-1].rstrip("s")] == parts:
                rank = (len(parts), start)
                if best is None or rank > best[0]:
                    best = (rank, name)
    return best and best[1]

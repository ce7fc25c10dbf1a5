"""Text as UTF-8 bytes, for models that are trained here; 256 ends a text."""

from __future__ import annotations

from collections.abc import Sequence

END = 256
VOCAB_SIZE = 257


def encode(text: str, *, end: bool = False) -> list[int]:
    """Ids below 256, and END behind them if asked for."""
    return [*text.encode(), *([END] if end else [])]


def decode(ids: Sequence[int]) -> str:
    """Text of ids; END is left out, and what is no UTF-8 becomes the replacement character."""
    return bytes(i for i in ids if 0 <= i < END).decode(errors="replace")

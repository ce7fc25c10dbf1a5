"""The values of the token view, and its files (multiway_lm/viewer)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiway_text.language_model import Token


def tokens_value(
    tokens: Sequence[Token] = (), *, summary: str = "", growing: bool = False, note: str = ""
) -> dict[str, Any]:
    """The value of the component (viewer/tokens.js draws it)."""
    return {
        "tokens": [
            {
                "t": token.text,
                "p": round(token.log_prob, 4),
                "a": [[text, round(value, 4)] for _, text, value in token.alternatives],
            }
            for token in tokens
        ],
        "summary": summary,
        "growing": growing,
        "note": note,
    }

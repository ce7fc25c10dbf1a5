"""The vocabulary of the small model: phones, marks, and each fixed piece of the prompt as one token."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from multiway_speech.pronunciation.phones import BOUNDARY, SYMBOLS
from multiway_speech.vibevoice.config import TINY_TOKENS

MAX_SPEAKERS = 4
_PIECES = (" Voice input:\n", " Speech output:\n", "\n")


def new_tokenizer() -> Tokenizer:
    """A tokenizer that reads symbols between blanks. Its special tokens have the ids of :data:`TINY_TOKENS`."""
    special = {
        TINY_TOKENS.eos: "<eos>",
        TINY_TOKENS.start: "<start>",
        TINY_TOKENS.end: "<end>",
        TINY_TOKENS.frame: "<frame>",
    }
    words = [special[index] for index in range(len(special))] + ["<unknown>", *SYMBOLS]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unknown>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    speakers = [f" Speaker {number}:" for number in range(MAX_SPEAKERS)]
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in (*_PIECES, *speakers)])
    return tokenizer


def as_text(symbols: Sequence[str]) -> str:
    """Symbols as a turn's text. Between words nothing is written: a model has no frames for it."""
    return " ".join(symbol for symbol in symbols if symbol != BOUNDARY)

"""The vocabulary of the small model: phones, marks, and each fixed piece of the prompt as one token."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from multiway_speech.pronunciation.phones import BOUNDARY, SYMBOLS
from multiway_speech.text_tokenizer import TextTokenizer
from multiway_speech.vibevoice.config import TINY_TOKENS
from multiway_speech.vibevoice.prompt import TASK

MAX_SPEAKERS = 4
_PIECES = (TASK, " Voice input:\n", " Text input:\n", " Speech output:\n", "\n")


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


def spoken(symbols: list[str]) -> str:
    """Symbols as a turn's text."""
    return " ".join(symbols)


def reading(tokenizer: TextTokenizer, speaker: int, text: str) -> list[int]:
    """What is written along the speech of a turn: who speaks, then phones and marks, without the words' boundaries."""
    return tokenizer.encode(f" Speaker {speaker}: " + text.replace(f" {BOUNDARY}", ""))

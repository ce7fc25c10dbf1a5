"""Recognized words as tokens at their times: at most one token at each position of the language model.

With each piece stand the two before it: a decoder that has just written these finds at once where to go on.

Shape suffixes: N positions of the language model, K a piece and those before it, E hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from multiway_blocks.linear import Linear
from multiway_core.tokenization import TextTokenizer
from torch import Tensor, nn

from multiway_speech.vibevoice_asr.whisper import Word

POSITION_SECONDS = 0.08
PAUSE_SECONDS = 0.5
GAIN = 4.0
"""Of words to begin with: acoustic numbers would drown them."""
BEFORE = 2
"""Pieces that stand with each one."""


class WordTokens:
    """Pieces of words in the order in which they are added.

    Attributes:
        ids_NK: int64, the piece at each position and the two before it, or the token that stands for none.
    """

    def __init__(self, tokenizer: TextTokenizer, positions: int, none: int) -> None:
        self._tokenizer = tokenizer
        self._next = 0
        self._before = [none, none]
        self.ids_NK = np.full((positions, 1 + BEFORE), none, dtype=np.int64)

    def add_all(self, words: Sequence[Word]) -> None:
        """Put recognized words; one behind the end of a sentence or a pause is taken for a sentence's first."""
        previous: Word | None = None
        for word in words:
            first = (
                previous is None or previous.text[-1] in ".?!" or word.start - previous.end > PAUSE_SECONDS
            )
            self.add(word.text, word.start, word.end, first=first)
            previous = word

    def add(self, word: str, start: float, end: float, *, first: bool) -> list[int]:
        """Put a word's pieces evenly between its times in seconds, or behind what is there already.

        ``first``: of a sentence, so that no space is before it. What does not fit any more is left out. Returns
        the positions of the pieces.
        """
        pieces = self._tokenizer.encode(word if first else f" {word}")
        places: list[int] = []
        for number, piece in enumerate(pieces):
            at = start + (end - start) * number / len(pieces)
            place = max(self._next, int(at / POSITION_SECONDS))
            if place >= len(self.ids_NK):
                break
            self.ids_NK[place] = (piece, *self._before)
            self._before = [piece, *self._before[:-1]]
            self._next = place + 1
            places.append(place)
        return places


class WordConnector(nn.Module):
    """Pieces of words -> inputs of the language model: the piece's own embedding, and a map of those before it."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.before = Linear(BEFORE * hidden_size, hidden_size, bias=False)
        self.gain = nn.Parameter(torch.full((hidden_size,), GAIN))

    def forward(self, embedded_NKE: Tensor) -> Tensor:
        """(..., K, E) -> (..., E)."""
        before_NE = self.before(embedded_NKE[..., 1:, :].flatten(-2))
        return self.gain * (embedded_NKE[..., 0, :] + before_NE)

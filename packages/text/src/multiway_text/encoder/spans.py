"""Question and context as windows of tokens, where an answer stands in them, and the best spans of their logits.

Shape suffixes: T tokens of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from torch import Tensor

MAX_QUESTION, MAX_ANSWER, STRIDE = 64, 30, 128
"""Tokens of a question and of an answer; from the beginning of a window to that of the next."""


@dataclass(frozen=True)
class Window:
    """A question and tokens [start, stop) of its context, the first of which stands at ``first``."""

    ids: list[int]
    types: list[int]
    first: int
    start: int
    stop: int


class Passage:
    """A question with its context, as tokens; of a question the first ``MAX_QUESTION`` count.

    Raises InputError: the model sees too few tokens for any of the context.
    """

    def __init__(self, tokenizer: TextTokenizer, question: str, context: str, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.question = tokenizer.encode(question)[:MAX_QUESTION]
        found = tokenizer.encode_with_offsets(context, add_special_tokens=False)
        self.context, self.offsets, self.text = found.ids, found.offsets, context
        frame = tokenizer.engine.frame
        self.first = len(frame.prefix) + len(self.question) + len(frame.middle)
        self.room = max_length - self.first - len(frame.suffix)
        if self.room < 1:
            raise InputError(
                f"{max_length} tokens leave no room for a context beside the question {question[:60]!r}"
            )

    def windows(self, stride: int = STRIDE) -> list[Window]:
        """The context in windows that overlap."""
        found, start = [], 0
        while True:
            stop = min(start + self.room, len(self.context))
            found.append(self.window(self.context[start:stop], start, stop))
            if stop == len(self.context):
                return found
            start += min(stride, self.room)

    def window(self, ids: Sequence[int], start: int, stop: int) -> Window:
        """These tokens in the place of tokens [start, stop), cut to the room there is."""
        framed, types = self.tokenizer.add_special_tokens(self.question, ids[: self.room])
        return Window(framed, types, self.first, start, stop)

    def tokens(self, start: int, end: int) -> tuple[int, int]:
        """The first and the last token of characters [start, end)."""
        touched = [place for place, (a, b) in enumerate(self.offsets) if a < end and b > start]
        return (touched[0], touched[-1]) if touched else (-1, -1)

    def characters(self, first: int, last: int) -> tuple[int, int]:
        """Characters [start, end) of tokens first to last: whole words, without spaces around them."""
        start, end = self.offsets[first][0], self.offsets[last][1]
        text = self.text[start:end]
        start, end = start + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())
        while 0 < start < end and _in_word(self.text[start - 1 : start + 1]):
            start -= 1
        while start < end < len(self.text) and _in_word(self.text[end - 1 : end + 1]):
            end += 1
        return start, end


def _in_word(pair: str) -> bool:
    """Whether two neighbours belong to one word. From Thai on, Unicode's scripts are mostly written without spaces."""
    return pair.isalnum() and max(pair) < "\u0e00"


@dataclass(frozen=True)
class TokenSpan:
    """Tokens first to last of a context.

    Attributes:
        log_probability: of both ends in their window.
        margin: by how much that is more than no answer has, whose place is the window's first token. Log-odds do not
            depend on what else is in a window, so that those of any windows can be compared.
    """

    first: int
    last: int
    log_probability: float
    margin: float


def best_spans(
    logits_T2: Tensor, window: Window, count: int = 1, max_answer: int = MAX_ANSWER
) -> tuple[list[TokenSpan], float]:
    """(the likeliest spans of a window, best first; the logarithm of the probability that it has no answer)."""
    log_T2 = logits_T2.float().log_softmax(0)
    none = float(log_T2[0].sum())
    size = window.stop - window.start
    places = slice(window.first, window.first + size)
    scores_TT = log_T2[places, 0, None] + log_T2[None, places, 1]
    allowed_TT = torch.ones_like(scores_TT, dtype=torch.bool).triu().tril(max_answer - 1)
    scores_TT = scores_TT.masked_fill(~allowed_TT, -torch.inf)
    values, order = scores_TT.flatten().topk(min(count, int(allowed_TT.sum())))
    spans = [
        TokenSpan(window.start + place // size, window.start + place % size, value, value - none)
        for value, place in zip(values.tolist(), order.tolist(), strict=True)
    ]
    return spans, none

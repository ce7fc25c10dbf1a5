"""Reading comprehension: the spans of contexts of any length that answer questions, and how surely there is one.

Shape suffixes: B windows, T tokens, N tokens of all windows, E width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from multiway_text.encoder.heads import SpanExtractor
from multiway_text.encoder.quantized import Int8Network
from multiway_text.encoder.result import SpanAnswer
from multiway_text.encoder.sentence import SentenceModel
from multiway_text.encoder.spans import Passage, TokenSpan, Window, best_spans

BATCH_TOKENS = 8192  # of a batch of windows, padding included
_GROUP = 256  # questions whose windows are cut and computed before the next ones


class _Asked(NamedTuple):
    row: int
    window: Window


@dataclass(frozen=True)
class Reading:
    """What a model finds in a context: its best spans, by ``SpanAnswer.margin``, and the probability of no answer.

    ``none`` is the least of all windows: one window with the answer is enough.
    """

    spans: tuple[SpanAnswer, ...]
    none: float

    @property
    def margin(self) -> float:
        """Of the best span; minus infinity where the context is empty."""
        return self.spans[0].margin if self.spans else -math.inf

    def best(self, threshold: float = -math.inf) -> SpanAnswer:
        """The best span, or an empty answer where its margin is not above ``threshold``."""
        if self.margin > threshold:
            return self.spans[0]
        return SpanAnswer("", 0, 0, self.none, self.margin)


def read(
    sentence: SentenceModel, head: SpanExtractor, asked: Sequence[tuple[str, str]], *, count: int = 1
) -> Iterator[Reading]:
    """The ``count`` best spans for each (question, context), in order; contexts are read in windows that overlap.

    Raises InputError: a model that sees too few tokens.
    """
    length = sentence.encoder.config.max_length
    for start in range(0, len(asked), _GROUP):
        passages = [
            Passage(sentence.tokenizer, *pair, max_length=length) for pair in asked[start : start + _GROUP]
        ]
        windows = [_Asked(row, window) for row, one in enumerate(passages) for window in one.windows()]
        found: list[list[TokenSpan]] = [[] for _ in passages]
        none = [0.0] * len(passages)
        for (row, window), logits_T2 in _logits(sentence, head, windows):
            spans, log_none = best_spans(logits_T2, window, count)
            found[row] += spans
            none[row] = min(none[row], log_none)
        for passage, spans, log_none in zip(passages, found, none, strict=True):
            yield Reading(tuple(_distinct(passage, spans, count)), math.exp(log_none))


def _distinct(passage: Passage, spans: Sequence[TokenSpan], count: int) -> Iterator[SpanAnswer]:
    """The best spans of all windows; of one that several windows found the best."""
    seen: set[tuple[int, int]] = set()
    for span in sorted(spans, key=lambda one: (-one.margin, one.first, one.last)):
        start, end = passage.characters(span.first, span.last)
        if len(seen) < count and (start, end) not in seen:
            seen.add((start, end))
            probability = math.exp(span.log_probability)
            yield SpanAnswer(passage.text[start:end], start, end, probability, span.margin)


def _logits(
    sentence: SentenceModel, head: SpanExtractor, asked: Sequence[_Asked]
) -> Iterator[tuple[_Asked, Tensor]]:
    """Each window with its logits (T, 2); windows of like length share a batch."""
    order = sorted(asked, key=lambda one: len(one.window.ids))
    while order:
        some = order[-max(1, BATCH_TOKENS // len(order[-1].window.ids)) :]
        del order[-len(some) :]
        windows = [one.window for one in some]
        with torch.inference_mode():
            found = _padded(head, windows) if sentence.int8 is None else _packed(sentence.int8, head, windows)
        yield from zip(some, found, strict=True)


def _padded(head: SpanExtractor, windows: Sequence[Window]) -> list[Tensor]:
    encoder = head.encoder
    device = encoder.token_embedding.weight.device
    lengths = [len(one.ids) for one in windows]
    shape = (len(windows), max(lengths))
    ids_BT = torch.full(shape, encoder.config.pad_id)
    types_BT, valid_BT = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    for row, one in enumerate(windows):
        ids_BT[row, : lengths[row]] = torch.tensor(one.ids)
        types_BT[row, : lengths[row]] = torch.tensor(one.types)
        valid_BT[row, : lengths[row]] = True
    types = types_BT.to(device) if encoder.config.num_types > 1 else None
    logits_BT2 = head(ids_BT.to(device), valid_BT.to(device), types_BT=types).float().cpu()
    return [row_T2[:length] for row_T2, length in zip(logits_BT2, lengths, strict=True)]


def _packed(network: Int8Network, head: SpanExtractor, windows: Sequence[Window]) -> list[Tensor]:
    """By the encoder in 8 bits, which takes windows one behind the other."""
    lengths = [len(one.ids) for one in windows]
    ids_N, types_N = (
        torch.tensor(list(chain.from_iterable(rows)))
        for rows in ([one.ids for one in windows], [one.types for one in windows])
    )
    hidden_NE = network(ids_N, torch.tensor([0, *lengths]).cumsum(0), types_N)
    return list(head.head(hidden_NE).split(lengths))

"""What xTune's three tasks differ in: rows, views of a row (plain or augmented), and how the losses compare two views.

Shape suffixes: B rows, M rows with their augmentations behind them, T tokens, C classes, N units.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from multiway_text.data.squad import Question
from multiway_text.encoder import word_tokens
from multiway_text.encoder.examples import Labelled, TaggedText
from multiway_text.encoder.heads import SequenceClassifier, SpanExtractor, TokenClassifier
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.sentence import SentenceModel
from multiway_text.encoder.spans import MAX_QUESTION, Passage, Window
from multiway_text.encoder.tasks import (
    NO_TARGET,
    answer_windows,
    best_of_tags,
    padded,
    score_answers,
    score_classes,
    score_tags,
)
from multiway_text.xtune import objective
from multiway_text.xtune.augmentation import Augmentation
from multiway_text.xtune.objective import Reduction

Head = SequenceClassifier | TokenClassifier | SpanExtractor


@dataclass(frozen=True)
class View:
    """A row as tokens.

    units: number of a unit (text, word, token of a context) -> its place; what two views have in common is compared.
    target: a class, the places of the answer's ends, or a tag for each token (a list).
    firsts: for each token the place of its word's first.
    """

    ids: list[int]
    types: list[int]
    units: dict[int, int]
    target: int | tuple[int, int] | list[int]
    firsts: list[int] = field(default_factory=list)


class Batch(NamedTuple):
    """B rows; where R1 is asked for, behind them their augmentations in the same order.

    units_MT: the places that are compared, as many in a row as in its augmentation. targets: of the first B rows, (B,),
    (B, T) or (B, 2). noisy_M: rows whose embeddings get noise. augmented_B: rows of the augmented corpus, for R2.
    """

    ids_MT: Tensor
    valid_MT: Tensor
    types_MT: Tensor
    firsts_MT: Tensor
    units_MT: Tensor
    targets: Tensor
    noisy_M: Tensor
    augmented_B: Tensor


class Task(Protocol):
    """One kind of problem on an encoder with a head."""

    best: str
    labels: list[str]
    kind: type[Head]

    def model(self, sentence: SentenceModel) -> Any: ...
    def rows(self, example: Any) -> list[Any]: ...
    def view(
        self, row: Any, change: Augmentation | None, generator: torch.Generator, *, corpus: bool
    ) -> View: ...
    def logits(self, module: nn.Module, batch: Batch) -> Tensor: ...
    def supervised(self, logits: Tensor, targets: Tensor, valid_BT: Tensor) -> Tensor: ...
    def r1(self, logits: Tensor, batch: Batch, reduction: Reduction) -> Tensor: ...
    def r2(self, target: Tensor, logits: Tensor, batch: Batch, reduction: Reduction) -> Tensor: ...
    def hard(self, logits: Tensor, targets: Tensor, valid_BT: Tensor) -> Tensor: ...
    def score(self, pipeline: EncoderPipeline, scored: Sequence[Any]) -> dict[str, float]: ...


class _OnEncoder:
    """What the tasks share: the tokenizer, the longest row, and token types where the encoder has them."""

    def __init__(self, sentence: SentenceModel, labels: Sequence[str], length: int) -> None:
        self.tokenizer, self.labels, self.length = sentence.tokenizer, list(labels), length
        self.has_types = sentence.encoder.config.num_types > 1
        self.numbers = {label: number for number, label in enumerate(labels)}

    def rows(self, example: Any) -> list[Any]:
        return [example]

    def logits(self, module: nn.Module, batch: Batch) -> Tensor:
        types_MT = batch.types_MT if self.has_types else None
        return module(batch.ids_MT, batch.valid_MT, types_BT=types_MT).float()

    def _pieces(
        self, given: Sequence[str], change: Augmentation | None, generator: torch.Generator
    ) -> list[list[int]]:
        """The tokens of words, some of which are changed."""
        pieces = word_tokens.tokens_of(self.tokenizer, given)
        if change is not None:
            for place, ids in change.new_tokens(self.tokenizer, given, generator).items():
                pieces[place] = ids
        return pieces


class Classes(_OnEncoder):
    """A label of a text or a pair: two views have their one distribution in common."""

    best = "accuracy"
    kind: type[Head] = SequenceClassifier

    def model(self, sentence: SentenceModel) -> SequenceClassifier:
        """A new head on the encoder."""
        return SequenceClassifier(sentence.encoder, len(self.labels))

    def view(
        self, row: Labelled, change: Augmentation | None, generator: torch.Generator, *, corpus: bool
    ) -> View:
        """The text or pair, the longer of a pair cut first."""
        parts = [
            [token for piece in self._pieces(text.split(), change, generator) for token in piece]
            for text in (row.text, row.pair)
            if text is not None
        ]
        ids, types = self.tokenizer.add_special_tokens(*parts, max_length=self.length)
        return View(ids, types, {0: 0}, self.numbers[row.label])

    def supervised(self, logits: Tensor, targets: Tensor, valid_BT: Tensor) -> Tensor:
        return cross_entropy(logits, targets)

    def r1(self, logits: Tensor, batch: Batch, reduction: Reduction) -> Tensor:
        plain, augmented = logits.chunk(2)
        return objective.consistency(plain, augmented, reduction)

    def r2(self, target: Tensor, logits: Tensor, batch: Batch, reduction: Reduction) -> Tensor:
        return objective.divergence(target, logits, reduction)

    def hard(self, logits: Tensor, targets: Tensor, valid_BT: Tensor) -> Tensor:
        return logits.argmax(-1)

    def score(self, pipeline: EncoderPipeline, scored: Sequence[Labelled]) -> dict[str, float]:
        return score_classes(pipeline, scored)


class Tags(_OnEncoder):
    """A tag for each word: two views have the first token of each word in common.

    ``sum_words``: a word's logits are those of the sum of its tokens' states, not of its first token's.
    """

    kind: type[Head] = TokenClassifier

    def __init__(
        self, sentence: SentenceModel, labels: Sequence[str], length: int, sum_words: bool = False
    ) -> None:
        super().__init__(sentence, labels, length)
        self.sum_words, self.best = sum_words, best_of_tags(labels)

    def model(self, sentence: SentenceModel) -> TokenClassifier:
        """A new head on the encoder."""
        return TokenClassifier(sentence.encoder, len(self.labels), sum_words=self.sum_words)

    def view(
        self, row: TaggedText, change: Augmentation | None, generator: torch.Generator, *, corpus: bool
    ) -> View:
        """The words, cut behind the last token that fits."""
        pieces = self._pieces(row.words, change, generator)
        room = self.length - len(self.tokenizer.add_special_tokens([])[0])
        ids, firsts = word_tokens.joined(self.tokenizer, pieces, room)
        end = len(ids) - len(self.tokenizer.engine.frame.suffix)
        units = {n: first for n, first in enumerate(firsts) if pieces[n] and first < end}
        tags = [NO_TARGET] * len(ids)
        for number, place in units.items():
            tags[place] = self.numbers[row.tags[number]]
        return View(
            ids, [0] * len(ids), units, tags, word_tokens.first_places(len(ids), list(units.values()), end)
        )

    def logits(self, module: nn.Module, batch: Batch) -> Tensor:
        return module(batch.ids_MT, batch.valid_MT, batch.firsts_MT).float()

    def supervised(self, logits: Tensor, targets: Tensor, valid_BT: Tensor) -> Tensor:
        return cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=NO_TARGET)

    def r1(self, logits: Tensor, batch: Batch, reduction: Reduction) -> Tensor:
        plain, augmented = (
            x[units] for x, units in zip(logits.chunk(2), batch.units_MT.chunk(2), strict=True)
        )
        return objective.consistency(plain, augmented, reduction)

    def r2(self, target: Tensor, logits: Tensor, batch: Batch, reduction: Reduction) -> Tensor:
        words_BT = batch.targets[batch.augmented_B] != NO_TARGET
        return objective.divergence(target[words_BT], logits[words_BT], reduction)

    def hard(self, logits: Tensor, targets: Tensor, valid_BT: Tensor) -> Tensor:
        return logits.argmax(-1).where(targets != NO_TARGET, NO_TARGET)

    def score(self, pipeline: EncoderPipeline, scored: Sequence[TaggedText]) -> dict[str, float]:
        return score_tags(pipeline, scored)


class ContextWindow(NamedTuple):
    """A window of a question's context, the words of the whole context, and the places of the answer's ends."""

    passage: Passage
    question: list[str]
    words: list[re.Match[str]]
    window: Window
    ends: tuple[int, int]


class Spans(_OnEncoder):
    """Where a context answers a question: two views have the first token and the unchanged tokens in common."""

    best = "f1"
    kind: type[Head] = SpanExtractor

    def model(self, sentence: SentenceModel) -> SpanExtractor:
        """A new head on the encoder."""
        return SpanExtractor(sentence.encoder)

    def rows(self, example: Question) -> list[ContextWindow]:
        """The windows of the context."""
        found = list(re.finditer(r"\S+", example.context))
        passage = Passage(self.tokenizer, example.question, example.context, self.length)
        return [
            ContextWindow(passage, example.question.split(), found, window, ends)
            for window, ends in answer_windows(passage, example)
        ]

    def view(
        self, row: ContextWindow, change: Augmentation | None, generator: torch.Generator, *, corpus: bool
    ) -> View:
        """Words at the answer's ends are never changed; ``corpus``: nor is any word between them."""
        if change is None or change.kind not in ("subword", "code-switch"):
            tokens = range(row.window.start, row.window.stop)
            return self._view(row, row.passage.question, [(n, row.passage.context[n]) for n in tokens])
        whole, first, last = self._words(row)
        keep = range(first, last + 1) if corpus else (first, last)
        numbers = list(whole)
        changed = change.new_tokens(
            self.tokenizer,
            [row.words[number].group() for number in numbers],
            generator,
            [place for place, number in enumerate(numbers) if number in keep],
        )
        new = {whole[numbers[place]].start: (whole[numbers[place]], ids) for place, ids in changed.items()}
        content: list[tuple[int, int]] = []
        token = row.window.start
        while token < row.window.stop:
            if token in new:
                replaced, ids = new[token]
                content += [(-1, piece) for piece in ids]
                token = replaced.stop
            else:
                content.append((token, row.passage.context[token]))
                token += 1
        pieces = self._pieces(row.question, change, generator)
        return self._view(row, [piece for ids in pieces for piece in ids][:MAX_QUESTION], content)

    def _view(self, row: ContextWindow, question: list[int], content: list[tuple[int, int]]) -> View:
        """``content``: (number of the token in the context, or -1 for a new one; id)."""
        around = len(self.tokenizer.add_special_tokens(question, [])[0])
        content = content[: self.length - around]
        ids, types = self.tokenizer.add_special_tokens(question, [piece for _, piece in content])
        first = around - len(self.tokenizer.engine.frame.suffix)
        units = {number: first + place for place, (number, _) in enumerate(content) if number >= 0}
        shift = row.window.first - row.window.start
        start, end = (units.get(place - shift, 0) if row.ends != (0, 0) else 0 for place in row.ends)
        return View(ids, types, {-1: 0} | units, (start, end) if start and end else (0, 0))

    def _words(self, row: ContextWindow) -> tuple[dict[int, range], int, int]:
        """The words whose tokens are all in the window, with their tokens, and the numbers of the answer's words."""
        ends = [match.end() for match in row.words]
        of_token = [bisect_right(ends, max(start, end - 1)) for start, end in row.passage.offsets]
        groups: dict[int, list[int]] = {}
        for token, word in enumerate(of_token):
            groups.setdefault(word, []).append(token)
        window = row.window
        whole = {
            word: range(tokens[0], tokens[-1] + 1)
            for word, tokens in groups.items()
            if word < len(ends) and window.start <= tokens[0] and tokens[-1] < window.stop
        }
        if row.ends == (0, 0):
            return whole, -1, -1
        shift = window.first - window.start
        return whole, of_token[row.ends[0] - shift], of_token[row.ends[1] - shift]

    def supervised(self, logits: Tensor, targets: Tensor, valid_BT: Tensor) -> Tensor:
        """The mean over both ends; padding is no place."""
        return cross_entropy(logits.masked_fill(~valid_BT[..., None], -torch.inf), targets)

    def r1(self, logits: Tensor, batch: Batch, reduction: Reduction) -> Tensor:
        """Summed over both ends; a divergence over places is divided by the rows, whatever ``reduction``."""
        logits_2, valid_2, units_2 = logits.chunk(2), batch.valid_MT.chunk(2), batch.units_MT.chunk(2)
        start, end = (
            objective.span_consistency(
                (logits_2[0][..., side], valid_2[0], units_2[0]),
                (logits_2[1][..., side], valid_2[1], units_2[1]),
            )
            for side in (0, 1)
        )
        return start + end

    def r2(self, target: Tensor, logits: Tensor, batch: Batch, reduction: Reduction) -> Tensor:
        """The mean over both ends."""
        valid_BT = batch.valid_MT[: len(batch.augmented_B)][batch.augmented_B]
        ends = [objective.span_divergence(target[..., end], logits[..., end], valid_BT) for end in (0, 1)]
        return (ends[0] + ends[1]) / 2

    def hard(self, logits: Tensor, targets: Tensor, valid_BT: Tensor) -> Tensor:
        return logits.masked_fill(~valid_BT[..., None], -torch.inf).argmax(1)

    def score(self, pipeline: EncoderPipeline, scored: Sequence[Question]) -> dict[str, float]:
        return score_answers(pipeline, scored)


def collate(
    plain: Sequence[View],
    augmented: Sequence[View],
    noisy_M: Sequence[bool],
    corpus: Sequence[bool],
    pad_id: int,
) -> Batch:
    """Rows and, if there are any, their augmentations as one batch; ``corpus``: which rows are augmented ones."""
    views = [*plain, *augmented]
    batch = padded([view.ids for view in views], pad_id)
    shape = batch.ids_BT.shape
    firsts_MT = torch.arange(shape[1]).repeat(shape[0], 1)
    units_MT = torch.zeros(shape, dtype=torch.bool)
    for row, view in enumerate(views):
        firsts_MT[row, : len(view.firsts)] = torch.tensor(view.firsts, dtype=torch.long)
        other = views[(row + len(plain)) % len(views)]
        places = [place for unit, place in sorted(view.units.items()) if unit in other.units]
        units_MT[row, places] = True
    tags = [view.target for view in plain if isinstance(view.target, list)]
    if tags:
        targets = padded(tags, NO_TARGET).ids_BT
        targets = nn.functional.pad(targets, (0, shape[1] - targets.shape[1]), value=NO_TARGET)
    else:
        targets = torch.tensor([view.target for view in plain])
    types_MT = padded([view.types for view in views], 0).ids_BT
    return Batch(
        batch.ids_BT,
        batch.valid_BT,
        types_MT,
        firsts_MT,
        units_MT,
        targets,
        torch.tensor(noisy_M),
        torch.tensor(corpus),
    )

"""Training batches of the three tasks: a pure function of (seed, step, shard).

Every item has a generator of its own, so that a step is the same however it is spread. Languages, and pairs of
languages, are drawn with probability ~ (number of texts) ** alpha; a text of the language is drawn with replacement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from multiway_core.errors import InputError

from multiway_text.data import corruption
from multiway_text.data.corruption import Ids, Vocabulary
from multiway_text.data.masked_batch import MaskedBatch, Part, collate, masked_row
from multiway_text.infoxlm.objective import Batch, Sides, mix
from multiway_text.packing import TokenFile

Item = TypeVar("Item", covariant=True)
IdsPair = tuple[Ids, Ids]
MASKING = corruption.BERT
STREAMS = ("mmlm", "tlm", "xlco", "queue")
"""Each has its own random numbers."""


class Pairs:
    """Translations in a token file: texts by turns of the one and the other language, each cut to ``room`` tokens.

    Raises InputError where there is none.
    """

    def __init__(self, tokens: TokenFile, end_id: int, room: int) -> None:
        self.ids, self.room = tokens.ids, room
        self.ends = np.flatnonzero(tokens.ids == end_id)
        if len(self) < 1:
            raise InputError("there is no pair of texts")

    def __len__(self) -> int:
        return len(self.ends) // 2

    def __getitem__(self, index: int) -> IdsPair:
        """Ids of both texts, int64."""
        start = 0 if index == 0 else int(self.ends[2 * index - 1]) + 1
        middle, end = self.ends[2 * index : 2 * index + 2].tolist()
        first_T, second_T = self.ids[start:middle], self.ids[middle + 1 : end]
        return first_T[: self.room].astype(np.int64), second_T[: self.room].astype(np.int64)


class Items(Protocol[Item]):
    """Texts of a language, or pairs of two."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item: ...


class Mixture(Generic[Item]):
    """Items of several languages, drawn with probability ~ size ** alpha."""

    def __init__(self, groups: Mapping[str, Items[Item]], alpha: float) -> None:
        self.groups = list(groups.values())
        shares = np.array([float(len(group)) for group in self.groups]) ** alpha
        self.shares = shares / shares.sum()

    def draw(self, generator: np.random.Generator, count: int = 1) -> list[Item]:
        """Items of one group, different ones where it has so many."""
        group = self.groups[int(generator.choice(len(self.groups), p=self.shares))]
        chosen = generator.choice(len(group), count, replace=len(group) < count)
        return [group[int(index)] for index in chosen]


class Batches:
    """What the trainer asks for its batches. A step has ``batch_size`` items of each task in ``tasks``.

    accumulation: shards of a step that each process works through.
    """

    def __init__(
        self,
        texts: Mixture[Ids],
        pairs: Mixture[IdsPair],
        words: Vocabulary,
        *,
        tasks: Sequence[str],
        batch_size: int,
        pad_id: int,
        mixup: bool = True,
        accumulation: int = 1,
        seed: int = 0,
    ) -> None:
        self.texts, self.pairs, self.words, self.pad_id, self.mixup = texts, pairs, words, pad_id, mixup
        self.tasks, self.batch_size, self.accumulation, self.seed = tasks, batch_size, accumulation, seed
        self._counted: tuple[int, dict[str, int]] = (-1, {})

    def __call__(self, step: int, shard: int, num_shards: int) -> Batch:
        """One shard of one step. Raises InputError where the shards do not divide the items."""
        if self.batch_size % num_shards:
            raise InputError(f"{num_shards} shards do not divide a batch of {self.batch_size}")
        own = self.batch_size // num_shards
        first = step * self.batch_size + shard * own
        items = range(first, first + own)
        return Batch(
            masked={task: self._masked(task, items) for task in self.tasks if task != "xlco"},
            hidden=self._hidden(step),
            sides=self.sides(items) if "xlco" in self.tasks else None,
            items=self.batch_size,
            own=own,
            is_first=shard % self.accumulation == 0,
            is_last=shard % self.accumulation == self.accumulation - 1,
        )

    def sides(self, items: range, stream: str = "xlco") -> Sides:
        """Items of the contrast: two pairs each with mixup (of one pair of languages), else one."""
        query: list[list[Part]] = []
        key: list[list[Part]] = []
        for item in items:
            generator = self._generator(stream, item)
            pairs = self.pairs.draw(generator, 2 if self.mixup else 1)
            for rows, texts in zip((query, key), mix(pairs, int(generator.integers(8))), strict=True):
                rows.append(masked_row(texts, self.words, MASKING, generator))
        return Sides(collate(query, self.pad_id), collate(key, self.pad_id))

    def before_training(self, keys: int) -> Iterator[Sides]:
        """Batches of ``keys`` items in all, whose keys fill the queue."""
        for start in range(0, keys, self.batch_size):
            yield self.sides(range(start, min(start + self.batch_size, keys)), "queue")

    def _hidden(self, step: int) -> dict[str, int]:
        """How many tokens the step hides in each task, in all shards: counted once a step, not once a shard."""
        counted, hidden = self._counted
        if counted != step:
            items = range(step * self.batch_size, (step + 1) * self.batch_size)
            hidden = {
                task: sum(MASKING.count(len(text_T)) for i in items for text_T in self._texts_of(task, i)[0])
                for task in self.tasks
                if task != "xlco"
            }
            self._counted = (step, hidden)
        return hidden

    def _masked(self, task: str, items: range) -> MaskedBatch:
        rows = []
        for item in items:
            texts, generator = self._texts_of(task, item)
            rows.append(masked_row(texts, self.words, MASKING, generator))
        return collate(rows, self.pad_id)

    def _texts_of(self, task: str, item: int) -> tuple[list[Ids], np.random.Generator]:
        """The texts of a row, those of a pair in either order, and the generator that drew them."""
        generator = self._generator(task, item)
        if task == "mmlm":
            return self.texts.draw(generator), generator
        texts = list(self.pairs.draw(generator)[0])
        return (texts[::-1] if generator.random() < 0.5 else texts), generator

    def _generator(self, stream: str, item: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, STREAMS.index(stream), item))

"""Rows of text in many languages: what is read, and how it becomes batches.

``{"text": ..., "language": "de", "id": ...}`` is a text; texts with one ``id`` say the same in several languages.
``{"src": ..., "tgt": ..., "language": "en"}`` is a text and its title, to fine-tune on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np
import torch
from multiway_core.errors import DataError, InputError
from multiway_core.tokenization import TextTokenizer
from torch import Tensor

from multiway_text.encoder.rows import Row, read_rows
from multiway_text.length_groups import LengthGroups
from multiway_text.xnlg.config import EOS, UNK, XnlgConfig
from multiway_text.xnlg.objective import Text

HELD_OUT, MAX_HELD_OUT = 50, 256


@dataclass
class Corpus:
    """Texts with their languages.

    Attributes:
        texts: (language, text). translations: pairs of places in ``texts``, in both directions.
        titles: (language, source, target).
    """

    texts: list[tuple[str, str]] = field(default_factory=list)
    translations: list[tuple[int, int]] = field(default_factory=list)
    titles: list[tuple[str, str, str]] = field(default_factory=list)

    @classmethod
    def read(cls, paths: Sequence[str], languages: Sequence[str]) -> Corpus:
        """The rows of JSON lines and tables. Raises InputError for no row, DataError with file and line."""
        corpus = cls()
        groups: dict[str, list[int]] = defaultdict(list)
        for row in read_rows(paths):
            language = _language(row, languages)
            if "src" in row.fields:
                corpus.titles.append((language, _text(row, "src"), _text(row, "tgt")))
                continue
            if row.fields.get("id") not in (None, ""):
                groups[str(row.fields["id"])].append(len(corpus.texts))
            corpus.texts.append((language, _text(row, "text")))
        if not corpus.texts and not corpus.titles:
            raise InputError(f"{', '.join(paths) or 'no file'}: there is nothing to learn from")
        for members in groups.values():
            corpus.translations += [
                (a, b) for a, b in permutations(members, 2) if corpus.texts[a][0] != corpus.texts[b][0]
            ]
        return corpus

    def lines(self) -> Iterable[tuple[str, str]]:
        """(language, text) of everything that is there to be written."""
        yield from self.texts
        yield from ((language, target) for language, _, target in self.titles)


@dataclass(frozen=True)
class Encoded:
    """A corpus as ids; every 50th row of a kind is held out."""

    texts: list[Text]
    translations: list[tuple[Text, Text]]
    titles: list[tuple[Text, Text]]

    @classmethod
    def of(cls, corpus: Corpus, tokenizer: TextTokenizer, config: XnlgConfig) -> Encoded:
        """The ids of a corpus."""

        def encode(items: Sequence[tuple[str, str]]) -> list[Text]:
            ids = tokenizer.encode_batch([text for _, text in items])
            return [
                Text(np.array(row, np.int64), config.language_id(language))
                for row, (language, _) in zip(ids, items, strict=True)
            ]

        texts = encode(corpus.texts)
        sources = encode([(language, source) for language, source, _ in corpus.titles])
        targets = encode([(language, target) for language, _, target in corpus.titles])
        translations = [(texts[a], texts[b]) for a, b in corpus.translations]
        return cls(texts, translations, list(zip(sources, targets, strict=True)))


def vocabularies(corpus: Corpus, tokenizer: TextTokenizer) -> dict[str, Tensor]:
    """By language the pieces that stand in its texts, with ``</s>`` and ``<unk>``: what decoding may write."""
    seen: dict[str, set[int]] = defaultdict(lambda: {EOS, UNK})
    lines = list(corpus.lines())
    for (language, _), ids in zip(lines, tokenizer.encode_batch([text for _, text in lines]), strict=True):
        seen[language].update(ids)
    return {language: torch.tensor(sorted(ids)) for language, ids in sorted(seen.items())}


class Source:
    """Batches of about equally long examples, a pure function of the step.

    ``make``: called with the examples of a batch and a generator. ``tokens``: of a batch, with padding.
    """

    def __init__(
        self,
        examples: Sequence[Any],
        lengths: Sequence[int],
        make: Callable[[list[Any], np.random.Generator], Any],
        *,
        tokens: int,
        seed: int,
    ) -> None:
        self.examples, self.make, self.seed = examples, make, seed
        self.groups = LengthGroups(lengths, tokens, seed=seed)

    def __call__(self, step: int, shard: int, num_shards: int) -> Any:
        """The batch of one shard of one step."""
        chosen = self.groups(step, shard, num_shards)
        return self.make([self.examples[i] for i in chosen], np.random.default_rng((self.seed, step, shard)))


def divided(rows: list[Any]) -> tuple[list[Any], list[Any]]:
    """(rows to train on, rows held out): every 50th, at most 256 of them; of fewer rows the first is scored."""
    taught = [row for number, row in enumerate(rows) if number % HELD_OUT != HELD_OUT - 1]
    return taught, rows[HELD_OUT - 1 :: HELD_OUT][:MAX_HELD_OUT] or rows[:1]


def _language(row: Row, languages: Sequence[str]) -> str:
    language = row.text("language")
    if language not in languages:
        raise DataError(
            f"{row.where}: language {language!r}: the model's languages are {', '.join(languages)}"
        )
    return language


def _text(row: Row, name: str) -> str:
    text = " ".join(row.text(name).split())
    if not text:
        raise DataError(f"{row.where}: {name} is empty")
    return text

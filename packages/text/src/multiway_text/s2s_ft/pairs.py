"""Pairs of a source and a target: from JSON lines to tokens to batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.data_files import read_text, shown
from multiway_core.errors import DataError, InputError
from multiway_core.tokenization import TextTokenizer

from multiway_text.data.corruption import Vocabulary
from multiway_text.data.masked_batch import MaskedBatch, collate
from multiway_text.length_groups import LengthGroups
from multiway_text.s2s_ft.config import Seq2SeqConfig
from multiway_text.s2s_ft.objective import Corruption, lay_out


@dataclass(frozen=True)
class Pair:
    """Text, or the names of tokens in the tokenizer's vocabulary."""

    source: str | list[str]
    target: str | list[str]


def read_pairs(paths: Sequence[str | Path], *, source: str = "src", target: str = "tgt") -> list[Pair]:
    """The pairs of JSON lines files: ``{"src": ..., "tgt": ...}``, each a string or a list of token names.

    Empty lines are skipped. Raises InputError for no pair at all, DataError that names file and line.
    """
    pairs = [pair for path in paths for pair in _pairs_in(Path(path), source, target)]
    if not pairs:
        raise InputError(f"{', '.join(map(str, paths)) or 'no file'}: there is no pair to learn from")
    return pairs


def _pairs_in(path: Path, source: str, target: str) -> Iterator[Pair]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(
                f'{where}: not JSON: expected an object such as {{"src": "...", "tgt": "..."}}'
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected an object, got {shown(row)}")
        yield Pair(_side(row, source, where), _side(row, target, where))


def _side(row: dict[str, Any], key: str, where: str) -> str | list[str]:
    if key not in row:
        there = ", ".join(map(str, list(row)[:8]))
        raise DataError(
            f"{where}: missing key {key!r}; there are {there or 'none'}; expected "
            '{"src": "...", "tgt": "..."}'
        )
    value = row[key]
    is_tokens = isinstance(value, list) and all(isinstance(item, str) for item in value)
    if not isinstance(value, str) and not is_tokens:
        raise DataError(f"{where}.{key}: expected a string or a list of token names, got {shown(value)}")
    if not (value.strip() if isinstance(value, str) else value):
        raise DataError(f"{where}.{key}: is empty")
    return value


def encode_sides(sides: Sequence[str | list[str]], tokenizer: TextTokenizer) -> list[list[int]]:
    """Ids without special tokens around them. Raises InputError for a token name that the vocabulary lacks."""
    texts = [side for side in sides if isinstance(side, str)]
    encoded = iter(tokenizer.encode_batch(texts) if texts else [])
    return [next(encoded) if isinstance(side, str) else _ids_of(side, tokenizer) for side in sides]


def _ids_of(names: list[str], tokenizer: TextTokenizer) -> list[int]:
    ids = [tokenizer.engine.token_to_id(name) for name in names]
    for name, found in zip(names, ids, strict=True):
        if found is None:
            raise InputError(
                f"the tokenizer has no token {name!r}; give text, or tokens of this model's vocabulary"
            )
    return [found for found in ids if found is not None]


class PairBatches:
    """Training batches of encoded pairs (source, target), a pure function of the step.

    ``tokens``: of a batch, with padding. Each pair is corrupted anew whenever it comes.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[list[int], list[int]]],
        config: Seq2SeqConfig,
        corruption: Corruption,
        vocabulary: Vocabulary,
        *,
        tokens: int,
        pad_id: int,
        seed: int = 0,
    ) -> None:
        self.pairs, self.config, self.corruption, self.vocabulary = pairs, config, corruption, vocabulary
        self.pad_id, self.seed = pad_id, seed
        copies = 2 if config.method == "pseudo_masked" else 1
        lengths = [
            min(len(source) + 2, config.max_source) + copies * min(len(target) + 1, config.max_target)
            for source, target in pairs
        ]
        self.groups = LengthGroups(lengths, tokens, seed=seed)

    def __call__(self, step: int, shard: int, num_shards: int) -> MaskedBatch:
        """The batch of one shard of one step."""
        return self.batch(self.groups(step, shard, num_shards), (self.seed, step, shard))

    def batch(self, indices: Sequence[int], seed: tuple[int, ...]) -> MaskedBatch:
        """These pairs, corrupted as the seed says."""
        generator = np.random.default_rng(seed)
        rows = [
            lay_out(*self.pairs[i], self.config, self.corruption, self.vocabulary, generator) for i in indices
        ]
        return collate(rows, self.pad_id)

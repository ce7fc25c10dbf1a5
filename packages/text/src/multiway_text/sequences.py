"""Texts as rows of token ids that stay apart, and batches of rows that are about equally long.

What encoders are trained on; causal models take packed sequences (`multiway_text.packing`). Texts are turned into ids
once and kept in one file; a batch is then a pure function of seed and step, as the trainer asks.

Shape suffixes: N tokens of all rows, B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from multiway_core import checkpoint as tensor_files
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from torch import Tensor

IDS_FILE = "sequences.safetensors"
_AT_ONCE = 1024  # texts


class Rows(NamedTuple):
    """Padded rows: ids int64 (B, T), bool (B, T) False at padding, and which rows these are, int64 (B,)."""

    ids_BT: Tensor
    valid_BT: Tensor
    index_B: Tensor


@dataclass(frozen=True)
class Sequences:
    """Rows one after the other: ids int32 (N,), and int64 where each row begins, with the end of the last."""

    ids_N: Tensor
    starts: Tensor

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> Tensor:
        """Ids of a row, int32 (T,)."""
        return self.ids_N[self.starts[row] : self.starts[row + 1]]

    @property
    def lengths(self) -> Tensor:
        """Int64, tokens of each row."""
        return self.starts.diff()

    @classmethod
    def encode(
        cls, texts: Iterable[str], tokenizer: TextTokenizer, length: int, *, max_rows: int = 0
    ) -> Sequences:
        """Texts with the model's special tokens around them; one over ``length`` tokens becomes several rows.

        ``max_rows``: about so many at most; 0 takes all.
        Raises InputError where there is no text, or ``length`` leaves no room for it.
        """
        room = length - len(tokenizer.add_special_tokens([])[0])
        if room < 1:
            raise InputError(f"a length of {length} tokens leaves no room for text")
        parts: list[np.ndarray] = []
        lengths: list[int] = []
        stream = iter(texts)
        while (not max_rows or len(parts) < max_rows) and (some := list(islice(stream, _AT_ONCE))):
            for ids in tokenizer.encode_batch(some):
                for start in range(0, len(ids), room):
                    row = tokenizer.add_special_tokens(ids[start : start + room])[0]
                    parts.append(np.asarray(row, np.int32))
                    lengths.append(len(row))
        if not parts:
            raise InputError("there is no text in the files")
        starts = torch.tensor([0, *lengths]).cumsum(0)
        return cls(torch.from_numpy(np.concatenate(parts)), starts)

    def save(self, folder: Path) -> None:
        """Write `IDS_FILE`. Raises OutputError."""
        folder.mkdir(parents=True, exist_ok=True)
        tensor_files.save({"ids": self.ids_N, "starts": self.starts}, folder, filename=IDS_FILE)

    @classmethod
    def load(cls, folder: Path) -> Sequences:
        """What :meth:`save` wrote. Raises CheckpointError."""
        tensors = tensor_files.read(folder / IDS_FILE)
        return cls(tensors["ids"], tensors["starts"])

    def rows(self, index: Sequence[int], pad: int) -> Rows:
        """Some rows side by side, padded on the right."""
        chosen = torch.tensor(index)
        lengths_B = self.lengths[chosen]
        places_T = torch.arange(int(lengths_B.max()))
        valid_BT = places_T < lengths_B[:, None]
        where_BT = (self.starts[chosen, None] + places_T).clamp(max=len(self.ids_N) - 1)
        ids_BT = torch.where(valid_BT, self.ids_N[where_BT].long(), pad)
        return Rows(ids_BT, valid_BT, chosen)


class SequenceBatches:
    """Batches of ``tokens`` tokens with padding, in an order that the seed decides: all rows once an epoch.

    index: the rows that are used; all by default. Raises InputError where ``tokens`` do not hold the longest row.
    """

    def __init__(
        self,
        sequences: Sequences,
        tokens: int,
        *,
        pad: int,
        seed: int = 0,
        index: Sequence[int] | None = None,
    ) -> None:
        self.index = torch.arange(len(sequences)) if index is None else torch.as_tensor(index)
        self.sequences, self.tokens, self.pad, self.seed = sequences, tokens, pad, seed
        self.lengths = sequences.lengths[self.index]
        if int(self.lengths.max()) > tokens:
            raise InputError(f"a batch of {tokens} tokens does not hold a row of {int(self.lengths.max())}")
        self._counts: list[int] = []
        self._latest: tuple[int, list[list[int]]] = (-1, [])

    def __call__(self, step: int, shard: int, num_shards: int) -> Rows:
        """The rows of one shard of one step."""
        number, epoch = step * num_shards + shard, 0
        while epoch < len(self._counts) and number >= self._counts[epoch]:
            number, epoch = number - self._counts[epoch], epoch + 1
        while number >= len(self._groups(epoch)):
            number, epoch = number - len(self._groups(epoch)), epoch + 1
        return self.sequences.rows(self.index[self._groups(epoch)[number]].tolist(), self.pad)

    def all(self) -> list[Rows]:
        """Every row once, short ones first, for scores."""
        groups = group_by_length(self.lengths, self.tokens)
        return [self.sequences.rows(self.index[group].tolist(), self.pad) for group in groups]

    def _groups(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch; the latest are kept, and of the others their number."""
        if self._latest[0] != epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            # Lengths with some noise, so that neighbours differ from epoch to epoch.
            noisy = self.lengths * (1 + 0.2 * torch.rand(len(self.lengths), generator=generator))
            groups = group_by_length(self.lengths, self.tokens, noisy)
            order = torch.randperm(len(groups), generator=generator).tolist()
            self._latest = epoch, [groups[i] for i in order]
            if epoch == len(self._counts):
                self._counts.append(len(groups))
        return self._latest[1]


def group_by_length(lengths: Tensor, tokens: int, keys: Tensor | None = None) -> list[list[int]]:
    """Indices in groups of at most ``tokens`` places with padding, in the order of ``keys`` (of ``lengths``)."""
    groups: list[list[int]] = [[]]
    sizes, longest = lengths.tolist(), 0
    for i in (lengths if keys is None else keys).argsort(stable=True).tolist():
        longest = max(longest, sizes[i])
        if groups[-1] and longest * (len(groups[-1]) + 1) > tokens:
            groups.append([])
            longest = sizes[i]
        groups[-1].append(i)
    return groups

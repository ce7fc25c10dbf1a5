"""Token ids on disk, and training batches of packed sequences: documents one after the other, without padding.

Texts are turned into ids once and kept in a file that is mapped, not read; a batch is then a pure function of seed and
step, as the trainer asks (it resumes exactly). :class:`Packed` is for streams that are too large for a file.

Shape suffixes: B rows, T tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from multiway_core import config, files
from multiway_core.errors import DataError, InputError
from multiway_core.tokenization import TextTokenizer
from torch import Tensor

from multiway_text.documents import Document, Position

IDS_FILE, FACTS_FILE = "tokens.bin", "tokens.json"
_WRITE = 1 << 20  # ids held before they are written
_CHUNK = 100_000  # characters that are turned into ids at once: time grows linearly, and memory stays


def document_ids(tokenizer: TextTokenizer, text: str) -> list[int]:
    """A whole document: its beginning, its text, its end (where the tokenizer has such tokens)."""
    ids = [] if tokenizer.begin_id is None else [tokenizer.begin_id]
    for start in range(0, len(text), _CHUNK):
        ids += tokenizer.encode(text[start : start + _CHUNK])
    return ids + ([tokenizer.end_ids[-1]] if tokenizer.end_ids else [])


class Packed:
    """Sequences of ``length`` ids from a stream of documents; what does not fill one stays for the next.

    ``state()`` after a sequence, given back as ``state``, resumes behind it together with a stream of documents that
    starts at its position.
    """

    def __init__(
        self,
        documents: Iterable[Document],
        tokenizer: TextTokenizer,
        length: int,
        state: dict | None = None,
    ) -> None:
        if length < 1:
            raise InputError(f"a sequence has at least 1 token, not {length}")
        self.documents, self.tokenizer, self.length = documents, tokenizer, length
        self.position = Position(**state["position"]) if state else Position()
        self.rest: list[int] = list(state["rest"]) if state else []

    def state(self) -> dict:
        """JSON-ready: the position behind the documents taken, and their ids that were not given out."""
        return {"position": vars(self.position).copy(), "rest": list(self.rest)}

    def __iter__(self) -> Iterator[Tensor]:
        for document in self.documents:
            self.rest += document_ids(self.tokenizer, document.text)
            self.position = document.next
            while len(self.rest) >= self.length:
                sequence, self.rest = self.rest[: self.length], self.rest[self.length :]
                yield torch.tensor(sequence)


@dataclass(frozen=True)
class TokenFile:
    """Ids on disk, mapped."""

    ids: np.ndarray
    """(count,) uint16 or uint32."""
    vocab_size: int
    documents: int
    num_bytes: int
    """Of the texts in UTF-8."""

    @classmethod
    def write(
        cls,
        folder: Path,
        documents: Iterable[Document],
        tokenizer: TextTokenizer,
        *,
        max_tokens: int | None = None,
    ) -> TokenFile:
        """Write the ids of documents (at most about ``max_tokens``) into a folder, and open it.

        Raises InputError when there is no text, OutputError.
        """
        dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
        count = number = size = 0
        held: list[int] = []
        folder.mkdir(parents=True, exist_ok=True)
        with files.atomic_write(folder / IDS_FILE) as file:
            for document in documents:
                held += document_ids(tokenizer, document.text)
                number += 1
                size += len(document.text.encode("utf-8", "replace"))
                if len(held) >= _WRITE:
                    file.write(np.asarray(held, dtype).tobytes())
                    count, held = count + len(held), []
                if max_tokens is not None and count + len(held) >= max_tokens:
                    break
            file.write(np.asarray(held, dtype).tobytes())
            count += len(held)
        if not number:
            raise InputError("there is no text in the files")
        facts = {
            "dtype": np.dtype(dtype).name,
            "count": count,
            "vocab_size": tokenizer.vocab_size,
            "documents": number,
            "num_bytes": size,
        }
        files.write_text(folder / FACTS_FILE, json.dumps(facts) + "\n")
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> TokenFile:
        """Raises DataError for a folder that :meth:`write` did not write whole, ConfigError."""
        facts = config.read_json(folder / FACTS_FILE)
        try:
            dtype = np.dtype(facts["dtype"])
            ids = np.memmap(folder / IDS_FILE, dtype=dtype, mode="r")
            numbers = [int(facts[name]) for name in ("vocab_size", "documents", "num_bytes")]
            count = int(facts["count"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{folder}: its tokens cannot be read: {error}") from error
        if len(ids) != count or dtype.kind != "u":
            raise DataError(f"{folder}: {len(ids)} tokens, expected {count}: damaged")
        return cls(ids, *numbers)


class PackedBatches:
    """Training batches from ids: a pure function of (seed, step, shard), as the trainer asks.

    Sequences of ``length + 1`` ids that follow one another, each ``length`` behind the one before (the extra one is the
    last target). Every epoch takes them in a new order, shifted by a new amount. A step has ``batch_size`` rows, shared
    out among its shards. Raises InputError when the ids do not fill one sequence.
    """

    def __init__(self, tokens: TokenFile, length: int, batch_size: int, seed: int = 0) -> None:
        if length < 2 or batch_size < 1:
            raise InputError(
                f"sequences have at least 2 tokens and batches 1 row, not {length} and {batch_size}"
            )
        fit = (len(tokens.ids) - 1) // length
        if fit < 1:
            raise InputError(
                f"the texts have {len(tokens.ids)} tokens, and a sequence needs {length + 1}: "
                "give more text or shorter sequences"
            )
        self.tokens, self.length, self.batch_size, self.seed = tokens, length, batch_size, seed
        self.per_epoch = max(fit - 1, 1)  # the shift costs one where there are several
        self._orders: dict[int, tuple[np.ndarray, int]] = {}

    def __call__(self, step: int, shard: int, num_shards: int) -> Tensor:
        """Int64 (B, length + 1)."""
        if self.batch_size % num_shards:
            raise InputError(f"{num_shards} shards do not divide a batch of {self.batch_size}")
        rows = self.batch_size // num_shards
        first = step * self.batch_size + shard * rows
        return torch.stack([self._sequence(index) for index in range(first, first + rows)])

    def _sequence(self, index: int) -> Tensor:
        epoch, place = divmod(index, self.per_epoch)
        order, shift = self._epoch(epoch)
        start = shift + int(order[place]) * self.length
        return torch.from_numpy(self.tokens.ids[start : start + self.length + 1].astype(np.int64))

    def _epoch(self, epoch: int) -> tuple[np.ndarray, int]:
        """The order of an epoch's sequences, and their shift; the latest two are kept."""
        if epoch not in self._orders:
            generator = np.random.default_rng((self.seed, epoch))
            spare = len(self.tokens.ids) - 1 - self.per_epoch * self.length
            shift = int(generator.integers(0, min(spare, self.length) + 1))
            kept = {e: order for e, order in self._orders.items() if abs(e - epoch) <= 1}
            self._orders = {**kept, epoch: (generator.permutation(self.per_epoch), shift)}
        return self._orders[epoch]

"""The static key/value cache of a decoder, and the one call the decode loop makes to a model.

Shape legend: B rows, H key/value heads, S filled slots, T new tokens, D head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

import torch
from torch import BoolTensor, LongTensor, Tensor

from multiway_core.errors import InputError


class StaticKVCache:
    """Keys and values of every layer in memory that is allocated once.

    All rows share one `length`: a shorter row is left-padded, and `valid_BS` says which slots hold real
    tokens. A slot may also be invalid in the middle (a rejected draft token), so a model takes a token's
    position from the number of valid slots before it, `num_valid_B`, and never from the slot's index.

    One step of a model: `update` once in every layer, then `advance` once.

        cache = StaticKVCache(num_layers=24, batch_size=1, num_heads=16, head_dim=96, max_length=4096)
        keys_BHSD, values_BHSD = cache.update(layer, key_BHTD, value_BHTD)
        cache.advance(valid_BT)

    Args:
        num_layers: number of attention layers.
        batch_size: rows.
        num_heads: key/value heads (fewer than the query heads in grouped-query attention).
        head_dim: size of one head.
        max_length: slots, prompt and generated tokens together.
        dtype: of keys and values.
        device: of everything here.
    """

    def __init__(
        self,
        num_layers: int,
        batch_size: int,
        num_heads: int,
        head_dim: int,
        max_length: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (batch_size, num_heads, max_length, head_dim)
        # `empty`, not `zeros`: on a CPU the pages of slots that are never filled are never committed.
        self._keys = [torch.empty(shape, dtype=dtype, device=device) for _ in range(num_layers)]
        self._values = [torch.empty(shape, dtype=dtype, device=device) for _ in range(num_layers)]
        self._valid = torch.zeros(batch_size, max_length, dtype=torch.bool, device=device)
        self._num_valid = torch.zeros(batch_size, dtype=torch.long, device=device)
        self.batch_size = batch_size
        self.max_length = max_length
        self.length = 0
        # Whether all filled slots are known to be real without asking the device.
        self.all_valid = True

    @property
    def num_layers(self) -> int:
        return len(self._keys)

    @property
    def dtype(self) -> torch.dtype:
        return self._keys[0].dtype

    @property
    def device(self) -> torch.device:
        return self._valid.device

    @property
    def valid_BS(self) -> Tensor:
        """Bool (batch, max_length): True where a slot holds a real token. A view, not to be written to."""
        return self._valid[: self.batch_size]

    @property
    def num_valid_B(self) -> Tensor:
        """Int64 (batch,): real tokens in every row, which is the index of the row's next token."""
        return self._num_valid[: self.batch_size]

    def require(self, tokens: int) -> None:
        """Raise InputError unless `tokens` more slots are free."""
        if self.length + tokens > self.max_length:
            raise InputError(
                f"sequence too long: {self.length} tokens are in the key/value cache and {tokens} more do not"
                f" fit its max_length of {self.max_length}; shorten the prompt, lower max_new_tokens or raise"
                " max_length"
            )

    def update(self, layer: int, key_BHTD: Tensor, value_BHTD: Tensor) -> tuple[Tensor, Tensor]:
        """Write T new slots of one layer; return views (batch, heads, length + T, head_dim) of all so far.

        Raises InputError when the slots do not fit `max_length`.
        """
        tokens = key_BHTD.shape[2]
        self.require(tokens)
        end = self.length + tokens
        keys, values = self._keys[layer], self._values[layer]
        if len(keys) != self.batch_size:
            keys, values = keys[: self.batch_size], values[: self.batch_size]
        keys.narrow(2, self.length, tokens).copy_(key_BHTD)
        values.narrow(2, self.length, tokens).copy_(value_BHTD)
        return keys.narrow(2, 0, end), values.narrow(2, 0, end)

    def slots(self, layer: int) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer, (at least batch, heads, max_length, head_dim) contiguous, to be written to.

        For machine code that writes the next slot by itself, behind `require`.
        """
        return self._keys[layer], self._values[layer]

    def advance(self, valid_BT: BoolTensor | Tensor, *, all_valid: bool = False) -> None:
        """Count the T slots that every layer has just written; False marks padding.

        ``all_valid``: the caller knows that all are real, which `self.all_valid` keeps in mind. On a CPU it is seen.
        """
        self.all_valid = self.all_valid and (all_valid or _is_seen(valid_BT))
        end = self.length + valid_BT.shape[1]
        self.valid_BS[:, self.length : end] = valid_BT
        self.num_valid_B.add_(valid_BT.sum(dim=1))
        self.length = end

    def select(self, rows: LongTensor | Tensor) -> None:
        """Make row i what row `rows[i]` was: keep, reorder or repeat rows (`rows` int64, any number of them).

        Only rows that move are copied, and only their filled slots. Memory is allocated only when there are
        more rows than ever before.
        """
        count = len(rows)
        sources = rows.to("cpu", torch.long)
        grows = count > len(self._valid)
        # On growth everything goes to new memory; otherwise a row that stays in its place is not touched.
        targets = torch.arange(count) if grows else (sources != torch.arange(count)).nonzero()[:, 0]
        if len(targets):
            sources = sources[targets].to(self.device)
            targets = targets.to(self.device)
            for tensors in (self._keys, self._values):
                for layer, old in enumerate(tensors):  # layer by layer: the peak is one layer above the total
                    moved = old[:, :, : self.length].index_select(0, sources)
                    if grows:
                        tensors[layer] = old.new_empty(count, *old.shape[1:])
                        tensors[layer][:, :, : self.length] = moved
                    else:
                        old[:, :, : self.length].index_copy_(0, targets, moved)
            moved_valid, moved_count = self._valid[sources], self._num_valid[sources]
            if grows:
                self._valid, self._num_valid = moved_valid, moved_count
            else:
                self._valid[targets] = moved_valid
                self._num_valid[targets] = moved_count
        self.batch_size = count

    def copy_from(self, other: StaticKVCache, rows: LongTensor | Tensor) -> None:
        """Fill this empty cache: row i gets the filled slots of `other`'s row `rows[i]` (int64, batch_size).

        `other` stays as it is, so a prefix that was read once can be continued any number of times. Raises
        InputError when its slots do not fit `max_length`.
        """
        if self.length or len(rows) != self.batch_size:
            raise ValueError(
                f"{len(rows)} rows for a cache of {self.batch_size} with {self.length} slots filled"
            )
        self.require(other.length)
        sources, filled = rows.to(self.device), slice(0, other.length)
        for own, theirs in ((self._keys, other._keys), (self._values, other._values)):
            for mine, layer in zip(own, theirs, strict=True):
                part = layer[: other.batch_size, :, filled]
                mine[:, :, filled] = (
                    part if len(part) == 1 else part[sources]
                )  # one row for all needs no copy
        self._valid[:, filled] = other.valid_BS[sources, filled]
        self._num_valid[:] = other.num_valid_B[sources]
        self.length, self.all_valid = other.length, other.all_valid

    def truncate(self, length: int) -> None:
        """Forget the slots from `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate a cache of {self.length} slots to {length}")
        self.num_valid_B.sub_(self.valid_BS[:, length : self.length].sum(dim=1))
        self.valid_BS[:, length : self.length] = False
        self.length, self.all_valid = length, self.all_valid or length == 0

    def invalidate(self, mask_BT: BoolTensor | Tensor) -> None:
        """Mark slots among the last T as not real where `mask_BT` is True (a row's rejected draft tokens)."""
        self.all_valid = self.all_valid and _is_seen(~mask_BT)
        tail = self.valid_BS[:, self.length - mask_BT.shape[1] : self.length]
        self.num_valid_B.sub_((tail & mask_BT).sum(dim=1))
        tail.logical_and_(~mask_BT)

    def defragment(self) -> None:
        """Move every row's valid slots together, which frees the slots of rejected tokens."""
        length = int(self.num_valid_B.max())
        # A stable sort by validity: valid slots last and in their order, so rows stay left-padded.
        order_BS = (
            self.valid_BS[:, : self.length].long().argsort(dim=1, stable=True)[:, self.length - length :]
        )
        for filled in (*self._keys, *self._values):
            filled = filled[: self.batch_size]
            index = order_BS[:, None, :, None].expand(-1, filled.shape[1], -1, filled.shape[3])
            filled[:, :, :length] = filled.gather(2, index)
        self.valid_BS[:, : self.length] = False
        self.valid_BS[:, :length] = (
            torch.arange(length, device=self.device) >= length - self.num_valid_B[:, None]
        )
        self.length = length


def _is_seen(all_of: Tensor) -> bool:
    """Whether all are True, where that can be seen without waiting for a device; else False."""
    return all_of.is_cpu and not torch.compiler.is_compiling() and bool(all_of.all())


def without(count: int, ended: Set[int]) -> Tensor:
    """Of `count` rows those that go on, as int64 indices for `select`, with holes filled from the end.

    Few rows move: dropping a row copies at most one other row's cache, about as much memory traffic as that
    row's own attention in one or two steps, while a finished row that stays would cost a whole step every
    time. So rows are dropped as soon as they end.
    """
    left = count - len(ended)
    movers = (row for row in range(left, count) if row not in ended)
    return torch.tensor([next(movers) if row in ended else row for row in range(left)], dtype=torch.long)


class DecodeStep(Protocol):
    """What the decode loop asks of a model: append tokens to the cache, predict what follows the last one."""

    def __call__(self, tokens_BT: LongTensor | Tensor, cache: StaticKVCache) -> Tensor:
        """Int64 tokens (batch, T) -> float logits (batch, vocabulary) of the last position.

        The model calls `cache.update` in every layer and `cache.advance` once. All T tokens are real.
        """
        ...

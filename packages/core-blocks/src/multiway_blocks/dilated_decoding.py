"""Dilated attention of new tokens behind a cache: strided slices of what is kept, and nothing else is read.

A new token at position n looks, in branch (w, R), at the tokens ``s + o, s + o + R, ...`` up to n, s being the start of
its segment, if n itself is one of them: the sum of w / R keys, however long the sequence is.

Shape suffixes: B batch, H heads, T new tokens, S all slots so far, D head dim.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import torch
from multiway_core.generation import StaticKVCache
from torch import Tensor

from multiway_blocks.dilated_branches import Branches, HeadGroup, HeadOffset, head_groups
from multiway_blocks.dilated_pattern import DilatedPattern
from multiway_blocks.partial_attention import MISSING, attend_part, merge


class SegmentCache:
    """Keys and values that later tokens of the running segments may see: a size that no length changes.

    For every layer and branch the kept tokens of the segment that is being filled, at most ``ceil(w / R)`` a head. So a
    sequence of any length can be read in chunks (:meth:`advance` once a chunk, behind all layers).
    """

    def __init__(
        self,
        num_layers: int,
        batch_size: int,
        num_heads: int,
        head_dim: int,
        branches: Branches,
        *,
        head_offset: HeadOffset = "block",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.branches = list(branches)
        self.groups = [head_groups(num_heads, dilation, head_offset) for _, dilation in branches]
        self.length = 0
        # `empty`: pages that are never filled are never committed.
        self._kept = [
            [
                torch.empty(
                    2, batch_size, num_heads, -(-length // dilation), head_dim, dtype=dtype, device=device
                )
                for length, dilation in branches
            ]
            for _ in range(num_layers)
        ]

    def num_bytes(self) -> int:
        """Of all that is allocated."""
        return sum(kept.nbytes for layer in self._kept for kept in layer)

    def past(self, layer: int, branch: int, group: HeadGroup, start: int) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads of the group, count, D) of the segment from ``start`` so far."""
        dilation = self.branches[branch][1]
        count = -(-(self.length - start - group.offset) // dilation)
        kept = self._kept[layer][branch][:, :, group.heads, : max(count, 0)]
        return kept[0], kept[1]

    def store(self, layer: int, key_BHTD: Tensor, value_BHTD: Tensor) -> None:
        """Keep what later tokens may see of T new ones, which stand behind ``length``."""
        end = self.length + key_BHTD.shape[2]
        for branch, (length, dilation) in enumerate(self.branches):
            start = (end - 1) // length * length
            begin = max(start, self.length)
            for group in self.groups[branch]:
                first = begin + (start + group.offset - begin) % dilation
                new = slice(first - self.length, None, dilation)
                place = (first - start - group.offset) // dilation
                for kept, x in zip(self._kept[layer][branch], (key_BHTD, value_BHTD), strict=True):
                    rows = x[:, group.heads, new]
                    kept[:, group.heads, place : place + rows.shape[2]] = rows

    def advance(self, count: int) -> None:
        """Count new tokens, which every layer has stored."""
        self.length += count


Past = Callable[[int, HeadGroup, int], tuple[Tensor, Tensor]]
"""(branch, heads, start of the segment) -> keys and values that the segment has so far."""


@torch.no_grad()
def attend_behind(
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    start: int,
    pattern: DilatedPattern,
    past: Past,
) -> Tensor:
    """Causal dilated attention of T new tokens at positions ``start`` ...: (B, H, T, D).

    Equals the last T rows of :func:`multiway_blocks.dilated_pattern.dilated_attend`. No gradients.
    """
    wide = torch.promote_types(query_BHTD.dtype, torch.float32)
    out_BHTD = torch.zeros_like(query_BHTD, dtype=wide)
    lse_BHT = torch.full(query_BHTD.shape[:3], float("-inf"), dtype=wide, device=query_BHTD.device)
    stop = start + query_BHTD.shape[2]
    for branch, (length, dilation) in enumerate(pattern.branches):
        groups = head_groups(query_BHTD.shape[1], dilation, pattern.head_offset)
        for segment in range(start // length * length, stop, length):
            begin, end = max(segment, start), min(segment + length, stop)
            for group in groups:
                first = begin + (segment + group.offset - begin) % dilation
                if first >= end:
                    continue
                rows = slice(first - start, end - start, dilation)
                query, key, value = (x[:, group.heads, rows] for x in (query_BHTD, key_BHTD, value_BHTD))
                parts = [attend_part(query, key, value, causal=True)]
                if begin > segment:
                    keys, values = past(branch, group, segment)
                    if keys.shape[2]:
                        parts.append(attend_part(query, keys, values))
                result, lse = merge(parts)
                if not pattern.mask_padding:
                    lse = lse.masked_fill(lse == 0, MISSING)
                _add(out_BHTD[:, group.heads, rows], lse_BHT[:, group.heads, rows], result, lse)
    return out_BHTD.to(query_BHTD.dtype)


def _add(out: Tensor, lse: Tensor, result: Tensor, its_lse: Tensor) -> None:
    """Merge one more result into ``out`` and ``lse``, in place."""
    total = torch.logaddexp(lse, its_lse)
    out.mul_((lse - total).exp()[..., None]).add_(result * (its_lse - total).exp()[..., None])
    lse.copy_(total)


def attend_streamed(
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    pattern: DilatedPattern,
    cache: SegmentCache,
    layer: int,
) -> Tensor:
    """New tokens of one layer behind a cache of segments, which takes their keys and values: (B, H, T, D)."""

    def past(branch: int, group: HeadGroup, segment: int) -> tuple[Tensor, Tensor]:
        return cache.past(layer, branch, group, segment)

    mixed = attend_behind(query_BHTD, key_BHTD, value_BHTD, cache.length, pattern, past)
    cache.store(layer, key_BHTD, value_BHTD)
    return mixed


def attend_padded(
    query_BHTD: Tensor, key_BHTD: Tensor, value_BHTD: Tensor, mask_B11T: Tensor, pattern: DilatedPattern
) -> Tensor:
    """All tokens at once, the real ones of each row by themselves; zeros at padding: (B, H, T, D)."""
    mixed = torch.zeros_like(query_BHTD)
    for rows, slots in _runs(mask_B11T[:, 0, 0].expand(len(query_BHTD), -1)):
        real = _range(slots)
        mixed[rows, :, real] = pattern.attend(
            *(x[rows][:, :, real] for x in (query_BHTD, key_BHTD, value_BHTD))
        )
    return mixed


def attend_cached(
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    mask_B11T: Tensor | None,
    pattern: DilatedPattern,
    cache: StaticKVCache,
    layer: int,
) -> Tensor:
    """New tokens of one layer behind a cache of all keys and values, which takes theirs: (B, H, T, D)."""
    batch, _, tokens, _ = query_BHTD.shape
    earlier = cache.length
    keys_BHSD, values_BHSD = cache.update(layer, key_BHTD, value_BHTD)
    valid_BT = torch.ones(batch, tokens, dtype=torch.bool, device=query_BHTD.device)
    if mask_B11T is not None:
        valid_BT = mask_B11T[:, 0, 0].expand(batch, -1)
    mixed = torch.zeros_like(query_BHTD)
    for rows, slots in _runs(torch.cat([cache.valid_BS[:, :earlier], valid_BT], dim=1)):
        count = int((slots < earlier).sum())
        if count == len(slots):
            continue  # nothing new in these rows
        new = _range(slots[count:] - earlier)
        query, key, value = (x[rows][:, :, new] for x in (query_BHTD, key_BHTD, value_BHTD))
        if count == 0:
            mixed[rows, :, new] = pattern.attend(query, key, value)
        else:
            past = _slices(pattern.branches, keys_BHSD[rows], values_BHSD[rows], _range(slots[:count]))
            mixed[rows, :, new] = attend_behind(query, key, value, count, pattern, past)
    return mixed


def _runs(valid_BS: Tensor) -> list[tuple[slice, Tensor]]:
    """Neighbouring rows with the same real slots, and these slots, at least one."""
    if bool(valid_BS.all()):
        return [(slice(None), torch.arange(valid_BS.shape[1]))]
    runs = []
    for pattern, rows in groupby(range(len(valid_BS)), key=lambda row: valid_BS[row].tolist()):
        members = list(rows)
        if any(pattern):
            runs.append((slice(members[0], members[-1] + 1), torch.tensor(pattern).nonzero()[:, 0]))
    return runs


def _range(slots: Tensor) -> slice | Tensor:
    """Increasing slots as a slice if there are no holes: views instead of copies."""
    first, last = int(slots[0]), int(slots[-1])
    return slice(first, last + 1) if last - first + 1 == len(slots) else slots


def _slices(branches: Branches, keys_BHSD: Tensor, values_BHSD: Tensor, slots: slice | Tensor) -> Past:
    """Strided slices of what lies in these slots of a cache."""
    keys, values = keys_BHSD[:, :, slots], values_BHSD[:, :, slots]

    def past(branch: int, group: HeadGroup, segment: int) -> tuple[Tensor, Tensor]:
        part = slice(segment + group.offset, None, branches[branch][1])
        return keys[:, group.heads, part], values[:, group.heads, part]

    return past

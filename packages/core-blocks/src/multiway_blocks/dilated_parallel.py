"""Dilated attention over several processes, each with its part of the tokens (LongNet, section 3).

Process r of R holds the tokens r n ... (r + 1) n - 1. A branch whose segments lie within one part is computed there.
For longer segments the kept keys and values are gathered over the processes that share the segment: n / dilation rows
from each, so what is sent does not grow with the sequence as long as w / dilation does not.

Shape suffixes: B batch, H heads, T own tokens, M kept ones, P processes of a segment, D head dim.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from multiway_core.errors import InputError
from torch import Tensor
from torch.distributed import ProcessGroup

from multiway_blocks.dilated_branches import Branch, mix
from multiway_blocks.dilated_pattern import DilatedPattern
from multiway_blocks.partial_attention import MISSING, attend_part, merge

_segments: WeakKeyDictionary[ProcessGroup, dict[range, ProcessGroup]] = WeakKeyDictionary()


def attend_parallel(
    query_BHTD: Tensor, key_BHTD: Tensor, value_BHTD: Tensor, pattern: DilatedPattern, group: ProcessGroup
) -> Tensor:
    """This process's rows of :func:`multiway_blocks.dilated_pattern.dilated_attend` over all tokens: (B, H, T, D).

    Every process of ``group`` calls it with equally many tokens, also in the backward pass. Raises InputError unless
    each segment length divides the tokens of a process, or is a multiple of them that its dilation divides.
    """
    heads, tokens = query_BHTD.shape[1:3]
    size = dist.get_world_size(group)
    outputs, sums = [], []
    for length, dilation in pattern.branches:
        length = min(length, tokens * size)
        longer = length > tokens
        if (length % tokens or tokens % dilation) if longer else tokens % length:
            raise InputError(
                f"dilated attention over {size} processes: {tokens} tokens a process do not fit the segment length "
                f"{length} with dilation {dilation}; one must be a multiple of the other"
                + (", and the dilation must divide them" if longer else "")
            )
        part = Branch(heads, tokens, min(length, tokens), dilation, pattern.head_offset)
        if longer:
            query, key, value = (part.gather(x)[:, :, 0] for x in (query_BHTD, key_BHTD, value_BHTD))
            out, lse = _attend_shared(query, key, value, length // tokens, pattern.causal, group)
            out, lse = out[:, :, None], lse[:, :, None]
        else:
            out, lse = part.attend(query_BHTD, key_BHTD, value_BHTD, pattern.causal, pattern.mask_padding)
        outputs.append(part.scatter(out, 0.0))
        sums.append(part.scatter(lse[..., None], MISSING)[..., 0])
    return mix(outputs, sums, grad_through_mix=pattern.grad_through_mix, mask_padding=pattern.mask_padding)


def _attend_shared(
    query_BHMD: Tensor, key_BHMD: Tensor, value_BHMD: Tensor, sharing: int, causal: bool, group: ProcessGroup
) -> tuple[Tensor, Tensor]:
    """Attention of the own kept tokens in a segment of ``sharing`` processes: result and lse."""
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    first = rank // sharing * sharing
    members = range(first, min(first + sharing, size))
    place = rank - first
    both = torch.stack([key_BHMD, value_BHMD])
    gathered_P2BHMD = _Gather.apply(both, _segment_group(group, members), place)
    key_PBHMD, value_PBHMD = gathered_P2BHMD.unbind(dim=1)

    def rows(parts_PBHMD: Tensor) -> Tensor:
        return parts_PBHMD.permute(1, 2, 0, 3, 4).flatten(2, 3)

    if not causal:
        return attend_part(query_BHMD, rows(key_PBHMD), rows(value_PBHMD))
    # The own rows too come from what was gathered, so that every process has a backward pass of the gathering.
    parts = [attend_part(query_BHMD, key_PBHMD[place], value_PBHMD[place], causal=True)]
    if place:
        parts.append(attend_part(query_BHMD, rows(key_PBHMD[:place]), rows(value_PBHMD[:place])))
    return merge(parts)


def _segment_group(group: ProcessGroup, members: range) -> ProcessGroup:
    """The processes of one segment as a group, made once."""
    if len(members) == dist.get_world_size(group):
        return group
    made = _segments.setdefault(group, {})
    if members not in made:
        ranks = [dist.get_global_rank(group, member) for member in members]
        made[members] = dist.new_group(ranks, use_local_synchronization=True)
    return made[members]


class _Gather(torch.autograd.Function):
    """Everyone's tensor, stacked; backwards the sum over all of what each wants of one's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup, place: int) -> Tensor:
        ctx.group, ctx.place = group, place
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, x.contiguous(), group=group)
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].contiguous()
        own = torch.empty_like(gradient[0])
        dist.reduce_scatter(own, list(gradient), group=ctx.group)
        return own, None, None

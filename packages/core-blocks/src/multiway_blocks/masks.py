"""Visibility by rule: masks of causal, prefix, sequence-to-sequence and pseudo-masked language models, and of blocks.

Each token has a role and a step (UniLM, arXiv 1905.03197, section 2.3; UniLMv2, arXiv 2002.12804, section 3.2). Every
query sees all context; a true token also sees true tokens up to its own step; a pseudo mask sees true tokens of earlier
steps and the pseudo masks of its own step. Padding is seen by nobody.

==================  ==========================================================================
objective           roles and steps
==================  ==========================================================================
bidirectional       all context
left to right       all true, step = position (right to left: -position; blocks: number of the block)
prefix, seq2seq     source context, target true, step = index in the target
pseudo-masked       as above, with one pseudo mask for each target token, of the same step
==================  ==========================================================================

`visible` is the dense rule and the oracle of the tests. `attend_by_rule` computes the same attention without the dense
mask: context rows over context keys, true rows over context and true keys, pseudo rows over all three.

Shape suffixes: B batch, T tokens, P tokens ordered by role, G rows of a part, H heads, S keys, D head dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise

import torch
from multiway_core.errors import InputError
from torch import Tensor

from multiway_blocks.attention import attend


class Role(IntEnum):
    """What a token is to the others."""

    CONTEXT = 0
    TRUE = 1
    PSEUDO = 2


def prefix_roles(lengths_B: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
    """(roles, steps), (B, T) int64: the first ``lengths`` tokens of a row are context, the others true in order.

    Lengths of 0 make a causal language model.
    """
    index_T = torch.arange(num_tokens, device=lengths_B.device)
    steps_BT = index_T - lengths_B[:, None]
    return (steps_BT >= 0).long() * Role.TRUE, steps_BT.clamp(min=0)


def pseudo_masked_roles(num_context: int, steps_BN: Tensor) -> tuple[Tensor, Tensor]:
    """(roles, steps), (B, C + 2 N) int64, of C context tokens, N true tokens and their N pseudo masks in this order.

    ``steps_BN``: int64; tokens of one step are predicted at once (the blocks of UniLMv2).
    """
    count = steps_BN.shape[1]
    sizes = torch.tensor([num_context, count, count], device=steps_BN.device)
    roles_BT = torch.arange(3, device=steps_BN.device).repeat_interleave(sizes).expand(len(steps_BN), -1)
    return roles_BT, torch.cat([steps_BN.new_zeros(len(steps_BN), num_context), steps_BN, steps_BN], dim=1)


def visible(roles_BT: Tensor, steps_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
    """Who sees whom, (B, T, T) bool, True where the query (second index) may look at the key (third).

    ``roles_BT``: int64 of `Role`. ``steps_BT``: int64; unused for context. ``valid_BT``: bool, False for padding.
    """
    return _sees(roles_BT, steps_BT, valid_BT, slice(None), slice(None))


def _sees(roles: Tensor, steps: Tensor, valid: Tensor | None, rows: slice, keys: slice) -> Tensor:
    query_role, query_step = roles[:, rows, None], steps[:, rows, None]
    key_role, key_step = roles[:, None, keys], steps[:, None, keys]
    earlier = (query_role == Role.PSEUDO) & (key_step < query_step)
    true = (key_role == Role.TRUE) & (((query_role == Role.TRUE) & (key_step <= query_step)) | earlier)
    pseudo = (key_role == Role.PSEUDO) & (query_role == Role.PSEUDO) & (key_step == query_step)
    seen = (key_role == Role.CONTEXT) | true | pseudo
    return seen if valid is None else seen & valid[:, None, keys]


@dataclass(frozen=True)
class RuleLayout:
    """The parts of a batch's attention, made once by `rule_layout` for all layers.

    ``parts``: (rows, number of keys, mask or None) of tokens ordered by role. ``order_BP``: which token stands at each
    place of that order, ``place_BT`` the reverse; both None where tokens stand in that order already.
    """

    parts: Sequence[tuple[slice, int, Tensor | None]]
    order_BP: Tensor | None = None
    place_BT: Tensor | None = None

    def with_bias(self, bias_BHTT: Tensor) -> RuleLayout:
        """The layout with a bias of the scores, broadcastable to (B, H, T, T), such as relative positions."""
        if self.order_BP is not None:
            batch, heads = len(self.order_BP), bias_BHTT.shape[1]
            bias_BHTT = bias_BHTT.expand(batch, -1, -1, -1)
            rows = self.order_BP[:, None, :, None].expand(-1, heads, -1, bias_BHTT.shape[3])
            bias_BHTT = bias_BHTT.gather(2, rows)
            keys = self.order_BP[:, None, None].expand(-1, heads, bias_BHTT.shape[2], -1)
            bias_BHTT = bias_BHTT.gather(3, keys)
        parts = []
        for rows_G, keys_S, mask in self.parts:
            bias_BHGS = bias_BHTT[:, :, rows_G, :keys_S]
            parts.append(
                (rows_G, keys_S, bias_BHGS if mask is None else bias_BHGS.masked_fill(~mask, -torch.inf))
            )
        return replace(self, parts=parts)


def rule_layout(roles_BT: Tensor, steps_BT: Tensor, valid_BT: Tensor | None = None) -> RuleLayout:
    """How `attend_by_rule` divides a batch. Arguments as for `visible`. Raises InputError for shapes that differ."""
    if roles_BT.ndim != 2 or steps_BT.shape != roles_BT.shape:
        raise InputError(
            f"roles are {tuple(roles_BT.shape)} and steps {tuple(steps_BT.shape)}, expected (B, T) both"
        )
    valid_BT = torch.ones_like(roles_BT, dtype=torch.bool) if valid_BT is None else valid_BT
    counts_3 = torch.stack([(roles_BT == role).sum(1) for role in Role], dim=1).amax(0)
    first = [0, *counts_3.cumsum(0).tolist()]
    order_BP, place_BT = None, None
    ordered = torch.arange(3, device=roles_BT.device).repeat_interleave(counts_3)
    if len(ordered) != roles_BT.shape[1] or not torch.equal(ordered.expand_as(roles_BT), roles_BT):
        order_BP, place_BT, roles_BT, steps_BT, valid_BT = _by_role(
            roles_BT, steps_BT, valid_BT, first, ordered
        )
    parts: list[tuple[slice, int, Tensor | None]] = []
    for start, end in pairwise(first):
        if start == end:
            continue
        # Rows of context see alike.
        rows = slice(start, start + 1) if start == 0 and counts_3[0] else slice(start, end)
        mask = _sees(roles_BT, steps_BT, valid_BT, rows, slice(end))[:, None]
        mask = mask | ~mask.any(-1, keepdim=True)  # padding that sees nobody would become NaN
        parts.append((slice(start, end), end, None if mask.all() else mask))
    return RuleLayout(parts, order_BP, place_BT)


def _by_role(
    roles_BT: Tensor, steps_BT: Tensor, valid_BT: Tensor, first: list[int], ordered_P: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(order, place, roles, steps, valid) behind a stable sort of each row by role, padded to common parts."""
    place_BT = torch.zeros_like(roles_BT)
    for role in Role:
        own = roles_BT == role
        place_BT = torch.where(own, own.cumsum(1) - 1 + first[role], place_BT)
    shape = (len(roles_BT), len(ordered_P))
    index_BT = torch.arange(roles_BT.shape[1], device=roles_BT.device).expand_as(roles_BT)
    order_BP = roles_BT.new_zeros(shape).scatter_(1, place_BT, index_BT)
    steps_BP = steps_BT.new_zeros(shape).scatter_(1, place_BT, steps_BT)
    valid_BP = valid_BT.new_zeros(shape).scatter_(1, place_BT, valid_BT)
    return order_BP, place_BT, ordered_P.expand(shape), steps_BP, valid_BP


def attend_by_rule(
    query_BHTD: Tensor, key_BHTD: Tensor, value_BHTD: Tensor, layout: RuleLayout, *, dropout: float = 0.0
) -> Tensor:
    """``attend`` under the mask `visible`, (B, H, T, D), from the parts of a `rule_layout`.

    Rows of padding are finite and of no meaning.
    """
    if layout.order_BP is not None:
        query_BHTD, key_BHTD, value_BHTD = (
            _take(x, layout.order_BP) for x in (query_BHTD, key_BHTD, value_BHTD)
        )
    mixed = []
    for rows, keys, mask in layout.parts:
        if mask is not None and mask.dtype == torch.bool:  # adding has no work to do in the backward pass
            hidden = query_BHTD.new_full((), -torch.inf)
            mask = torch.where(mask, hidden.new_zeros(()), hidden)
        key_BHSD, value_BHSD = key_BHTD[:, :, :keys], value_BHTD[:, :, :keys]
        mixed.append(attend(query_BHTD[:, :, rows], key_BHSD, value_BHSD, mask, dropout=dropout))
    mixed_BHPD = torch.cat(mixed, dim=2)
    return mixed_BHPD if layout.place_BT is None else _take(mixed_BHPD, layout.place_BT)


def _take(x_BHTD: Tensor, index_BP: Tensor) -> Tensor:
    index_BHPD = index_BP[:, None, :, None].expand(-1, x_BHTD.shape[1], -1, x_BHTD.shape[3])
    return x_BHTD.gather(2, index_BHPD)

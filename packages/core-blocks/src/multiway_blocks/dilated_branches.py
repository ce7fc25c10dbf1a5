"""Branches of dilated attention (LongNet, Ding et al. 2023, section 2.2): which tokens a head keeps, in plain PyTorch.

Shape suffixes: B batch, H heads, N tokens, D head dim; inside a branch S segments, M kept
tokens of a segment, R dilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_blocks.partial_attention import MISSING, attend_part

HeadOffset = Literal["block", "mod"]
Branches = Sequence[tuple[int, int]]


class HeadGroup(NamedTuple):
    """Heads that keep the same tokens of a segment: ``offset``, ``offset + R``, ``offset + 2R``, ..."""

    offset: int
    heads: slice
    place: slice
    """Where they stand when the groups are put side by side."""


def head_groups(num_heads: int, dilation: int, head_offset: HeadOffset = "block") -> list[HeadGroup]:
    """The offset of head ``h``: ``h // ceil(H / R)`` in blocks (released code), or ``h mod R`` (equation 12)."""
    groups: list[HeadGroup] = []
    per_offset = -(-num_heads // dilation)
    for offset in range(min(dilation, num_heads)):
        if head_offset == "block":
            heads = slice(offset * per_offset, min((offset + 1) * per_offset, num_heads))
        else:
            heads = slice(offset, num_heads, dilation)
        count = len(range(num_heads)[heads])
        if count:
            first = groups[-1].place.stop if groups else 0
            groups.append(HeadGroup(offset, heads, slice(first, first + count)))
    return groups


def check_branches(branches: Branches) -> None:
    """Raise InputError for branches that leave tokens out or are not positive."""
    if any(length < 1 or dilation < 1 for length, dilation in branches):
        raise InputError(
            f"dilated attention: segment lengths and dilations must be at least 1, got {list(branches)}"
        )
    if all(dilation != 1 for _, dilation in branches):
        raise InputError(f"dilated attention: one branch needs dilation 1, got {list(branches)}")


def attend_branches(
    query_BHND: Tensor,
    key_BHND: Tensor,
    value_BHND: Tensor,
    branches: Branches,
    *,
    causal: bool = False,
    head_offset: HeadOffset = "block",
    grad_through_mix: bool = False,
    mask_padding: bool = True,
) -> Tensor:
    """:func:`multiway_blocks.dilated_pattern.dilated_attend` branch by branch: (B, H, N, D)."""
    outputs, sums = [], []
    for length, dilation in branches:
        branch = Branch(query_BHND.shape[1], query_BHND.shape[2], length, dilation, head_offset)
        out_BHSMD, lse_BHSM = branch.attend(query_BHND, key_BHND, value_BHND, causal, mask_padding)
        outputs.append(branch.scatter(out_BHSMD, 0.0))
        sums.append(branch.scatter(lse_BHSM[..., None], MISSING)[..., 0])
    return mix(outputs, sums, grad_through_mix=grad_through_mix, mask_padding=mask_padding)


def mix(
    outputs: Sequence[Tensor], sums: Sequence[Tensor], *, grad_through_mix: bool, mask_padding: bool
) -> Tensor:
    """The branches' outputs (B, H, N, D) weighted by the exponentials of their lse (B, H, N)."""
    if len(outputs) == 1:
        return outputs[0]
    lse_PBHN = torch.stack(list(sums))
    if not mask_padding:
        lse_PBHN = lse_PBHN.masked_fill(lse_PBHN == 0, MISSING)
    shares_PBHN = (lse_PBHN if grad_through_mix else lse_PBHN.detach()).softmax(dim=0)
    mixed = outputs[0] * shares_PBHN[0, ..., None].to(outputs[0].dtype)
    for share, output in zip(shares_PBHN[1:], outputs[1:], strict=True):
        mixed = mixed + share[..., None].to(output.dtype) * output
    return mixed


class Branch:
    """Which tokens one (segment length, dilation) keeps, for every head, and the attention among them."""

    def __init__(
        self, num_heads: int, num_tokens: int, length: int, dilation: int, head_offset: HeadOffset
    ) -> None:
        self.num_heads, self.num_tokens, self.dilation = num_heads, num_tokens, dilation
        self.length = min(length, num_tokens)
        self.num_segments = -(-num_tokens // self.length)
        self.kept = -(-self.length // dilation)
        self.groups = head_groups(num_heads, dilation, head_offset)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, causal: bool, mask_padding: bool
    ) -> tuple[Tensor, Tensor]:
        """Results (B, H, S, M, D) of the kept tokens and their log-sum-exps (B, H, S, M)."""
        batch = len(query)
        query, key, value = (self.gather(x).flatten(0, 1) for x in (query, key, value))
        visible = None
        # Causality hides what fills the end of a segment.
        if not causal and mask_padding and self.num_segments * self.kept * self.dilation > self.num_tokens:
            real_1HN1 = torch.ones(1, self.num_heads, self.num_tokens, 1, device=query.device)
            visible = self.gather(real_1HN1)[0, :, :, None, :, 0].bool().repeat(batch, 1, 1, 1)
        out, lse = attend_part(query, key, value, causal=causal, visible=visible)
        return out.unflatten(0, (batch, -1)), lse.unflatten(0, (batch, -1))

    def gather(self, x_BHND: Tensor) -> Tensor:
        """Kept tokens (B, H, S, M, D); zeros where the last segment or the last stride is not full."""
        x = _fill(x_BHND, self.num_segments * self.length - self.num_tokens, dim=2)
        x = x.unflatten(2, (self.num_segments, self.length))
        if self.dilation == 1:
            return x  # a view
        x = _fill(x, self.kept * self.dilation - self.length, dim=3).unflatten(3, (self.kept, self.dilation))
        return torch.cat([x[:, group.heads, :, :, group.offset] for group in self.groups], dim=1)

    def scatter(self, x_BHSMD: Tensor, empty: float) -> Tensor:
        """Back to (B, H, N, D), with ``empty`` at the tokens that a head skips."""
        if self.dilation == 1:
            return x_BHSMD.flatten(2, 3)[:, :, : self.num_tokens]
        batch, _, _, _, width = x_BHSMD.shape
        shape = (batch, self.num_heads, self.num_segments, self.kept, self.dilation, width)
        x_BHSMRD = x_BHSMD.new_full(shape, empty)
        for group in self.groups:
            x_BHSMRD[:, group.heads, :, :, group.offset] = x_BHSMD[:, group.place]
        return x_BHSMRD.flatten(3, 4)[:, :, :, : self.length].flatten(2, 3)[:, :, : self.num_tokens]


def _fill(x: Tensor, count: int, dim: int) -> Tensor:
    """``count`` zeros behind a dimension."""
    if count == 0:
        return x
    return nn.functional.pad(x, (0, 0) * (x.ndim - 1 - dim) + (0, count))

"""Dilated attention (LongNet, Ding et al. 2023, section 2.2): who sees whom, and all tokens at once.

Shape suffixes: B batch, H heads, N tokens, D head dim.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from multiway_blocks.dilated_branches import Branches, HeadOffset, attend_branches, check_branches
from multiway_blocks.kernels.dilated_attention import dilated_attention, has_kernel


@dataclass(frozen=True)
class DilatedPattern:
    """Who sees whom: the arguments of :func:`dilated_attend`, which explains them."""

    branches: tuple[tuple[int, int], ...]
    causal: bool = False
    head_offset: HeadOffset = "block"
    grad_through_mix: bool = False
    mask_padding: bool = True

    def __post_init__(self) -> None:
        check_branches(self.branches)

    def attend(self, query_BHND: Tensor, key_BHND: Tensor, value_BHND: Tensor) -> Tensor:
        """:func:`dilated_attend` with these arguments."""
        return dilated_attend(
            query_BHND,
            key_BHND,
            value_BHND,
            self.branches,
            causal=self.causal,
            head_offset=self.head_offset,
            grad_through_mix=self.grad_through_mix,
            mask_padding=self.mask_padding,
        )


def dilated_attend(
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
    """Attention within segments, over every R-th token of them, mixed over several (segment length, R): (B, H, N, D).

    A branch ``(w, R)`` cuts the tokens into segments of ``min(w, N)``; a head keeps the tokens ``o``, ``o + R``,
    ``o + 2R`` ... of each, and these attend to each other. Branches are weighted by their softmax denominators, which
    gives one softmax over all keys seen (a key seen twice counts twice; equation 10).

    Args:
        branches: (segment length, dilation) each; one of them needs dilation 1, or tokens would be left out.
        causal: a token sees only the kept tokens of its segment up to itself.
        head_offset: which ``o`` a head has, see :func:`head_groups`.
        grad_through_mix: whether gradients flow through the branches' weights, which makes them those of the one
            softmax; the released code takes the weights for constants.
        mask_padding: False does as the released code, for weights that were trained with it: the zeros that fill the
            last segment take part as keys where ``causal`` does not hide them, and a log-sum-exp of exactly 0 is taken
            for a missing one.

    Raises InputError for branches that leave tokens out or are not positive.
    """
    check_branches(branches)
    if head_offset == "block" and mask_padding and has_kernel(query_BHND):
        return dilated_attention(query_BHND, key_BHND, value_BHND, branches, causal=causal)
    return attend_branches(
        query_BHND,
        key_BHND,
        value_BHND,
        branches,
        causal=causal,
        head_offset=head_offset,
        grad_through_mix=grad_through_mix,
        mask_padding=mask_padding,
    )

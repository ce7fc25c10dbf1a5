"""Dilated attention as an operator of `torch.library`, so that `torch.compile` and `torch.export` see one node.

It is for running: where gradients are wanted, the public function calls what PyTorch can differentiate.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from multiway_blocks.dilated_branches import attend_branches
from multiway_blocks.kernels.arguments import refuse_gradients

torch.library.define(
    "multiway::dilated_attention",
    "(Tensor query, Tensor key, Tensor value, int[] lengths, int[] dilations, bool causal) -> Tensor",
)
dilated_attention = torch.ops.multiway.dilated_attention.default


def has_kernel(query: Tensor) -> bool:
    """Whether machine code takes such queries (B, H, N, D)."""
    if query.is_cuda and importlib.util.find_spec("triton") is not None:
        from multiway_blocks.kernels.dilated_attention import triton  # not installed on every system

        return triton.supports(query.dtype, query.shape[3])
    return False


@torch.library.impl("multiway::dilated_attention", "CompositeExplicitAutograd")
def _(
    query: Tensor, key: Tensor, value: Tensor, lengths: list[int], dilations: list[int], causal: bool
) -> Tensor:
    branches = list(zip(lengths, dilations, strict=True))
    if has_kernel(query):
        from multiway_blocks.kernels.dilated_attention import triton

        return triton.forward(query.contiguous(), key.contiguous(), value.contiguous(), branches, causal)
    return attend_branches(query, key, value, branches, causal=causal).contiguous()


@torch.library.register_fake("multiway::dilated_attention")
def _(
    query: Tensor, key: Tensor, value: Tensor, lengths: list[int], dilations: list[int], causal: bool
) -> Tensor:
    return query.new_empty(query.shape)


refuse_gradients("dilated_attention", "multiway_blocks.dilated.dilated_attend has")

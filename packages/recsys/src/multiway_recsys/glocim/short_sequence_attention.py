"""Attention among very few tokens of very many sequences, on a CPU.

Batched products of 3 x 16 matrices spend their time between the products. Here the pairs of tokens are taken one after
the other, each over all sequences at once, and the backward pass is written out: a third of the time.

Shape suffixes: N sequences, T tokens, E width, M = N * heads, D head dim.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def short_sequence_attention(
    queries: list[Tensor], keys: list[Tensor], values: list[Tensor], num_heads: int
) -> Tensor:
    """softmax(q k^T / sqrt(D)) v without a mask: lists of T tensors (N, E) -> (N, T, E)."""
    result: Tensor = _ShortSequenceAttention.apply(num_heads, *queries, *keys, *values)
    return result


class _ShortSequenceAttention(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, num_heads: int, *projected: Tensor) -> Tensor:
        num_tokens = len(projected) // 3
        num_rows, width = projected[0].shape
        head_dim = width // num_heads
        heads = [part.reshape(num_rows * num_heads, head_dim) for part in projected]
        queries, keys, values = (heads[kind * num_tokens : (kind + 1) * num_tokens] for kind in range(3))
        scores_TTM = torch.stack([torch.stack([_dot(query, key) for key in keys]) for query in queries])
        weights_TTM = (scores_TTM * head_dim**-0.5).softmax(dim=1)
        ctx.save_for_backward(weights_TTM, *heads)
        ctx.shape = (num_rows, num_tokens, width)
        mixed = [_weighted(weights, values).view(num_rows, width) for weights in weights_TTM]
        return torch.stack(mixed, dim=1)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        weights_TTM, *heads = ctx.saved_tensors
        num_rows, num_tokens, width = ctx.shape
        queries, keys, values = (heads[kind * num_tokens : (kind + 1) * num_tokens] for kind in range(3))
        of_mixed = [gradients[0][:, token].reshape_as(heads[0]) for token in range(num_tokens)]
        of_weights_TTM = torch.stack(
            [torch.stack([_dot(part, value) for value in values]) for part in of_mixed]
        )
        products_TTM = weights_TTM * of_weights_TTM
        of_scores_TTM = products_TTM - weights_TTM * products_TTM.sum(dim=1, keepdim=True)
        of_scores_TTM *= heads[0].shape[1] ** -0.5
        of_queries = [_weighted(row, keys) for row in of_scores_TTM]
        of_keys = [_weighted(of_scores_TTM[:, token], queries) for token in range(num_tokens)]
        of_values = [_weighted(weights_TTM[:, token], of_mixed) for token in range(num_tokens)]
        return (None, *(part.view(num_rows, width) for part in (*of_queries, *of_keys, *of_values)))


def _dot(one_MD: Tensor, other_MD: Tensor) -> Tensor:
    return (one_MD * other_MD).sum(dim=1)


def _weighted(weights_TM: Tensor, parts: list[Tensor]) -> Tensor:
    total = weights_TM[0].unsqueeze(1) * parts[0]
    for weight_M, part in zip(weights_TM[1:], parts[1:], strict=True):
        total.addcmul_(weight_M.unsqueeze(1), part)
    return total

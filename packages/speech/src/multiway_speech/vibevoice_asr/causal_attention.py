"""Causal attention for training on a CPU, in stripes of queries, with its own backward pass.

A stripe looks at no key behind it, which saves nearly half of the products, and everything stays in the data type that
comes in; automatic differentiation of the whole square takes three times as long.

Shape suffixes: N batch times heads, T tokens, C tokens of a stripe, S keys up to its end, D head dim.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

STRIPE = 128


def causal_attention(query_BHTD: Tensor, key_BHTD: Tensor, value_BHTD: Tensor) -> Tensor:
    """``softmax(q k^T / sqrt(D)) v`` where no query sees a later key: (B, H, T, D)."""
    scaled = query_BHTD * query_BHTD.shape[-1] ** -0.5
    parts = (part.flatten(0, 1).contiguous() for part in (scaled, key_BHTD, value_BHTD))
    mixed_NTD: Tensor = _CausalAttention.apply(*parts)
    return mixed_NTD.unflatten(0, query_BHTD.shape[:2])


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query_NTD: Tensor, key_NTD: Tensor, value_NTD: Tensor) -> Tensor:
        length = query_NTD.shape[1]
        later = torch.full((STRIPE, STRIPE), float("-inf"), dtype=query_NTD.dtype).triu(1)
        mixed_NTD = torch.empty_like(query_NTD)
        weights: list[Tensor] = []
        for start in range(0, length, STRIPE):
            end = min(start + STRIPE, length)
            scores_NCS = query_NTD[:, start:end] @ key_NTD[:, :end].transpose(1, 2)
            scores_NCS[:, :, start:] += later[: end - start, : end - start]
            weights_NCS = scores_NCS.softmax(dim=-1)
            mixed_NTD[:, start:end] = weights_NCS @ value_NTD[:, :end]
            weights.append(weights_NCS)
        ctx.save_for_backward(query_NTD, key_NTD, value_NTD, mixed_NTD, *weights)
        return mixed_NTD

    @staticmethod
    def backward(ctx: Any, gradient_NTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query_NTD, key_NTD, value_NTD, mixed_NTD, *weights = ctx.saved_tensors
        gradient_NTD = gradient_NTD.contiguous()
        for_query = torch.empty_like(query_NTD)
        for_key = torch.zeros_like(key_NTD, dtype=torch.float32)
        for_value = torch.zeros_like(value_NTD, dtype=torch.float32)
        common_NT1 = (gradient_NTD * mixed_NTD).sum(dim=-1, keepdim=True)
        for number, weights_NCS in enumerate(weights):
            start, end = number * STRIPE, number * STRIPE + weights_NCS.shape[1]
            stripe_NCD = gradient_NTD[:, start:end]
            for_value[:, :end] += weights_NCS.transpose(1, 2) @ stripe_NCD
            scores_NCS = stripe_NCD @ value_NTD[:, :end].transpose(1, 2)
            scores_NCS.sub_(common_NT1[:, start:end]).mul_(weights_NCS)
            for_query[:, start:end] = scores_NCS @ key_NTD[:, :end]
            for_key[:, :end] += scores_NCS.transpose(1, 2) @ query_NTD[:, start:end]
        return for_query, for_key.to(key_NTD.dtype), for_value.to(value_NTD.dtype)

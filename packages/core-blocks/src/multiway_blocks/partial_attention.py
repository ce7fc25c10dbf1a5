"""Attention over a part of the keys, together with what is needed to merge it with other parts.

Softmax attention over a union of key sets is the mean of the sets' results weighted by the denominators of their
softmaxes (Milakov and Gimelshein 2018, section 3); their logarithms are "lse" here. So a chunk of queries can take the
keys before it and its own apart, and branches of dilated attention can be mixed.

Shape suffixes: B batch, H query heads, K key-value heads, T queries, S keys, D head dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from multiway_blocks.kernels import dispatch

MISSING = -1e8  # lse of a query that sees no key; not infinity, for 0 / 0 would spoil all gradients
_SCORES_AT_ONCE = 1 << 24  # bounds the memory of the definition


def attend_part(
    query_BHTD: Tensor,
    key_BKSD: Tensor,
    value_BKSD: Tensor,
    *,
    causal: bool = False,
    visible: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``softmax(q k^T / sqrt(D)) v`` (B, H, T, D), and lse (B, H, T) in float32 at least; both differentiable.

    ``causal``: query t sees keys 0 ... t (T = S). ``visible``: bool, broadcastable to (B, H, T, S), True where a query
    may look. Fewer key-value heads than query heads are grouped queries, as in
    :func:`multiway_blocks.attention.attend`.
    """
    return _Part.apply(query_BHTD, key_BKSD, value_BKSD, causal, visible)


def merge(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """One result and lse of the (result, lse) of disjoint key sets."""
    if len(parts) == 1:
        return parts[0]
    lse_PBHT = torch.stack([lse for _, lse in parts])
    shares = lse_PBHT.softmax(dim=0).to(parts[0][0].dtype)
    merged = sum(
        (share[..., None] * part for share, (part, _) in zip(shares, parts, strict=True)), torch.tensor(0)
    )
    return merged, lse_PBHT.logsumexp(dim=0)


def causal_attend(query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor) -> Tensor:
    """Attention of the last T of S tokens, each to all tokens up to itself, without a T x S mask: (B, H, T, D)."""
    num_queries, earlier = query_BHTD.shape[2], key_BKSD.shape[2] - query_BHTD.shape[2]
    if earlier == 0 or num_queries == 1:
        return nn.functional.scaled_dot_product_attention(
            query_BHTD,
            key_BKSD,
            value_BKSD,
            is_causal=num_queries > 1,
            enable_gqa=query_BHTD.shape[1] != key_BKSD.shape[1],
        )
    before = attend_part(query_BHTD, key_BKSD[:, :, :earlier], value_BKSD[:, :, :earlier])
    own = attend_part(query_BHTD, key_BKSD[:, :, earlier:], value_BKSD[:, :, earlier:], causal=True)
    return merge([before, own])[0]


def _fused(query: Tensor) -> bool:
    """Whether PyTorch's fused operator for CPUs serves; its lse is float32, which float64 must not be reduced to."""
    return query.device.type == "cpu" and query.dtype != torch.float64 and not dispatch.USE_REFERENCE


class _Part(torch.autograd.Function):
    """The definition in blocks of queries, or the fused operator; the gradient is computed anew from lse."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, causal: bool, visible: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.causal = causal
        if _fused(query):
            out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query, key, value, 0.0, causal, attn_mask=_additive(visible, query)
            )
        else:
            out, lse = _forward(query, key, value, causal, visible)
        ctx.save_for_backward(query, key, value, out, lse, visible)
        return out, lse

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse, visible = ctx.saved_tensors
        grad_out, grad_lse = gradients
        if grad_out is None:
            grad_out = torch.zeros_like(out)
        # The operator knows neither a gradient of lse nor, in its backward pass, grouped queries.
        if _fused(query) and grad_lse is None and query.shape[1] == key.shape[1]:
            grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                grad_out, query, key, value, out, lse, 0.0, ctx.causal, attn_mask=_additive(visible, query)
            )
        else:
            grads = _backward(query, key, value, out, lse, grad_out, grad_lse, ctx.causal, visible)
        return (*grads, None, None)


def _additive(visible: Tensor | None, query: Tensor) -> Tensor | None:
    if visible is None:
        return None
    mask = torch.zeros(visible.shape, dtype=query.dtype, device=query.device)
    hidden = max(MISSING, torch.finfo(query.dtype).min)
    return mask.masked_fill_(~visible, hidden).expand(query.shape[0], -1, query.shape[2], -1)


def _at_once(query: Tensor, key: Tensor) -> int:
    """Queries of a block."""
    return max(1, _SCORES_AT_ONCE // max(1, query.shape[0] * query.shape[1] * key.shape[2]))


def _scores(query: Tensor, key: Tensor, part: slice, causal: bool, visible: Tensor | None) -> Tensor:
    """Masked scores of a block of queries, in float32 at least."""
    scaled = query[:, :, part] * query.shape[-1] ** -0.5
    scores = (scaled @ key.transpose(-1, -2)).to(torch.promote_types(query.dtype, torch.float32))
    if visible is not None:
        seen = visible if visible.shape[2] == 1 else visible[:, :, part]
        scores = scores.masked_fill(~seen, MISSING)
    if causal:
        place_S = torch.arange(key.shape[2], device=key.device)
        scores = scores.masked_fill(place_S > place_S[part, None], MISSING)
    return scores


def _forward(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, visible: Tensor | None
) -> tuple[Tensor, Tensor]:
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) if groups > 1 else x for x in (key, value))
    outs, sums = [], []
    step = _at_once(query, key)
    for start in range(0, query.shape[2], step):
        scores = _scores(query, key, slice(start, start + step), causal, visible)
        sums.append(scores.logsumexp(dim=-1))
        outs.append((scores - sums[-1][..., None]).exp().to(value.dtype) @ value)
    return torch.cat(outs, dim=2), torch.cat(sums, dim=2)


def _backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    grad_out: Tensor,
    grad_lse: Tensor | None,
    causal: bool,
    visible: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """dS = P (dO V^T - rowsum(dO O) + dlse), as in FlashAttention (Dao et al. 2022, appendix B.4)."""
    kv_heads = key.shape[1]
    groups = query.shape[1] // kv_heads
    key, value = (x.repeat_interleave(groups, dim=1) if groups > 1 else x for x in (key, value))
    wide = lse.dtype
    shift = (grad_out.to(wide) * out.to(wide)).sum(dim=-1)
    if grad_lse is not None:
        shift = shift - grad_lse
    scale = query.shape[-1] ** -0.5
    grad_query = torch.empty_like(query)
    grad_key, grad_value = torch.zeros_like(key), torch.zeros_like(value)
    step = _at_once(query, key)
    for start in range(0, query.shape[2], step):
        part = slice(start, start + step)
        shares = (_scores(query, key, part, causal, visible) - lse[:, :, part, None]).exp()
        grad_value += shares.to(value.dtype).transpose(-1, -2) @ grad_out[:, :, part]
        grad_scores = (grad_out[:, :, part] @ value.transpose(-1, -2)).to(wide) - shift[:, :, part, None]
        grad_scores = (grad_scores * shares * scale).to(query.dtype)
        grad_query[:, :, part] = grad_scores @ key
        grad_key += grad_scores.transpose(-1, -2) @ query[:, :, part]
    if groups > 1:
        grad_key, grad_value = (x.unflatten(1, (kv_heads, groups)).sum(dim=2) for x in (grad_key, grad_value))
    return grad_query, grad_key, grad_value

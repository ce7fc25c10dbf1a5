"""Attention over parts of the keys: parts merged are the whole, in value and gradient."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks import partial_attention
from multiway_blocks.attention import causal_mask
from multiway_blocks.kernels import dispatch
from multiway_blocks.partial_attention import attend_part, causal_attend, merge
from torch import Tensor


def inputs(
    dtype: torch.dtype, heads: int = 4, kv_heads: int = 4, queries: int = 9, keys: int = 9
) -> list[Tensor]:
    torch.manual_seed(queries + keys)
    shapes = ((2, heads, queries, 8), (2, kv_heads, keys, 8), (2, kv_heads, keys, 8))
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def written_out(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None) -> tuple[Tensor, Tensor]:
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(-1, -2) / 8**0.5
    if visible is not None:
        scores = scores.masked_fill(~visible, float("-inf"))
    return scores.softmax(-1) @ value, scores.logsumexp(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("form", ["plain", "causal", "visible", "visible_rows"])
@pytest.mark.parametrize("with_lse", [False, True])
@pytest.mark.parametrize("reference", [False, True])
def test_equals_the_formula_with_gradients(dtype, kv_heads, form, with_lse, reference, monkeypatch) -> None:
    monkeypatch.setattr(dispatch, "USE_REFERENCE", reference)
    monkeypatch.setattr(partial_attention, "_SCORES_AT_ONCE", 2 * 4 * 9 * 4)
    tensors = inputs(dtype, kv_heads=kv_heads)
    visible = {"visible": torch.arange(9) > 3, "visible_rows": causal_mask(9, 9)[0, 0]}.get(form)
    visible = None if visible is None else visible.expand(1, 1, -1 if form == "visible_rows" else 1, 9)
    ours = attend_part(*tensors, causal=form == "causal", visible=visible)
    theirs = written_out(*tensors, causal_mask(9, 9) if form == "causal" else visible)
    exact = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 1e-12, "rtol": 0}
    losses = []
    for out, lse in (ours, theirs):
        losses.append((out.sin() * torch.linspace(0, 1, 8, dtype=dtype)).sum() + with_lse * lse.cos().sum())
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, **exact)
    for our, their in zip(*(torch.autograd.grad(loss, tensors) for loss in losses), strict=True):
        torch.testing.assert_close(our, their, **exact)


def test_merged_parts_are_the_whole() -> None:
    query, key, value = inputs(torch.float64)
    parts = [
        attend_part(query, key[:, :, part], value[:, :, part])
        for part in (slice(2), slice(2, 3), slice(3, 9))
    ]
    whole = attend_part(query, key, value)
    for merged, expected in zip(merge(parts), whole, strict=True):
        torch.testing.assert_close(merged, expected, atol=1e-12, rtol=0)
    gradients = [
        torch.autograd.grad(out.sin().sum(), (query, key, value)) for out in (merge(parts)[0], whole[0])
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("queries", "keys"), [(9, 9), (1, 9), (4, 9), (1, 1)])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_the_last_queries_see_all_up_to_themselves(queries: int, keys: int, kv_heads: int) -> None:
    tensors = inputs(torch.float32, kv_heads=kv_heads, queries=queries, keys=keys)
    expected, _ = written_out(*tensors, causal_mask(queries, keys))
    torch.testing.assert_close(causal_attend(*tensors), expected)


def test_a_query_without_keys_has_a_missing_lse_and_no_nan() -> None:
    for dtype in (torch.float32, torch.float64):
        query, key, value = inputs(dtype)
        visible = torch.zeros(1, 1, 1, 9, dtype=torch.bool)
        out, lse = attend_part(query, key, value, visible=visible)
        assert (lse <= 0.99 * partial_attention.MISSING).all()
        (gradient,) = torch.autograd.grad((out * 0).sum(), query)
        assert gradient.isfinite().all()

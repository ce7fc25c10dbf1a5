"""Dilated attention against loops over every query and key, and against published numbers of the released code."""

from __future__ import annotations

import math

import pytest
import torch
from multiway_blocks.attention import Attention, attend, causal_mask
from multiway_blocks.dilated import DilatedAttention, dilated_attend
from multiway_blocks.dilated_branches import head_groups
from multiway_blocks.position import XPos
from multiway_blocks.transformer import Context
from multiway_core.errors import InputError
from torch import Tensor


def naive(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    branches,
    causal: bool,
    mask_padding: bool,
    head_offset: str = "block",
    grad_through_mix: bool = False,
) -> Tensor:
    """The definition, one query at a time."""
    batch, heads, tokens, width = query.shape
    out = torch.zeros_like(query)
    for b in range(batch):
        for h in range(heads):
            for n in range(tokens):
                parts, sums = [], []
                for length, dilation in branches:
                    length = min(length, tokens)
                    offset = h // math.ceil(heads / dilation) if head_offset == "block" else h % dilation
                    start, place = n - n % length, n % length
                    if place % dilation != offset:
                        parts.append(torch.zeros(width, dtype=query.dtype))
                        sums.append(torch.tensor(-1e8, dtype=query.dtype))
                        continue
                    padded = math.ceil(length / dilation) * dilation
                    keys = range(start + offset, start + padded, dilation)
                    scores, values = [], []
                    for m in keys:
                        filling = m >= start + length or m >= tokens
                        if (causal and m > n) or (filling and mask_padding):
                            continue
                        scores.append(
                            torch.zeros((), dtype=query.dtype)
                            if filling
                            else query[b, h, n] @ key[b, h, m] * width**-0.5
                        )
                        values.append(torch.zeros(width, dtype=query.dtype) if filling else value[b, h, m])
                    scores_ = torch.stack(scores)
                    parts.append(scores_.softmax(0) @ torch.stack(values))
                    lse = scores_.logsumexp(0)
                    sums.append(lse if grad_through_mix else lse.detach())
                shares = torch.stack(sums).softmax(0)
                out[b, h, n] = sum(share * part for share, part in zip(shares, parts, strict=True))
    return out


def tensors(batch: int, heads: int, tokens: int, width: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(tokens * heads)
    return [
        torch.randn(batch, heads, tokens, width, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(3)
    ]


CASES = [
    (4, 16, [(4, 1), (8, 2), (16, 4)]),  # even
    (4, 13, [(4, 1), (8, 2)]),  # the last segment is not full
    (3, 11, [(5, 1), (7, 3), (100, 4)]),  # nothing divides anything, segments longer than the sequence
    (5, 9, [(3, 2), (9, 1)]),  # more heads than offsets
    (2, 7, [(7, 1), (7, 5)]),  # fewer heads than offsets: some tokens are in one branch only
    (1, 1, [(4, 1), (4, 2)]),
]


@pytest.mark.parametrize(("heads", "tokens", "branches"), CASES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("head_offset", "grad_through_mix", "mask_padding"),
    [("block", False, False), ("block", False, True), ("mod", True, True), ("mod", False, False)],
)
def test_equals_loops_with_gradients(
    heads: int, tokens: int, branches, causal: bool, head_offset, grad_through_mix: bool, mask_padding: bool
) -> None:
    inputs = tensors(2, heads, tokens, 3)
    options = {"head_offset": head_offset, "grad_through_mix": grad_through_mix, "mask_padding": mask_padding}
    ours = dilated_attend(*inputs, branches, causal=causal, **options)
    theirs = naive(*inputs, branches, causal, **options)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    weight = torch.linspace(-1, 1, ours.numel(), dtype=torch.float64).view_as(ours)
    our_gradients = torch.autograd.grad((ours * weight).sum(), inputs)
    their_gradients = torch.autograd.grad((theirs * weight).sum(), inputs)
    for our_gradient, their_gradient in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(our_gradient, their_gradient, atol=1e-12, rtol=0)
    # The fused operator, in float32.
    single = [x.detach().float().requires_grad_() for x in inputs]
    fast = dilated_attend(*single, branches, causal=causal, **options)
    torch.testing.assert_close(fast.double(), theirs, atol=1e-5, rtol=1e-5)
    fast_gradients = torch.autograd.grad((fast * weight.float()).sum(), single)
    for fast_gradient, their_gradient in zip(fast_gradients, their_gradients, strict=True):
        torch.testing.assert_close(fast_gradient.double(), their_gradient, atol=1e-5, rtol=1e-5)


def test_head_groups() -> None:
    assert [(g.offset, g.heads) for g in head_groups(4, 2)] == [(0, slice(0, 2)), (1, slice(2, 4))]
    assert [(g.offset, g.heads) for g in head_groups(5, 3)] == [
        (0, slice(0, 2)),
        (1, slice(2, 4)),
        (2, slice(4, 5)),
    ]
    assert [(g.offset, g.heads) for g in head_groups(5, 2, "mod")] == [
        (0, slice(0, 5, 2)),
        (1, slice(1, 5, 2)),
    ]
    assert [g.place for g in head_groups(5, 2, "mod")] == [slice(0, 3), slice(3, 5)]
    assert [g.offset for g in head_groups(2, 512)] == [0, 1]


@pytest.mark.parametrize(
    ("tokens", "branches", "causal", "total", "at", "row"),
    [
        (8, [(4, 1), (8, 2)], True, -1.3765621655, (5, 0), (-0.484198, 0.272864, -0.388480)),
        (8, [(4, 1), (8, 2)], True, -1.3765621655, (7, 13), (-0.004171, 0.597304, -0.260565)),
        (8, [(4, 1), (8, 2)], False, -2.4562814783, (5, 0), (-0.321185, 0.042216, -0.184007)),
        (16, [(4, 1), (8, 2), (16, 4)], True, 1.7927426717, (15, 13), (0.612473, 0.497513, 0.405533)),
        (16, [(4, 1), (8, 2), (16, 4)], False, 9.4375795325, None, None),
        (10, [(4, 1), (8, 2)], True, -3.5842490825, (9, 13), (0.837818, -0.645909, 0.574002)),
        (10, [(4, 1), (8, 2)], False, -3.4453102055, (9, 13), (0.383785, -0.295876, 0.262937)),
    ],
)
def test_equals_the_numbers_of_the_released_code(tokens, branches, causal, total, at, row) -> None:
    index = torch.arange(tokens * 16, dtype=torch.float64).view(1, tokens, 16)
    query, key, value = (
        x.unflatten(-1, (4, 4)).transpose(1, 2)
        for x in (torch.sin(0.7 * index + 0.1), torch.cos(0.3 * index - 0.2), torch.sin(0.05 * index**2))
    )
    out = dilated_attend(query, key, value, branches, causal=causal, mask_padding=False)
    out = out.transpose(1, 2).flatten(2)
    assert float(out.sum()) == pytest.approx(total, abs=1e-9)
    if at:
        place, first = at
        torch.testing.assert_close(
            out[0, place, first : first + 3], torch.tensor(row, dtype=torch.float64), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize("causal", [False, True])
def test_one_branch_over_everything_is_attention(causal: bool) -> None:
    query, key, value = tensors(2, 3, 10, 4)
    mask = causal_mask(10, 10) if causal else None
    torch.testing.assert_close(
        dilated_attend(query, key, value, [(10, 1)], causal=causal), attend(query, key, value, mask)
    )


def test_filling_takes_part_only_where_it_is_not_masked() -> None:
    query, key, value = tensors(1, 2, 5, 4)
    masked = dilated_attend(query, key, value, [(4, 1)])
    released = dilated_attend(query, key, value, [(4, 1)], mask_padding=False)
    torch.testing.assert_close(masked[:, :, 4], value[:, :, 4])  # alone in its segment, it sees itself
    assert not torch.allclose(released[:, :, 4], value[:, :, 4])
    torch.testing.assert_close(masked[:, :, :4], released[:, :, :4])


def test_low_precision_stays_near() -> None:
    inputs = [x.detach() for x in tensors(1, 4, 12, 8)]
    exact = dilated_attend(*inputs, [(4, 1), (12, 2)])
    rough = dilated_attend(*(x.bfloat16() for x in inputs), [(4, 1), (12, 2)])
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.double(), exact, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("branches", [[(4, 2), (8, 4)], [(0, 1)], [(4, 1), (4, 0)], []])
def test_branches_that_leave_tokens_out_are_refused(branches) -> None:
    with pytest.raises(InputError, match="dilation"):
        dilated_attend(*tensors(1, 2, 8, 2), branches)


@pytest.mark.parametrize("causal", [False, True])
def test_the_layer_over_everything_is_the_dense_layer(causal: bool) -> None:
    torch.manual_seed(0)
    layer = DilatedAttention(24, 3, [(20, 1)], causal=causal, rotary=XPos(8)).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    dense = Attention(24, 3, bias=True, sub_norm=True, rotary=XPos(8)).double()
    dense.load_state_dict(layer.state_dict())
    x = torch.randn(2, 11, 24, dtype=torch.float64)
    mask = causal_mask(11, 11) if causal else None
    expected = dense(x, Context(mask, torch.arange(11)[None]))
    torch.testing.assert_close(layer(x), expected, atol=1e-12, rtol=0)


def test_what_a_token_sees_grows_with_the_branches() -> None:
    torch.manual_seed(0)
    layer = DilatedAttention(16, 4, [(4, 1), (16, 4)]).double()
    x = torch.randn(1, 16, 16, dtype=torch.float64)
    before = layer(x)
    x[0, 0] += 1
    changed = (layer(x) != before).any(dim=-1)[0].nonzero().flatten().tolist()
    # Token 0 is in the first segment of four and, for the first head, on the grid 0, 4, 8, 12 of all tokens.
    assert changed == [0, 1, 2, 3, 4, 8, 12]

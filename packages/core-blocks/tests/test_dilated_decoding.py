"""Dilated attention behind a cache, token by token, in chunks and streamed, equals the full forward pass."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.attention import padding_mask
from multiway_blocks.causal import token_positions
from multiway_blocks.dilated import DilatedAttention, SegmentCache
from multiway_blocks.position import Rotary, XPos
from multiway_blocks.transformer import Context
from multiway_core.errors import InputError
from multiway_core.generation import StaticKVCache
from torch import Tensor

BRANCHES = [(4, 1), (8, 2), (32, 8)]
ODD = [(5, 1), (7, 3), (20, 5)]


def layer(branches=BRANCHES, rotary: Rotary | None = None, **options) -> DilatedAttention:
    torch.manual_seed(0)
    made = DilatedAttention(24, 6, branches, causal=True, rotary=rotary, **options).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def inputs(rows: int, tokens: int) -> Tensor:
    return torch.randn(rows, tokens, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(tokens))


def static(rows: int, length: int) -> StaticKVCache:
    return StaticKVCache(1, rows, 6, 4, length, dtype=torch.float64)


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


@pytest.mark.parametrize("branches", [BRANCHES, ODD])
@pytest.mark.parametrize("options", [{}, {"head_offset": "mod"}, {"mask_padding": False}])
@pytest.mark.parametrize("chunks", [[45], [1] * 45, [13, 1, 1, 9, 20, 1]])
@pytest.mark.parametrize("kind", ["static", "segments"])
@torch.no_grad()
def test_chunks_equal_the_whole(branches, options: dict, chunks: list[int], kind: str) -> None:
    attention, x = layer(branches, **options), inputs(2, 45)
    whole = attention(x)
    cache = (
        static(2, 45)
        if kind == "static"
        else SegmentCache(
            1, 2, 6, 4, branches, head_offset=options.get("head_offset", "block"), dtype=torch.float64
        )
    )
    parts, start = [], 0
    for length in chunks:
        parts.append(attention(x[:, start : start + length], Context(cache=cache)))
        cache.advance(length if kind == "segments" else torch.ones(2, length, dtype=torch.bool))
        start += length
    close(torch.cat(parts, dim=1), whole)


@pytest.mark.parametrize("rotary", [Rotary(4, interleaved=True), XPos(4, centre=16)], ids=["rotary", "xpos"])
@torch.no_grad()
def test_positions_modulo_the_period_change_nothing(rotary: Rotary) -> None:
    attention, x = layer(rotary=rotary), inputs(1, 75)
    assert attention.period == 32
    ours = attention(x)
    attention.period = 1000  # positions as they are
    close(ours, attention(x), 1e-5)  # the angles are float32


@torch.no_grad()
def test_padded_rows_equal_rows_alone() -> None:
    attention = layer(rotary=XPos(4))
    lengths, longest = [11, 11, 6, 0], 11
    x, following = inputs(4, longest), inputs(4, 5)
    valid = torch.arange(longest)[None] >= longest - torch.tensor(lengths)[:, None]
    cache = static(4, 16)
    at_once = attention(x, Context(padding_mask(valid), token_positions(valid)))
    parts = []
    for part in (slice(0, 7), slice(7, 11)):
        own = valid[:, part]
        parts.append(attention(x[:, part], Context(padding_mask(own), token_positions(own, cache), cache)))
        cache.advance(own)
    close(torch.cat(parts, dim=1), at_once)
    one = torch.ones(4, 1, dtype=torch.bool)
    for t in range(5):
        positions = token_positions(one, cache)
        parts.append(attention(following[:, t : t + 1], Context(None, positions, cache)))
        cache.advance(one)
    ours = torch.cat(parts, dim=1)
    for row, length in enumerate(lengths):
        alone = attention(torch.cat([x[row, longest - length :], following[row]])[None])
        close(ours[row, longest - length :], alone[0], 1e-6)


@torch.no_grad()
def test_holes_in_the_cache_are_passed_over() -> None:
    attention, x = layer(), inputs(1, 20)
    cache = static(1, 30)
    for t in range(20):
        attention(x[:, t : t + 1], Context(cache=cache))
        cache.advance(torch.ones(1, 1, dtype=torch.bool))
        if t == 9:  # a rejected draft
            attention(inputs(1, 3), Context(cache=cache))
            cache.advance(torch.ones(1, 3, dtype=torch.bool))
            cache.invalidate(torch.ones(1, 3, dtype=torch.bool))
    last = inputs(1, 1)
    close(attention(last, Context(cache=cache)), attention(torch.cat([x, last], 1))[:, -1:])


def test_gradients_with_padding() -> None:
    attention, x = layer(), inputs(2, 9).requires_grad_()
    valid = torch.tensor([[False] * 3 + [True] * 6, [True] * 9])
    out = attention(x, Context(padding_mask(valid)))
    (ours,) = torch.autograd.grad(out[0, 3:].sin().sum(), x)
    alone = x.detach()[:1, 3:].requires_grad_()
    (theirs,) = torch.autograd.grad(attention(alone).sin().sum(), alone)
    close(ours[:1, 3:], theirs)
    assert not ours[0, :3].any()


@torch.no_grad()
def test_a_cache_of_segments_does_not_grow() -> None:
    attention = layer()
    cache = SegmentCache(1, 1, 6, 4, BRANCHES, dtype=torch.float64)
    size = cache.num_bytes()
    assert size == 2 * (4 + 4 + 4) * 6 * 4 * 8
    for _ in range(20):
        attention(inputs(1, 16), Context(cache=cache))
        cache.advance(16)
    assert cache.num_bytes() == size
    assert cache.length == 320


def test_what_does_not_go_together() -> None:
    attention, x = layer(), inputs(1, 4)
    cache = SegmentCache(1, 1, 6, 4, BRANCHES, dtype=torch.float64)
    with pytest.raises(InputError, match="no padding"):
        attention(x, Context(padding_mask(torch.ones(1, 4, dtype=torch.bool)), cache=cache))
    with pytest.raises(InputError, match="must be causal"):
        DilatedAttention(24, 6, BRANCHES).double()(x, Context(cache=static(1, 4)))

"""The causal decoder: with a cache, in chunks and left-padded, it computes what it computes at once."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import pytest
import torch
from multiway_blocks import linear
from multiway_blocks.causal import branch_positions
from multiway_blocks.decoder import Decoder
from multiway_blocks.kernels import dispatch
from multiway_blocks.kernels.decode_attention import cpu as decode_attention
from multiway_blocks.kernels.skinny_gemm import cpu as skinny_gemm
from multiway_blocks.position import XPos
from multiway_blocks.transformer import Context
from multiway_core.errors import InputError
from multiway_core.generation import StaticKVCache
from torch import Tensor


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(hidden_size=24, num_layers=3, num_heads=3, inner_size=40, sub_norm=True, dropout=0.1)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return decoder.double().eval()


def inputs(rows: int, length: int) -> Tensor:
    return torch.randn(rows, length, 24, generator=torch.Generator().manual_seed(length), dtype=torch.float64)


def new_cache(rows: int, length: int) -> StaticKVCache:
    return StaticKVCache(3, rows, 3, 8, length, dtype=torch.float64)


@pytest.mark.parametrize("chunks", [[9], [5, 1, 1, 2], [1] * 9])
@torch.no_grad()
def test_chunks_equal_the_whole(decoder, chunks: list[int]) -> None:
    x = inputs(2, 9)
    valid = torch.ones(2, 9, dtype=torch.bool)
    whole = decoder(x, valid)
    cache, parts, start = new_cache(2, 9), [], 0
    for length in chunks:
        part = slice(start, start + length)
        parts.append(decoder(x[:, part], valid[:, part], cache))
        start += length
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-12, rtol=0)
    assert cache.length == 9


@torch.no_grad()
def test_later_tokens_do_not_reach_back(decoder) -> None:
    x = inputs(1, 6)
    changed = x.clone()
    changed[:, 4:] += 1.0
    valid = torch.ones(1, 6, dtype=torch.bool)
    a, b = decoder(x, valid), decoder(changed, valid)
    assert torch.equal(a[:, :4], b[:, :4])
    assert not torch.equal(a[:, 4:], b[:, 4:])


@pytest.mark.parametrize("cached", [False, True])
@torch.no_grad()
def test_left_padded_rows_equal_rows_alone(decoder, cached: bool) -> None:
    x, lengths, longest = inputs(3, 7), [7, 4, 1], 7
    valid = torch.arange(longest)[None] >= longest - torch.tensor(lengths)[:, None]
    following = inputs(3, 2)
    more = torch.ones(3, 2, dtype=torch.bool)
    if cached:
        cache = new_cache(3, 9)
        first = decoder(x[:, :5], valid[:, :5], cache)  # the cut goes through the padding of the last row
        out = torch.cat(
            [first, decoder(x[:, 5:], valid[:, 5:], cache), decoder(following, more, cache)], dim=1
        )
    else:
        out = decoder(torch.cat([x, following], dim=1), torch.cat([valid, more], dim=1))
    assert out.isfinite().all()
    for row, length in enumerate(lengths):
        alone = torch.cat([x[row : row + 1, longest - length :], following[row : row + 1]], dim=1)
        expected = decoder(alone, torch.ones(1, length + 2, dtype=torch.bool))
        torch.testing.assert_close(out[row : row + 1, longest - length :], expected, atol=1e-12, rtol=0)


def test_gradients_with_padding_are_finite(decoder) -> None:
    x = inputs(2, 5).requires_grad_()
    valid = torch.tensor([[False, False, True, True, True], [True] * 5])
    out = decoder(x, valid)
    (gradient,) = torch.autograd.grad(out[valid].square().sum(), x)
    assert gradient.isfinite().all()
    assert not gradient[0, :2].any()  # nothing looks at padding
    with torch.no_grad():
        torch.testing.assert_close(decoder(x, valid), out.detach(), atol=1e-10, rtol=0)


def test_block_formula(decoder) -> None:
    """One layer is ``x + attention(LN(x))``, then ``x + feedforward(LN(x))``."""
    layer, x = decoder.layers[0], inputs(1, 4)
    with torch.no_grad():
        mask = torch.ones(4, 4).tril().bool()[None, None]
        middle = x + layer.attention(layer.attention_norm(x), Context(mask))
        expected = middle + layer.feedforward(layer.feedforward_norm(middle))
        torch.testing.assert_close(layer(x, Context(mask)), expected, atol=1e-12, rtol=0)


def test_attention_sub_norm_stands_before_the_output_projection() -> None:
    torch.manual_seed(0)
    decoder = Decoder(
        hidden_size=24,
        num_layers=1,
        num_heads=3,
        inner_size=40,
        sub_norm=True,
        attention_sub_norm=True,
        eps=1e-3,
    ).double()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    attention, x = decoder.layers[0].attention, inputs(1, 4)
    with torch.no_grad():
        heads = [
            part(x).view(1, 4, 3, 8).transpose(1, 2)
            for part in (attention.query, attention.key, attention.value)
        ]
        mixed = torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        mixed = mixed.transpose(1, 2).reshape(1, 4, 24)
        normed = torch.nn.functional.layer_norm(
            mixed, (24,), attention.norm.weight, attention.norm.bias, 1e-3
        )
        mask = torch.ones(4, 4).tril().bool()[None, None]
        torch.testing.assert_close(attention(x, Context(mask)), attention.output(normed), atol=1e-12, rtol=0)


def test_dropout_acts_in_training_only(decoder) -> None:
    x, valid = inputs(1, 4), torch.ones(1, 4, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(decoder(x, valid), decoder(x, valid))
        decoder.train()
        assert not torch.equal(decoder(x, valid), decoder(x, valid))
        decoder.eval()


def test_a_full_cache_says_so(decoder) -> None:
    with pytest.raises(InputError, match="max_length of 3"), torch.no_grad():
        decoder(inputs(1, 4), torch.ones(1, 4, dtype=torch.bool), new_cache(1, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 3])
@torch.no_grad()
def test_decoding_kernels_equal_the_reference(dtype: torch.dtype, rows: int, monkeypatch) -> None:
    torch.manual_seed(0)
    decoder = Decoder(hidden_size=96, num_layers=2, num_heads=3, inner_size=160, sub_norm=True).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    exact = copy.deepcopy(decoder.to(dtype)).double()  # the same rounded weights
    lengths = torch.tensor([9, 4, 1][:rows])
    valid = torch.arange(9)[None] >= 9 - lengths[:, None]
    x = torch.randn(rows, 14, 96).to(dtype)
    step = torch.ones(rows, 1, dtype=torch.bool)

    def run(decoder: Decoder, x: Tensor) -> Tensor:
        cache = StaticKVCache(2, rows, 3, 32, 14, dtype=x.dtype)
        decoder(x[:, :9], valid, cache)
        return torch.cat([decoder(x[:, t : t + 1], step, cache) for t in range(9, 14)], dim=1).double()

    calls = []

    def counted(forward: Callable[..., Tensor], *arguments) -> Tensor:
        calls.append(forward.__module__)
        return forward(*arguments)

    for kernel in (skinny_gemm, decode_attention):
        monkeypatch.setattr(kernel, "forward", functools.partial(counted, kernel.forward))
    monkeypatch.setattr(linear, "_MIN_ELEMENTS", 0)
    by_kernels, wanted = run(decoder, x), run(exact, x.double())
    assert len(set(calls)) == skinny_gemm.supports(dtype) + decode_attention.supports(dtype)
    calls.clear()
    monkeypatch.setattr(dispatch, "USE_REFERENCE", True)
    by_reference = run(decoder, x)
    assert not calls
    # Both round in their own places; neither may be much farther from float64 than the other.
    error, error_of_reference = ((y - wanted).square().mean().sqrt() for y in (by_kernels, by_reference))
    assert error <= 1.3 * error_of_reference
    assert error <= 20 * torch.finfo(dtype).eps * wanted.square().mean().sqrt()


@pytest.mark.parametrize("rotary", [None, XPos(8)])
@torch.no_grad()
def test_branches_equal_one_pass_each(rotary: XPos | None) -> None:
    torch.manual_seed(1)
    decoder = Decoder(hidden_size=24, num_layers=2, num_heads=3, inner_size=40, rotary=rotary).double().eval()
    x = inputs(2, 10)
    branches = torch.tensor([[0, 0, 0, 0, 1, 1, 2, 2, 2, 3], [0, 0, 0, 0, 2, 2, 2, 1, 1, 1]])
    valid = torch.ones(2, 10, dtype=torch.bool)
    valid[1, 0] = False
    together = decoder(x, valid, branches_BT=branches)
    for row in range(2):
        for branch in (1, 2, 3):
            own = (branches[row] == 0) | (branches[row] == branch)
            alone = decoder(x[row : row + 1, own], valid[row : row + 1, own])
            torch.testing.assert_close(together[row, own], alone[0], atol=1e-12, rtol=0)
    assert branch_positions(valid, branches).tolist() == [
        [0, 1, 2, 3, 4, 5, 4, 5, 6, 4],
        [0, 0, 1, 2, 3, 4, 5, 3, 4, 5],
    ]
    with pytest.raises(ValueError, match="without a cache"):
        decoder(x, valid, new_cache(2, 10), branches_BT=branches)

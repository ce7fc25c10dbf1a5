"""Attention against a naive softmax in float64: masks, grouped queries, both paths, the cache, rotary."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from multiway_blocks.attention import (
    Attention,
    CrossAttention,
    _attend_in_groups,
    attend,
    causal_mask,
    padding_mask,
)
from multiway_blocks.decoder import Decoder
from multiway_blocks.position import Rotary
from multiway_blocks.transformer import Context
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode


def naive(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Head by head and query by query, over the allowed keys only."""
    batch, heads, num_queries, head_dim = query.shape
    out = torch.zeros(batch, heads, num_queries, value.shape[-1], dtype=torch.float64)
    group = heads // key.shape[1]
    for b in range(batch):
        for h in range(heads):
            for t in range(num_queries):
                kept = torch.ones(key.shape[2], dtype=torch.bool) if allowed is None else allowed[b, h, t]
                scores = key[b, h // group][kept] @ query[b, h, t] / head_dim**0.5
                weights = scores.exp() / scores.exp().sum()
                out[b, h, t] = weights @ value[b, h // group][kept]
    return out


def random_heads(*, heads: int = 4, kv_heads: int = 4, queries: int = 5, keys: int = 7) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, heads, queries, 8), (2, kv_heads, keys, 8), (2, kv_heads, keys, 8))
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


VALID = torch.tensor([[False, False, True, True, True, True, True], [True] * 7])
MASKS = {
    "none": None,
    "causal": causal_mask(5, 7),
    "padding": padding_mask(VALID),
    "causal and padding": causal_mask(5, 7) & padding_mask(VALID),
    "block": (
        torch.tensor([[0, 0, 1, 1, 2], [3, 3, 3, 3, 4]])[:, None, :, None]
        == torch.tensor([[0, 1, 0, 1, 2, 2, 2], [3, 3, 4, 4, 4, 3, 3]])[:, None, None, :]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(MASKS))
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("trained", [False, True])
def test_attend_equals_naive_softmax(name: str, kv_heads: int, trained: bool) -> None:
    query, key, value = random_heads(kv_heads=kv_heads)
    mask = MASKS[name]
    allowed = None if mask is None else mask.expand(2, 4, 5, 7)
    expected = naive(query, key, value, allowed)
    out = attend(query.requires_grad_(trained), key, value, mask)
    torch.testing.assert_close(out.detach(), expected, atol=1e-12, rtol=1e-12)


def test_causal_mask_by_hand() -> None:
    assert causal_mask(2, 4)[0, 0].tolist() == [[True, True, True, False], [True, True, True, True]]
    assert causal_mask(3, 3)[0, 0].tolist() == torch.ones(3, 3).tril().bool().tolist()


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_grouped_queries_equal_repeated_heads(kv_heads: int) -> None:
    query, key, value = random_heads(kv_heads=kv_heads)
    repeated = [part.repeat_interleave(4 // kv_heads, dim=1) for part in (key, value)]
    torch.testing.assert_close(attend(query, key, value), attend(query, *repeated), atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["bool", "additive"])
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_plain_and_fused_paths_agree_with_gradients(kind: str, kv_heads: int, dtype: torch.dtype) -> None:
    mask = causal_mask(5, 7) & padding_mask(VALID)
    if kind == "additive":
        mask = torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, float("-inf"))
    inputs = [part.to(dtype).requires_grad_() for part in random_heads(kv_heads=kv_heads)]
    plain = attend(*inputs, mask)
    fused = torch.nn.functional.scaled_dot_product_attention(
        *inputs, attn_mask=mask, enable_gqa=kv_heads != 4
    )
    weight = torch.randn(plain.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}[dtype]
    torch.testing.assert_close(plain, fused, atol=tolerance, rtol=tolerance)
    ours = torch.autograd.grad((plain * weight).sum(), inputs)
    theirs = torch.autograd.grad((fused * weight).sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def test_plain_path_passes_gradcheck() -> None:
    inputs = [part.requires_grad_() for part in random_heads(kv_heads=2, queries=2, keys=3)]
    assert torch.autograd.gradcheck(lambda *x: attend(*x, causal_mask(2, 3)), inputs)


def test_module_equals_torch_multihead_attention() -> None:
    torch.manual_seed(0)
    ours = CrossAttention(24, 3, bias=True).double()
    theirs = torch.nn.MultiheadAttention(24, 3, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.weight.copy_(ours.output.weight)
        theirs.out_proj.bias.copy_(ours.output.bias)
        x, context = torch.randn(2, 5, 24).double(), torch.randn(2, 7, 24).double()
        for keys in (x, context):
            expected = theirs(x, keys, keys, need_weights=False)[0]
            torch.testing.assert_close(ours(x, Context(memory_BME=keys)), expected, atol=1e-12, rtol=0)
        torch.testing.assert_close(Attention.forward(ours, x), ours(x, Context(memory_BME=x)), atol=0, rtol=0)


def test_head_dim_may_differ_from_the_share_of_the_hidden_size() -> None:
    attention = Attention(40, 5, head_dim=16, num_kv_heads=1)
    assert attention.query.weight.shape == (80, 40)
    assert attention.key.weight.shape == (16, 40)
    assert attention(torch.randn(2, 3, 40)).shape == (2, 3, 40)


@pytest.mark.parametrize("rotary", [None, Rotary(8)])
@pytest.mark.parametrize("chunks", [[6], [4, 1, 1], [1] * 6])
def test_cache_equals_attention_at_once(rotary: Rotary | None, chunks: list[int]) -> None:
    torch.manual_seed(0)
    attention = Attention(32, 4, num_kv_heads=2, rotary=rotary).double()
    x = torch.randn(2, 6, 32, dtype=torch.float64)
    positions = torch.arange(6).expand(2, -1)
    cache = StaticKVCache(1, 2, 2, 8, 6, dtype=torch.float64)
    with torch.no_grad():
        whole = attention(x, Context(causal_mask(6, 6), positions))
        parts, start = [], 0
        for length in chunks:
            part = slice(start, start + length)
            start += length
            mask = causal_mask(length, start)
            parts.append(attention(x[:, part], Context(mask, positions[:, part], cache)))
            cache.advance(torch.ones(2, length, dtype=torch.bool))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-12, rtol=0)


def test_errors_name_the_sizes() -> None:
    with pytest.raises(ValueError, match="hidden_size 10 is not divisible by num_heads 4"):
        Attention(10, 4)
    with pytest.raises(ValueError, match="num_heads 4 is not divisible by num_kv_heads 3"):
        Attention(16, 4, num_kv_heads=3)
    with pytest.raises(ValueError, match="needs positions"):
        Attention(16, 4, rotary=Rotary(4))(torch.randn(1, 2, 16))
    with pytest.raises(ValueError, match="cross-attention needs"):
        CrossAttention(16, 4)(torch.randn(1, 2, 16))


@pytest.mark.parametrize("trained", [True, False], ids=["plain", "fused"])
def test_dropout_of_the_weights(trained: bool) -> None:
    """The mean over many draws is the result without dropout; outside training there is none."""
    torch.manual_seed(0)
    layer = Attention(8, 2, dropout=0.3)
    x = torch.randn(1, 5, 8)
    with torch.set_grad_enabled(trained):
        draws = torch.stack([layer(x).detach() for _ in range(3000)])
        assert not torch.equal(draws[0], draws[1])
        torch.testing.assert_close(draws.mean(0), layer.eval()(x).detach(), atol=0.03, rtol=0)
        assert torch.equal(layer(x), layer(x))


class Spy:
    """Keeps what ``scaled_dot_product_attention`` is called with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[dict[str, Any]] = []
        real = nn.functional.scaled_dot_product_attention

        def call(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
            self.calls.append({"query": tuple(query.shape), **options})
            return real(query, key, value, **options)

        monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", call)


@torch.no_grad()
def test_on_a_gpu_grouped_queries_take_a_fused_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flash attention has grouped queries without a mask; no fused form has them with one, but further queries."""
    spy = Spy(monkeypatch)
    with FakeTensorMode():
        key = torch.zeros(2, 2, 7, 8, device="cuda")
        query = torch.zeros(2, 6, 3, 8, device="cuda")
        mask = torch.ones(2, 1, 3, 7, dtype=torch.bool, device="cuda")
        assert attend(query, key, key, mask).shape == query.shape
        assert attend(query[:, :, :1], key, key, mask[:, :, :1]).shape == (2, 6, 1, 8)
        assert attend(query[:, :, :1], key, key, causal=True).shape == (2, 6, 1, 8)
        assert attend(query, key[:, :, :3], key[:, :, :3], causal=True).shape == query.shape
    masked, masked_step, step, prefill = spy.calls
    assert masked["query"] == (2, 2, 9, 8)
    assert masked_step["query"] == (2, 2, 3, 8)
    assert [masked.get("enable_gqa", False), masked_step.get("enable_gqa", False)] == [False, False]
    for call, is_causal in ((step, False), (prefill, True)):
        assert call["attn_mask"] is None
        assert call["enable_gqa"]
        assert call["is_causal"] == is_causal


def test_grouped_queries_as_further_queries() -> None:
    """The form for GPUs, run on a CPU, gives what repeated keys give."""
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 6, 3, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    mask = torch.rand(2, 1, 3, 7) > 0.3
    mask[..., 0] = True
    repeated = (x.repeat_interleave(3, dim=1) for x in (key, value))
    exact = nn.functional.scaled_dot_product_attention(query, *repeated, attn_mask=mask)
    torch.testing.assert_close(_attend_in_groups(query, key, value, mask, 0.0), exact)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (1, 5), (3, 5)])
def test_causal_is_the_causal_mask(queries: int, keys: int, grad: bool) -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 4, queries, 8, requires_grad=grad)
    key, value = torch.randn(2, 2, keys, 8), torch.randn(2, 2, keys, 8)
    expected = attend(query, key, value, causal_mask(queries, keys))
    torch.testing.assert_close(attend(query, key, value, causal=True), expected)


@torch.no_grad()
def test_prompts_without_padding_need_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder(hidden_size=16, num_layers=1, num_heads=2, inner_size=16).eval()
    x = torch.randn(2, 5, 16)
    spy = Spy(monkeypatch)
    plain = decoder(x)
    masked = decoder(x, torch.ones(2, 5, dtype=torch.bool))
    assert [call["attn_mask"] is None for call in spy.calls] == [True, False]
    torch.testing.assert_close(plain, masked)
    cache = decoder.new_cache(2, 8)
    valid = torch.tensor([[True] * 3, [False, True, True]])
    decoder(x[:, :3], valid, cache)
    assert not cache.all_valid  # so that further tokens do not see the padding
    behind = decoder(x[:, 3:], None, cache)
    whole = decoder(x, torch.cat([valid, torch.ones(2, 2, dtype=torch.bool)], dim=1))
    torch.testing.assert_close(behind, whole[:, 3:])

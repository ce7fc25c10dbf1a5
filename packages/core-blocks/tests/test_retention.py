"""Retention: three forms of one function, golden values, and TorchScale's and YOCO's formulas written out."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.retention import (
    Retention,
    RetentionRotary,
    chunkwise,
    parallel,
    recurrent,
    retnet_log_decays,
)
from torch import Tensor


def filled(function, *shape: int) -> Tensor:
    count = 1
    for size in shape:
        count *= size
    return function(torch.arange(count, dtype=torch.float64)).view(shape)


@pytest.fixture
def golden() -> tuple[Tensor, Tensor, Tensor]:
    """q, k (scaled) and v of the worked examples, (1, 2, 6, 4)."""
    shape = (1, 2, 6, 4)
    q = filled(lambda i: torch.sin(0.7 * i + 0.1), *shape)
    k = filled(lambda i: torch.cos(0.3 * i - 0.2), *shape) / 2
    return q, k, filled(lambda i: torch.sin(0.05 * i * i), *shape)


def by_recurrence(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> tuple[Tensor, Tensor]:
    state = q.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1])
    results = []
    for t in range(q.shape[2]):
        one, state = recurrent(q[:, :, t], k[:, :, t], v[:, :, t], log_decay[:, :, t], state)
        results.append(one)
    return torch.stack(results, dim=2), state


def normalized(o: Tensor, eps: float = 1e-12) -> Tensor:
    return o * torch.rsqrt(o.square().mean(-1, keepdim=True) + eps)


def test_gated_golden(golden) -> None:
    q, k, v = golden
    gate = filled(lambda i: torch.cos(0.5 * i), 1, 2, 6)
    log_decay = torch.nn.functional.logsigmoid(gate) / 16
    for o in (
        parallel(q, k, v, log_decay),
        by_recurrence(q, k, v, log_decay)[0],
        chunkwise(q, k, v, log_decay, chunk=4)[0],
    ):
        assert o.sum().item() == pytest.approx(4.383626933952, abs=1e-11)
        wanted = torch.tensor([0.368658, -0.012623, 0.587537, 2.035207], dtype=torch.float64)
        torch.testing.assert_close(o[0, 0, 5], wanted, atol=1e-6, rtol=0)
        wanted = torch.tensor([-1.274887, 1.379431, -0.924166, 0.404655], dtype=torch.float64)
        torch.testing.assert_close(o[0, 1, 5], wanted, atol=1e-6, rtol=0)


def test_retnet_golden(golden) -> None:
    q, k, v = golden
    log_decay = torch.log(1 - 2.0 ** (-5 - torch.arange(2, dtype=torch.float64)))
    rotary = RetentionRotary(4).double()
    rotary.inverse_frequency = 10_000.0 ** -torch.linspace(0, 1, 2, dtype=torch.float64)
    q, k = (rotary(x, torch.arange(6)[None]) for x in (q, k))
    o = normalized(parallel(q, k, v, log_decay[None, :, None].expand(1, 2, 6)))
    wanted = torch.tensor([0.947896, -0.464559, -1.681934, 0.238273], dtype=torch.float64)
    torch.testing.assert_close(o[0, 0, 5], wanted, atol=1e-6, rtol=0)
    wanted = torch.tensor([-1.215506, 1.196274, -0.887612, 0.551017], dtype=torch.float64)
    torch.testing.assert_close(o[0, 1, 5], wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(retnet_log_decays(2), log_decay)


@pytest.mark.parametrize("chunk", [1, 3, 7, 64])
def test_three_forms_are_one_with_gradients(chunk: int) -> None:
    torch.manual_seed(0)
    leaves = [torch.randn(2, 3, 17, d, dtype=torch.float64, requires_grad=True) for d in (4, 4, 6)]
    gate = torch.randn(2, 3, 17, dtype=torch.float64, requires_grad=True)
    forms = {
        "parallel": lambda: parallel(*leaves, torch.nn.functional.logsigmoid(gate)),
        "chunkwise": lambda: chunkwise(*leaves, torch.nn.functional.logsigmoid(gate), chunk=chunk)[0],
        "recurrent": lambda: by_recurrence(*leaves, torch.nn.functional.logsigmoid(gate))[0],
    }
    expected = forms["parallel"]()
    wanted = torch.autograd.grad(expected.sin().sum(), [*leaves, gate])
    for name in ("chunkwise", "recurrent"):
        o = forms[name]()
        torch.testing.assert_close(o, expected)
        for a, b in zip(torch.autograd.grad(o.sin().sum(), [*leaves, gate]), wanted, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("chunk", [64, 256])
def test_chunks_of_the_release_equal_the_recurrence(chunk: int) -> None:
    torch.manual_seed(1)
    q, k, v = (torch.randn(1, 2, 300, 8, dtype=torch.float64) for _ in range(3))
    log_decay = torch.nn.functional.logsigmoid(torch.randn(1, 2, 300, dtype=torch.float64)) / 16
    whole, state = chunkwise(q, k, v, log_decay, chunk=chunk)
    steps, last = by_recurrence(q, k, v, log_decay)
    torch.testing.assert_close(whole, steps, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(state, last, atol=1e-10, rtol=1e-10)


def test_a_state_goes_on() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 20, 4, dtype=torch.float64) for _ in range(3))
    log_decay = -torch.rand(1, 2, 20, dtype=torch.float64)
    whole, last = chunkwise(q, k, v, log_decay, chunk=5)
    first, state = chunkwise(*(t[:, :, :13] for t in (q, k, v, log_decay)), chunk=5)
    rest, state = chunkwise(*(t[:, :, 13:] for t in (q, k, v, log_decay)), state, chunk=5)
    torch.testing.assert_close(torch.cat([first, rest], dim=2), whole)
    torch.testing.assert_close(state, last)


def test_strong_decays_do_not_overflow() -> None:
    q, k, v = (torch.ones(1, 1, 300, 2) for _ in range(3))
    log_decay = torch.full((1, 1, 300), -50.0)
    for o in (parallel(q, k, v, log_decay), chunkwise(q, k, v, log_decay, chunk=100)[0]):
        torch.testing.assert_close(o, torch.full_like(o, 2.0))


def torchscale_parallel(module: Retention, x: Tensor, row_normalizer: str) -> Tensor:
    """RetNet's parallel form as TorchScale computes it, with its two scalings of rows."""
    tokens, heads = x.shape[1], module.num_heads
    q, k, v = (module._heads(p(x)) for p in (module.query, module.key, module.value))
    k = k * k.shape[-1] ** -0.5
    width = q.shape[-1]
    angle = 10000.0 ** -torch.linspace(0, 1, width // 2, dtype=torch.float64)
    angles = torch.arange(tokens)[:, None] * angle.repeat_interleave(2)

    def turned(t: Tensor) -> Tensor:
        pairs = torch.stack([-t[..., 1::2], t[..., ::2]], dim=-1).flatten(-2)
        return t * angles.cos() + pairs * angles.sin()

    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    decay = torch.log(1 - 2.0 ** (-5 - torch.arange(heads, dtype=torch.float64)))
    mask = torch.where(distance >= 0, (distance * decay[:, None, None]).exp(), 0.0)
    mask = mask / mask.sum(-1, keepdim=True).sqrt()
    scores = (turned(q) @ turned(k).transpose(-1, -2)) * mask
    size = scores.sum(-1).abs() if row_normalizer == "abs_sum" else scores.abs().sum(-1)
    scores = scores / size.clamp(min=1)[..., None]
    mixed = normalized(scores @ v, module.eps).transpose(1, 2).flatten(2)
    return module.output(torch.nn.functional.silu(module.gate(x)) * mixed)


@pytest.mark.parametrize("row_normalizer", ["abs_sum", "sum_abs"])
def test_retnet_layer_is_torchscales(row_normalizer: str) -> None:
    torch.manual_seed(0)
    module = Retention(24, 3, value_size=36, eps=1e-12, chunk=5).double()
    x = torch.randn(2, 17, 24, dtype=torch.float64)
    # Frequencies are held in float32.
    torch.testing.assert_close(
        module.retain(x)[0], torchscale_parallel(module, x, row_normalizer), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("decay", ["retnet", "gated"])
def test_layer_token_by_token_and_with_padding(decay) -> None:
    torch.manual_seed(0)
    module = Retention(24, 3, decay=decay, chunk=4).double()
    x = torch.randn(2, 11, 24, dtype=torch.float64)
    whole, last = module.retain(x)
    state, steps = None, []
    for t in range(11):
        y, state = module.retain(x[:, t : t + 1], state)
        steps.append(y)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole)
    torch.testing.assert_close(state.matrix_BHKV, last.matrix_BHKV)
    padded = torch.cat([torch.randn(2, 3, 24, dtype=torch.float64), x], dim=1)
    valid = torch.tensor([[False] * 3 + [True] * 11] * 2)
    y, state = module.retain(padded, valid_BT=valid)
    torch.testing.assert_close(y[:, 3:], whole)
    torch.testing.assert_close(state.matrix_BHKV, last.matrix_BHKV)
    assert state.count_B.tolist() == [11, 11]


def test_gated_layer_is_yocos() -> None:
    """YOCO's parallel formula, through its projections."""
    torch.manual_seed(0)
    module = Retention(16, 2, decay="gated", eps=1e-5).double()
    x = torch.randn(1, 9, 16, dtype=torch.float64)
    positions = torch.arange(9)[None]
    q, k, v = (module._heads(p(x)) for p in (module.query, module.key, module.value))
    q, k = module.rotary(q, positions), module.rotary(k, positions) * 8**-0.5
    c = (torch.nn.functional.logsigmoid(module.decay(x)).transpose(1, 2) / 16).cumsum(-1)
    weights = (q @ k.transpose(-1, -2)) * (c[..., :, None] - c[..., None, :]).exp().tril()
    mixed = normalized(weights @ v, 1e-5).transpose(1, 2).flatten(2)
    expected = module.output(torch.nn.functional.silu(module.gate(x)) * mixed)
    torch.testing.assert_close(module.retain(x)[0], expected)


def test_frequencies_and_bfloat16() -> None:
    rotary = RetentionRotary(8, theta=10_000.0)
    torch.testing.assert_close(rotary.inverse_frequency[[0, -1]], torch.tensor([1.0, 1e-4]))
    module = Retention(24, 3).to(torch.bfloat16)
    y, state = module.retain(torch.randn(1, 5, 24, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert state.matrix_BHKV.dtype == torch.float32


def test_impossible_sizes() -> None:
    with pytest.raises(ValueError, match="hidden_size 10 is not divisible by num_heads 3"):
        Retention(10, 3)
    with pytest.raises(ValueError, match="even head_dim"):
        Retention(15, 3)
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        Retention(24, 3, chunk=0)

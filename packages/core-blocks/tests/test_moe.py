"""Mixtures of experts against a loop over tokens and against the dense einsum form of GShard and TorchScale."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch
from multiway_blocks import moe
from multiway_blocks.feedforward import FeedForward
from multiway_blocks.moe import (
    ExpertList,
    Experts,
    Gate,
    MixtureOfExperts,
    MultiHeadMixture,
    XMoEGate,
    grouped_linear,
    places,
    route,
)
from multiway_blocks.transformer import Context
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode


def run(layer: nn.Module, x: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The result and the balance loss."""
    context = Context(valid_BT=valid)
    return layer(x, context), context.losses[0]


def expert(experts: Experts, index: int, x: Tensor) -> Tensor:
    """One expert's network on rows."""
    bias = experts.up_bias[index] if experts.up_bias is not None else None
    inner = nn.functional.linear(x, experts.up[index], bias)
    if experts.gated:
        gate, inner = inner.chunk(2, dim=-1)
        inner = experts.activation(gate) * inner
    else:
        inner = experts.activation(inner)
    bias = experts.down_bias[index] if experts.down_bias is not None else None
    return nn.functional.linear(inner, experts.down[index], bias)


def by_loop(layer: MixtureOfExperts, x_SE: Tensor) -> Tensor:
    """Token by token, expert by expert."""
    probabilities = layer.gate(x_SE).softmax(-1)
    rows = []
    for token, row in zip(x_SE, probabilities, strict=True):
        values, chosen = row.topk(layer.experts_per_token)
        if layer.experts_per_token > 1:
            values = values / values.sum()
        rows.append(
            sum(v * expert(layer.experts, int(e), token) for v, e in zip(values, chosen, strict=True))
        )
    return torch.stack(rows)


def by_einsum(layer: MixtureOfExperts, x_SE: Tensor, capacity: int, before: bool) -> Tensor:
    """GShard's algorithm 1 with one-hot masks and tensors of tokens x experts x capacity, two experts a token."""
    gates = layer.gate(x_SE).softmax(-1)
    count = gates.shape[1]
    mask1 = nn.functional.one_hot(gates.argmax(-1), count)
    mask2 = nn.functional.one_hot(gates.masked_fill(mask1.bool(), -1).argmax(-1), count)
    weight1, weight2 = (gates * mask1).sum(-1), (gates * mask2).sum(-1)
    if before:
        total = (weight1 + weight2).clamp(min=1e-9)
        weight1, weight2 = weight1 / total, weight2 / total
    place1 = mask1.cumsum(0) - 1
    place2 = mask2.cumsum(0) - 1 + mask1.sum(0)
    mask1, mask2 = mask1 * (place1 < capacity), mask2 * (place2 < capacity)
    weight1, weight2 = weight1 * mask1.sum(-1), weight2 * mask2.sum(-1)
    if not before:
        total = (weight1 + weight2).clamp(min=1e-9)
        weight1, weight2 = weight1 / total, weight2 / total
    combine = torch.zeros(len(x_SE), count, capacity, dtype=x_SE.dtype)
    for weight, mask, place in ((weight1, mask1, place1), (weight2, mask2, place2)):
        slot = nn.functional.one_hot((place * mask).sum(-1), capacity).to(x_SE.dtype)
        combine = combine + torch.einsum("se,sc->sec", weight[:, None] * mask, slot)
    dispatched = torch.einsum("sec,sm->ecm", (combine > 0).to(x_SE.dtype), x_SE)
    results = torch.stack([expert(layer.experts, i, rows) for i, rows in enumerate(dispatched)])
    return torch.einsum("sec,ecm->sm", combine, results)


def build(
    num_experts: int, k: int, *, gated: bool = False, xmoe: bool = False, **options
) -> MixtureOfExperts:
    torch.manual_seed(0)
    gate = (XMoEGate if xmoe else Gate)(12, num_experts)
    activation = nn.functional.silu if gated else nn.functional.gelu
    experts = Experts(num_experts, 12, 20, gated=gated, activation=activation, bias=not gated)
    layer = MixtureOfExperts(gate, experts, num_experts, experts_per_token=k, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return layer.eval()


@pytest.mark.parametrize(("num_experts", "k"), [(1, 1), (4, 1), (5, 2), (8, 3), (40, 2)])
@pytest.mark.parametrize("gated", [False, True])
def test_equals_a_loop_with_gradients(num_experts: int, k: int, gated: bool) -> None:
    layer = build(num_experts, k, gated=gated, xmoe=num_experts == 5)
    x = torch.randn(2, 11, 12, dtype=torch.float64, requires_grad=True)
    y, balance = run(layer, x)
    expected = by_loop(layer, x.flatten(0, 1)).view_as(x)
    torch.testing.assert_close(y, expected)
    leaves = (x, *layer.parameters())
    actual = torch.autograd.grad(y.sin().sum(), leaves, allow_unused=True)
    wanted = torch.autograd.grad(expected.sin().sum(), leaves, allow_unused=True)
    for a, b in zip(actual, wanted, strict=True):
        torch.testing.assert_close(torch.zeros(()) if a is None else a, torch.zeros(()) if b is None else b)
    assert balance.ndim == 0


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("capacity", [1, 5, 9, 200])
def test_equals_the_dense_form_with_a_capacity(before: bool, capacity: int) -> None:
    layer = build(6, 2)
    x = torch.randn(40, 12, dtype=torch.float64)
    routing = route(layer.gate(x), 2, capacity=capacity, normalize_before_dropping=before)
    y = layer._dispatch(x, routing)
    torch.testing.assert_close(y, by_einsum(layer, x, capacity, before))
    dropped = (routing.weights_SK == 0).sum()
    assert (dropped > 0) == (capacity < 20)
    counts = torch.bincount(routing.experts_SK[routing.weights_SK > 0], minlength=6)
    assert counts.max() <= capacity


def test_capacity_factor_of_a_layer() -> None:
    layer = build(6, 2, capacity_factor=1.0)
    x = torch.randn(40, 12, dtype=torch.float64)
    torch.testing.assert_close(run(layer, x)[0], by_einsum(layer, x, 2 * 7, True))


def test_places_count_first_choices_first() -> None:
    experts = torch.tensor([[0, 1], [1, 0], [0, 2], [1, 0]])
    assert places(experts, 3).tolist() == [[0, 2], [0, 2], [1, 0], [1, 3]]


def test_balance_loss() -> None:
    even = torch.eye(4).repeat(3, 1) * 1000
    assert route(even, 1).balance_loss.item() == pytest.approx(1.0)
    one = torch.zeros(12, 4)
    one[:, 2] = 1000
    assert route(one, 1).balance_loss.item() == pytest.approx(4.0)


@pytest.mark.parametrize("k", [1, 2])
def test_the_gate_learns_from_what_its_experts_give(k: int) -> None:
    layer = build(4, k)
    run(layer, torch.randn(9, 12, dtype=torch.float64))[0].sin().sum().backward()
    assert layer.gate.weight.grad.abs().sum() > 0


def test_padding_is_not_routed() -> None:
    layer = build(4, 2)
    x = torch.randn(3, 5, 12, dtype=torch.float64)
    valid = torch.rand(3, 5, generator=torch.Generator().manual_seed(1)) > 0.4
    y, balance = run(layer, x, valid)
    alone, expected = run(layer, x[valid])
    torch.testing.assert_close(y[valid], alone)
    torch.testing.assert_close(balance, expected)
    assert (y[~valid] == 0).all()
    changed = torch.where(valid[..., None], x, float("nan"))
    assert torch.equal(run(layer, changed, valid)[0], y)


def test_multi_head_equals_a_loop() -> None:
    layer = build(5, 2)
    module = MultiHeadMixture(36, 3, layer).double()
    x = torch.randn(2, 4, 36, dtype=torch.float64)
    tokens = []
    for token in x.flatten(0, 1):
        parts = module.split(token).view(3, 12)
        tokens.append(module.merge(by_loop(layer, parts).flatten()))
    torch.testing.assert_close(run(module, x)[0].flatten(0, 1), torch.stack(tokens))
    valid = torch.tensor([[False, True, True, True], [True, True, True, True]])
    y, _ = run(module, x, valid)
    torch.testing.assert_close(y[valid], torch.stack(tokens).view(2, 4, 36)[valid])


def test_x_moe_gate() -> None:
    """Logits are the token in few dimensions along each expert's direction; training keeps experts at 1.5."""
    torch.manual_seed(0)
    gate = XMoEGate(12, 5, reduced_size=6)
    x = torch.randn(7, 12)
    before = gate.experts.detach().clone()
    logits = gate.eval()(x)
    assert torch.equal(gate.experts, before)
    reduced = x @ gate.reduction.weight.t()
    torch.testing.assert_close(logits, reduced @ (before / before.norm(dim=1, keepdim=True)).t())
    trained = gate.train()(x)
    torch.testing.assert_close(trained, logits)
    torch.testing.assert_close(gate.experts.norm(dim=1), torch.full((5,), 1.5))
    half = gate.to(torch.bfloat16)(x.bfloat16())
    assert half.dtype == torch.float32


def test_groups_without_rows() -> None:
    weight = torch.randn(4, 3, 2)
    x = torch.randn(5, 2)
    y = grouped_linear(x, weight, None, torch.tensor([0, 2, 0, 3]))
    torch.testing.assert_close(y, torch.cat([x[:2] @ weight[1].t(), x[2:] @ weight[3].t()]))
    assert grouped_linear(x[:0], weight, None, torch.zeros(4, dtype=torch.long)).shape == (0, 3)
    layer = build(4, 2)
    y, _ = run(layer, torch.zeros(0, 12, dtype=torch.float64))
    assert y.shape == (0, 12)


@pytest.mark.parametrize("bias", [True, False])
def test_groups_in_one_call(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form for GPUs, which `grouped_mm` has on CPUs too: same values, same gradients, empty groups."""
    weight = torch.randn(4, 16, 8, dtype=torch.bfloat16, requires_grad=True)
    offset = torch.randn(4, 16, dtype=torch.bfloat16) if bias else None
    x = torch.randn(50, 8, dtype=torch.bfloat16, requires_grad=True)
    counts = torch.tensor([0, 30, 0, 20])
    outcome = []
    for one_call in (False, True):
        monkeypatch.setattr(moe, "_in_one_call", lambda *_, found=one_call: found)
        y = grouped_linear(x, weight, offset, counts)
        outcome.append((y, *torch.autograd.grad(y, [x, weight], torch.ones_like(y))))
    for plain, grouped in zip(*outcome, strict=True):
        torch.testing.assert_close(plain, grouped, rtol=0.02, atol=0.02)


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """What is made without a data type has this one."""
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("dtype", "forms"), [(torch.bfloat16, 2), (torch.float32, 0)])
@torch.no_grad()
def test_on_a_gpu_nothing_waits_for_the_device(
    dtype: torch.dtype, forms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors without memory on a device that need not be there: reading a number of them raises."""
    calls = []
    real = nn.functional.grouped_mm
    monkeypatch.setattr(
        nn.functional, "grouped_mm", lambda *a, **o: calls.append(a[0].shape) or real(*a, **o)
    )
    monkeypatch.setattr(moe, "has_kernel", lambda x: False)
    with FakeTensorMode(), torch.device("cuda"), default_dtype(dtype):
        experts = Experts(4, 16, 32, gated=True, activation=nn.functional.silu)
        layer = MixtureOfExperts(Gate(16, 4), experts, 4)
        x = torch.randn(2, 5, 16)
        if forms:
            assert layer(x, Context()).shape == x.shape
        else:  # float32 goes an expert at a time, for which the host must know how many rows there are
            with pytest.raises(DataDependentOutputException):
                layer(x, Context())
    assert len(calls) == forms


def test_impossible_layers() -> None:
    with pytest.raises(ValueError, match="experts_per_token must be 1 to 4, not 5"):
        build(4, 5)
    with pytest.raises(ValueError, match="capacity_factor must be above 0"):
        build(4, 2, capacity_factor=0)
    with pytest.raises(ValueError, match="num_heads 5 does not divide hidden_size 36"):
        MultiHeadMixture(36, 5, build(4, 2))


def test_second_choices_are_kept_at_random_by_their_weight() -> None:
    logits = torch.tensor([[2.0, 1.0, -9.0]]).repeat(20_000, 1)
    torch.manual_seed(0)
    routing = route(logits, 2, second="random")
    second = torch.softmax(logits[0, :2], 0)[1].item()
    kept = routing.weights_SK[:, 1] > 0
    assert kept.float().mean().item() == pytest.approx(2 * second, abs=0.01)
    torch.testing.assert_close(routing.weights_SK[kept][0].sum(), torch.tensor(1.0))
    # Those that are dropped take nobody's place.
    capped = route(logits, 2, second="random", capacity=5000)
    assert (capped.weights_SK[:, 1] > 0).sum() == 5000


def test_second_choices_are_sampled_from_the_softmax() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0, -1.0]]).repeat(20_000, 1)
    torch.manual_seed(0)
    routing = route(logits, 2, second="sampling", normalize=False)
    assert (routing.experts_SK[:, 0] == 0).all()
    share = torch.bincount(routing.experts_SK[:, 1], minlength=4) / 20_000
    wanted = torch.softmax(torch.tensor([-1e9, 1.0, 0.0, -1.0]), 0)
    torch.testing.assert_close(share, wanted, atol=0.015, rtol=0)
    probabilities = logits.softmax(-1)
    torch.testing.assert_close(routing.weights_SK, probabilities.gather(1, routing.experts_SK))


def test_experts_as_a_list_and_capacity_outside_training() -> None:
    torch.manual_seed(0)
    experts = ExpertList(FeedForward(12, 20, sub_norm=True) for _ in range(4))
    options = {
        "experts_per_token": 1,
        "capacity_factor": 1.0,
        "eval_capacity_fraction": 0.5,
    }
    layer = MixtureOfExperts(Gate(12, 4), experts, 4, **options)
    assert layer.capacity(30) == 8
    assert layer.eval().capacity(30) == 15
    x = torch.randn(30, 12)
    y, _ = run(layer, x)
    probabilities = layer.gate(x).softmax(-1)
    taken = [0] * 4
    for row, token in enumerate(x):
        best = int(probabilities[row].argmax())
        kept = taken[best] < 15
        taken[best] += 1
        expected = probabilities[row, best] * experts[best](token) * kept
        torch.testing.assert_close(y[row], expected)
    seen: list[int] = []
    experts.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    MixtureOfExperts(Gate(12, 4), experts, 4, capacity_factor=0.01)(x, Context())
    assert seen[0] <= 4  # what is dropped is not computed either
    with pytest.raises(ValueError, match="eval_capacity_fraction must be above 0"):
        MixtureOfExperts(Gate(12, 4), experts, 4, eval_capacity_fraction=0.0)

"""BitNet's linear maps against the formulas, published golden values and the integer product."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks import bitlinear
from multiway_blocks.bitlinear import (
    BitLinear,
    QuantizedRows,
    RMSNormQuantize,
    TernaryLinear,
    absmean,
    masters,
    quantize_rows,
)
from multiway_blocks.norm import RMSNorm


@pytest.fixture
def golden() -> tuple[torch.Tensor, torch.Tensor]:
    """W (6, 8) and x (2, 8) of the worked example."""
    weight = torch.sin(1.3 * torch.arange(48, dtype=torch.float64) + 0.2).view(6, 8)
    return weight, torch.cos(0.9 * torch.arange(16, dtype=torch.float64)).view(2, 8)


def test_worked_example(golden) -> None:
    weight, x = golden
    ternary, scale = absmean(weight)
    assert float(scale) == pytest.approx(0.6368518185, abs=1e-7)
    assert ternary[0].tolist() == [0, 1, 1, -1, -1, 1, 1, 0]
    assert ternary[2].tolist() == [1, 0, -1, 0, 1, 1, -1, -1]
    rows = quantize_rows(x)
    assert rows.values[0].tolist() == [127, 79, -29, -115, -114, -27, 81, 127]
    expected = torch.tensor([1.669856, -1.389039, -0.967814, 2.442101, -1.389039, 0.015044])
    linear = BitLinear(8, 6)
    linear.weight.data = weight.float()
    for module in (linear, TernaryLinear.of(linear)):
        torch.testing.assert_close(module(x.float())[0].detach(), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.66, 1.0])
def test_masters_are_quantised_to_what_they_were_made_of(share: float) -> None:
    torch.manual_seed(0)
    sign = torch.where(torch.rand(90, 120) < 0.5, -1, 1)
    values = torch.where(torch.rand(90, 120) < share, sign, 0).to(torch.int8)
    weight = masters(values, torch.tensor(0.15))
    own, scale = absmean(weight)
    assert torch.equal(own, values)
    assert float(scale) == pytest.approx(0.15, rel=1e-6)
    assert torch.equal(weight, masters(values, torch.tensor(0.15)))
    distance = (weight.abs() / 0.15 - 0.5).abs()
    assert distance.min() > 0.019  # none changes at once, some can soon
    assert (distance < 0.1).float().mean() > 0.03
    assert masters(torch.zeros(2, 3, dtype=torch.int8), scale).abs().sum() == 0


def test_a_map_takes_master_weights_for_ternary_ones() -> None:
    torch.manual_seed(0)
    packed = TernaryLinear.of(BitLinear(24, (8, 4)))
    linear = BitLinear(24, (8, 4))
    linear.set(*packed.ternary())
    x = torch.randn(5, 24)
    torch.testing.assert_close(linear(x), packed(x))


def test_straight_through_gradients() -> None:
    """dx and dW are those of a linear map of the quantised values."""
    torch.manual_seed(0)
    linear = BitLinear(12, (5, 3)).double()
    x = torch.randn(7, 12, dtype=torch.float64, requires_grad=True)
    target = torch.randn(7, 8, dtype=torch.float64)
    y = linear(x)
    y.backward(target)
    rows = quantize_rows(x.detach())
    fake_x = (rows.values * rows.step).double()
    values, scales = linear.ternary()
    fake_w = (values * scales.repeat_interleave(torch.tensor([5, 3]))[:, None]).double()
    torch.testing.assert_close(y.detach(), fake_x @ fake_w.t())
    torch.testing.assert_close(x.grad, target @ fake_w)
    torch.testing.assert_close(linear.weight.grad, target.t() @ fake_x)


def test_strength_is_the_way_from_master_to_ternary_weights() -> None:
    torch.manual_seed(0)
    linear, x = BitLinear(12, 5), torch.randn(3, 12)
    ternary = linear(x)
    linear.strength = 0.0
    rows = quantize_rows(x)
    master = (rows.values * rows.step) @ linear.weight.t()
    torch.testing.assert_close(linear(x), master)
    linear.strength = 0.25
    torch.testing.assert_close(linear(x), torch.lerp(master, ternary, 0.25))


def test_every_matrix_has_its_own_scale() -> None:
    torch.manual_seed(0)
    linear = BitLinear(40, (6, 2, 4))
    linear.weight.data[6:8] *= 100
    parts = linear.weight.detach().split((6, 2, 4))
    values, scales = linear.ternary()
    torch.testing.assert_close(scales, torch.stack([part.abs().mean() for part in parts]))
    x = torch.randn(3, 40)
    together = TernaryLinear.of(linear)(x)
    for part, result in zip(parts, together.split((6, 2, 4), dim=-1), strict=True):
        single = BitLinear(40, len(part))
        single.weight.data = part
        torch.testing.assert_close(TernaryLinear.of(single)(x), result, rtol=0, atol=0)
    assert set(values.unique().tolist()) <= {-1, 0, 1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", [True, False])
def test_packed_equals_master_weights(dtype, kernel, monkeypatch) -> None:
    """Behind a norm, as in a network; and with no kernel, where weights are unpacked once, in the same bits."""
    torch.manual_seed(1)
    norm, linear = RMSNorm(300, eps=1e-5), BitLinear(300, (10, 7))
    torch.nn.init.normal_(norm.weight)
    quantize, packed = RMSNormQuantize(300, eps=1e-5), TernaryLinear.of(linear)
    quantize.load_state_dict(norm.state_dict())
    x = torch.randn(2, 5, 300, dtype=dtype)
    with_kernel = packed(quantize(x))
    if not kernel:
        monkeypatch.setattr(bitlinear, "has_kernel", lambda device, dtype: False)
        packed._prepared = None
        assert torch.equal(packed(quantize(x)), with_kernel)
    expected = linear(norm(x.float()))
    assert with_kernel.dtype == dtype
    assert with_kernel.shape == (2, 5, 17)
    error = (with_kernel.float() - expected).abs().max() / expected.abs().max()
    assert error < (0.004 if dtype == torch.float32 else 0.02)  # a value at a half may be rounded either way


def test_rows_may_be_quantised_once_for_several_maps() -> None:
    x = torch.randn(4, 64)
    packed = TernaryLinear.of(BitLinear(64, 8))
    rows = quantize_rows(x)
    assert isinstance(rows, QuantizedRows)
    assert torch.equal(packed(rows), packed(x))


def test_scales_stay_in_float32_when_a_model_is_cast() -> None:
    packed = TernaryLinear.of(BitLinear(64, (8, 4)))
    scale = packed.scale.clone()
    packed.to(torch.bfloat16)
    assert packed.scale.dtype == torch.float32
    assert torch.equal(packed.scale, scale)
    assert packed(torch.randn(2, 64, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_state_goes_there_and_back() -> None:
    packed, other = TernaryLinear.of(BitLinear(70, 8)), TernaryLinear(70, 8)
    assert set(packed.state_dict()) == {"packed", "scale"}
    x = torch.randn(2, 70)
    assert (other(x) == 0).all()  # an untrained one is a map to zero
    other.load_state_dict(packed.state_dict())
    assert torch.equal(other(x), packed(x))
    values, scale = other.ternary()
    other.set(values, scale)
    assert torch.equal(other(x), packed(x))


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("normed", [True, False])
def test_asking_for_a_gradient_raises(kernel: bool, normed: bool, monkeypatch) -> None:
    if not kernel:
        monkeypatch.setattr(bitlinear, "has_kernel", lambda device, dtype: False)
    packed, norm = TernaryLinear.of(BitLinear(64, 8)), RMSNormQuantize(64)
    x = torch.randn(3, 64, requires_grad=True)
    y = packed(norm(x) if normed else x)
    with pytest.raises(NotImplementedError, match="no derivatives"):
        y.sum().backward()


def test_a_fault_in_a_row_stays_in_its_row() -> None:
    x = torch.randn(3, 64)
    x[1, 5] = float("nan")
    y = TernaryLinear.of(BitLinear(64, 8))(x)
    assert y.isnan().all(1).tolist() == [False, True, False]
    assert y.isnan().any(1).tolist() == [False, True, False]


def test_trains() -> None:
    """A ternary network fits a ternary teacher's data: gradients point somewhere."""
    torch.manual_seed(0)
    x = torch.randn(256, 32)
    target = x @ torch.randint(-1, 2, (32, 4)).float()
    linear = BitLinear(32, 4)
    optimizer = torch.optim.Adam(linear.parameters(), lr=0.02)
    losses = []
    for _ in range(150):
        loss = torch.nn.functional.mse_loss(linear(x) * 1.0, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]

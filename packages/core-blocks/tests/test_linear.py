"""`project` is `nn.functional.linear`, whatever form it takes."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.kernels.skinny_gemm import cpu
from multiway_blocks.linear import Linear, project


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("rows", [1, 2, 4, 5, 8, 14, 20, 33])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("outputs", [1024, 16])
def test_equals_linear(dtype: torch.dtype, rows: int, with_bias: bool, outputs: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(outputs, 512, generator=generator).to(dtype)
    bias = torch.randn(outputs, generator=generator).to(dtype) if with_bias else None
    x = torch.randn(rows, 1, 512, generator=generator).to(dtype)
    with torch.no_grad():
        y = project(x, weight, bias)
    expected = torch.nn.functional.linear(
        x.double(), weight.double(), None if bias is None else bias.double()
    )
    tolerance = {torch.float32: 1e-4, torch.bfloat16: 0.3, torch.float64: 1e-10}[dtype]  # |y| is about 22
    assert y.dtype == dtype
    assert y.is_contiguous()
    torch.testing.assert_close(
        y.double(), expected, atol=tolerance, rtol=1e-2 if dtype == torch.bfloat16 else 0
    )


def test_shapes_and_columns_that_are_not_contiguous() -> None:
    weight = torch.randn(1024, 512)
    x = torch.randn(512, 2, 4).permute(1, 2, 0)
    with torch.no_grad():
        y = project(x, weight)
    assert y.shape == (2, 4, 1024)
    torch.testing.assert_close(y, x @ weight.t(), atol=1e-4, rtol=1e-4)


def test_no_rows() -> None:
    with torch.no_grad():
        assert project(torch.randn(0, 512), torch.randn(1024, 512)).shape == (0, 1024)


def test_gradients_are_those_of_linear() -> None:
    layer = Linear(1024, 1024)
    plain = torch.nn.Linear(1024, 1024)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(8, 1024)
    for module in (layer, plain):
        module(x).square().sum().backward()
    assert layer.weight.grad is not None
    assert plain.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad)


def test_autocast_and_compile_take_the_usual_form() -> None:
    layer = Linear(1024, 1024)
    x = torch.randn(8, 1024)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


@pytest.mark.parametrize("rows", [1, 4, 8])
def test_without_a_compiler(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_functions", dict)
    weight, x = torch.randn(1024, 512), torch.randn(rows, 512)
    with torch.no_grad():
        torch.testing.assert_close(project(x, weight), x @ weight.t(), atol=1e-4, rtol=1e-4)

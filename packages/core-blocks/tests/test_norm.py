"""RMSNorm as a layer; the kernel below it has tests of its own."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.norm import RMSNorm


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_equals_the_formula(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm = RMSNorm(24, eps=1e-3).to(dtype)
    torch.nn.init.normal_(norm.weight)
    x = (torch.randn(2, 3, 24, dtype=torch.float64) * 5).to(dtype)
    wide = x.double()
    expected = wide / (wide.square().mean(-1, keepdim=True) + 1e-3).sqrt() * norm.weight.double()
    out = norm(x)
    assert out.dtype == dtype
    torch.testing.assert_close(
        out.double(), expected, atol=1e-6, rtol={torch.bfloat16: 1e-2}.get(dtype, 1e-5)
    )


def test_gradients_equal_those_of_torch() -> None:
    torch.manual_seed(0)
    norm = RMSNorm(16)
    x = torch.randn(5, 16, requires_grad=True)
    ours = torch.autograd.grad(norm(x).sin().sum(), [x, norm.weight])
    expected = torch.nn.functional.rms_norm(x, (16,), norm.weight, norm.eps)
    theirs = torch.autograd.grad(expected.sin().sum(), [x, norm.weight])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_works_in_inference_mode_and_on_the_meta_device() -> None:
    norm = RMSNorm(8)
    with torch.inference_mode():
        assert norm(torch.ones(2, 8)).allclose(torch.ones(2, 8), atol=1e-6)
    with torch.device("meta"):
        assert RMSNorm(8)(torch.empty(2, 8)).shape == (2, 8)


def test_compiles_without_a_graph_break_to_the_same_values() -> None:
    norm = RMSNorm(8)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(norm, dynamic=False, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), norm(x), atol=1e-6, rtol=1e-5)


def test_zero_rows_stay_zero() -> None:
    assert not RMSNorm(8)(torch.zeros(3, 8)).any()

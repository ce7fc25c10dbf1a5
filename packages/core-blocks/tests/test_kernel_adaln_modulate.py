"""Modulated RMSNorm: every implementation against the definition in float64, and what `torch.library` promises."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from multiway_blocks.kernels.adaln_modulate import adaln_modulate, cpu, operators, reference
from multiway_core.errors import InputError
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
EPS = 1e-5
# Modulations, rows of each, features.
SHAPES = [(1, 1, 1), (3, 1, 70), (2, 5, 130), (150, 2, 33), (1, 9, 2050), (0, 1, 8)]
DTYPES = [torch.float32, torch.bfloat16]


def draw(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def wide(arguments):
    return [a.double() if isinstance(a, Tensor) else a for a in arguments]


def close(actual: Tensor, exact: Tensor, ulps: float) -> None:
    """Rounded once, up to float32 noise at the scale of the terms."""
    assert actual.shape == exact.shape
    if exact.numel():
        bound = ulps * torch.finfo(actual.dtype).eps * exact.abs() + 1e-5 * (1 + exact.abs().max())
        assert ((actual.double() - exact).abs() <= bound).all()


def check(
    implementation: ModuleType, dtype: torch.dtype, gated: bool, *, ulps: float = 0.51, shapes=SHAPES
) -> None:
    for seed, (M, R, D) in enumerate(shapes):
        x, residual, grad_y, grad_total = (draw(M * R, D, dtype=dtype, seed=seed + i) for i in range(4))
        gate, shift, scale = (draw(M, D, dtype=dtype, seed=seed + i) for i in range(4, 7))
        weight = draw(D, dtype=torch.float32, seed=seed + 7) if seed % 2 else None
        if not gated:
            gate = residual = grad_total = None
        arguments = (x, gate, residual, weight, shift, scale, EPS)
        y, total, inverse_rms = implementation.forward(*arguments)
        if gated:
            close(total, residual.double() + gate.double().repeat_interleave(R, 0) * x.double(), ulps)
        # The norm sees the sum as it was rounded.
        exact = reference.forward(total.double(), None, None, *wide(arguments[3:]))
        close(y, exact[0], ulps)
        close(inverse_rms, exact[2], 1)
        assert y.dtype == total.dtype == dtype
        given = (grad_y, grad_total, total, x if gated else None, gate, weight, scale, inverse_rms)
        results = implementation.backward(*given)
        expected = reference.backward(*wide(given)[:-1], exact[2])
        for name, actual, exact_gradient in zip(results._fields, results, expected, strict=True):
            close(actual, exact_gradient, ulps)
            assert actual.dtype == (dtype if name in ("total_ND", "x_ND") else torch.float32)


def test_reference_backward_is_the_derivative() -> None:
    for weight in (None, draw(7, dtype=torch.float64, seed=9).requires_grad_()):
        x, residual = (draw(6, 7, dtype=torch.float64, seed=i).requires_grad_() for i in range(2))
        gate, shift, scale = (draw(3, 7, dtype=torch.float64, seed=i).requires_grad_() for i in range(2, 5))
        y, total, inverse_rms = reference.forward(x, gate, residual, weight, shift, scale, EPS)
        grads = draw(6, 7, dtype=torch.float64, seed=5), draw(6, 7, dtype=torch.float64, seed=6)
        leaves = [residual, x, gate, shift, scale] + ([] if weight is None else [weight])
        expected = torch.autograd.grad((y, total), leaves, grads)
        with torch.no_grad():
            actual = reference.backward(*grads, total, x, gate, weight, scale, inverse_rms)
        torch.testing.assert_close(actual[: len(leaves)], expected)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
def test_reference(dtype: torch.dtype, gated: bool) -> None:
    check(reference, dtype, gated)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_cpu(dtype: torch.dtype, gated: bool) -> None:
    if not cpu.supports(dtype):
        pytest.skip("no C++ compiler")
    check(cpu, dtype, gated)


def test_cpu_built_for_lesser_machines(built_for_lesser_machine: Callable[[ModuleType], None]) -> None:
    built_for_lesser_machine(cpu)
    for dtype in DTYPES:
        check(cpu, dtype, True)


def test_cpu_without_compiler_the_definition_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    x, shift, scale = (draw(3, 20, dtype=torch.float32, seed=i) for i in range(3))
    expected = reference.forward(x, None, None, None, shift, scale, EPS)[0]
    monkeypatch.setattr(cpu, "_functions", dict)
    assert torch.equal(adaln_modulate(x, shift, scale, None, EPS), expected)


def test_the_same_bits_for_any_number_of_threads() -> None:
    leaves = [draw(8, 40, 256, dtype=torch.bfloat16, seed=i).requires_grad_() for i in range(2)]
    modulations = [draw(8, 1, 256, dtype=torch.bfloat16, seed=i).requires_grad_() for i in range(2, 5)]
    weight = draw(256, dtype=torch.float32, seed=5).requires_grad_()
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            shift, scale, gate = modulations
            y, total = adaln_modulate(leaves[0], shift, scale, weight, EPS, gate, leaves[1])
            loss = y.float().square().sum() + total.float().sum()
            results.append([y, total, *torch.autograd.grad(loss, [*leaves, *modulations, weight])])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 1, 8), (1, 1, 8)])
def test_modulations_of_a_row_a_sequence_or_all(shape: tuple[int, ...]) -> None:
    x, residual = (draw(2, 8, 3, dtype=torch.float32, seed=i).transpose(1, 2) for i in range(2))
    shift = draw(*shape, dtype=torch.float32, seed=2)
    scale, gate = (draw(2, 3, 8, dtype=torch.float32, seed=i) for i in (3, 4))
    y, total = adaln_modulate(x, shift, scale, None, EPS, gate, residual)
    torch.testing.assert_close(total, residual + gate * x)
    normed = torch.nn.functional.rms_norm(total, (8,), eps=EPS)
    torch.testing.assert_close(y, normed * (1 + scale) + shift)
    y = adaln_modulate(x, shift, shift, None, EPS)
    torch.testing.assert_close(y, torch.nn.functional.rms_norm(x, (8,), eps=EPS) * (1 + shift) + shift)


def test_gradcheck() -> None:
    x, residual = (draw(2, 3, 5, dtype=torch.float64, seed=i).requires_grad_() for i in range(2))
    shift, scale, gate = (draw(2, 1, 5, dtype=torch.float64, seed=i).requires_grad_() for i in range(2, 5))
    weight = draw(5, dtype=torch.float64, seed=5).requires_grad_()
    function = lambda x, b, c, w, g, r: adaln_modulate(x, b, c, w, EPS, g, r)  # noqa: E731
    assert torch.autograd.gradcheck(function, (x, shift, scale, weight, gate, residual))
    assert torch.autograd.gradcheck(lambda *a: function(*a)[1], (x, shift, scale, weight, gate, residual))
    assert torch.autograd.gradcheck(lambda x, b, c: adaln_modulate(x, b, c, None, EPS), (x, shift, scale))


def test_second_derivative_is_refused() -> None:
    x, shift, scale = (draw(3, 5, dtype=torch.float32, seed=i).requires_grad_() for i in range(3))
    (grad,) = torch.autograd.grad(adaln_modulate(x, shift, scale, None, EPS).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="MULTIWAY_KERNELS=reference"):
        grad.sum().backward()


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck(dtype: torch.dtype) -> None:
    x, residual = (draw(4, 24, dtype=dtype, seed=i).requires_grad_() for i in range(2))
    shift, scale, gate = (draw(2, 24, dtype=dtype, seed=i).requires_grad_() for i in range(2, 5))
    weight = draw(24, dtype=torch.float32, seed=5).requires_grad_()
    torch.library.opcheck(operators.adaln_modulate, (x, gate, residual, weight, shift, scale, EPS))
    torch.library.opcheck(operators.adaln_modulate, (x, None, None, None, shift, scale, EPS))


def test_compiles_without_graph_break() -> None:
    def block(x: Tensor, shift: Tensor) -> Tensor:
        y, total = adaln_modulate(x * 2, shift, shift, None, EPS, shift, x)
        return y + total

    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend="aot_eager")
    for rows in (3, 8):
        x, shift = (draw(rows, 16, dtype=torch.float32, seed=i).requires_grad_() for i in range(2))
        expected, actual = block(x, shift), compiled(x, shift)
        torch.testing.assert_close(actual, expected)
        leaves = x, shift
        torch.testing.assert_close(
            torch.autograd.grad(actual.sum(), leaves), torch.autograd.grad(expected.sum(), leaves)
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.ones(3, 0)}, "x is torch.float32 (3, 0)"),
        ({"shift": torch.ones(2, 4)}, "shift is torch.float32 (2, 4) on cpu, expected torch.float32 (3, 4)"),
        ({"scale": torch.ones(3, 4).double()}, "scale is torch.float64"),
        ({"weight": torch.ones(3)}, "weight is torch.float32 (3,)"),
        ({"gate": torch.ones(3, 4)}, "gate and residual come together"),
        ({"gate": torch.ones(3, 4), "residual": torch.ones(2, 4)}, "residual is torch.float32 (2, 4)"),
    ],
)
def test_bad_arguments(changes: dict, message: str) -> None:
    arguments = {
        "x": torch.ones(3, 4), "shift": torch.ones(3, 4), "scale": torch.ones(3, 4), "weight": None, "eps": EPS
    }  # fmt: skip
    with pytest.raises(InputError) as caught:
        adaln_modulate(**(arguments | changes))
    assert message in str(caught.value)


def test_interpreter(run_interpreted: Callable[[int], None]) -> None:
    run_interpreted(4)


@pytest.mark.skipif(not INTERPRETED, reason="run by test_interpreter, in a process of its own")
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_triton_interpreted(dtype: torch.dtype, gated: bool) -> None:
    from multiway_blocks.kernels.adaln_modulate import triton

    # The interpreter rounds to bfloat16 by cutting off bits: right to one unit there, not to a half.
    ulps = 1.01 if dtype == torch.bfloat16 else 0.51
    check(triton, dtype, gated, ulps=ulps, shapes=[(1, 1, 1), (3, 1, 70), (2, 5, 130), (0, 1, 8)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", DTYPES)
def test_triton_on_gpu(dtype: torch.dtype) -> None:
    x, residual = (draw(300, 768, dtype=dtype, seed=i) for i in range(2))
    shift, scale, gate = (draw(100, 768, dtype=dtype, seed=i) for i in range(2, 5))
    from multiway_blocks.kernels.adaln_modulate import triton

    moved = [t.cuda() for t in (x, gate, residual)], [t.cuda() for t in (shift, scale)]
    y, total, _ = triton.forward(*moved[0], None, *moved[1], EPS)
    expected = reference.forward(x, gate, residual, None, shift, scale, EPS)
    torch.testing.assert_close(total.cpu(), expected[1])
    torch.testing.assert_close(y.cpu(), expected[0], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("D", [768, 4096])
def test_triton_compiles_ahead_of_time(
    capability: int, dtype: str, D: int, compile_ahead: Callable[..., str]
) -> None:
    from multiway_blocks.kernels.adaln_modulate import triton as kernels

    tile_d, warps = kernels.tile(D)
    data, number, sizes = f"*{dtype}", "*fp32", {"D": D, "TILE_D": tile_d}
    forward = dict.fromkeys(kernels.forward_kernel.arg_names[:8], data) | {
        "inverse_rms_ptr": number, "R": "i32", "eps": "fp32",
    }  # fmt: skip
    backward = dict.fromkeys(kernels.backward_kernel.arg_names[:7], data) | {"inverse_rms_ptr": number}
    backward |= {"result_ptr": data, "grad_x_ptr": data} | dict.fromkeys(
        ("grad_gate_ptr", "grad_shift_ptr", "grad_scale_ptr", "grad_weight_ptr"), number
    )
    for kernel, arguments in (
        (kernels.forward_kernel, forward),
        (kernels.backward_kernel, backward | {"R": "i32"}),
    ):
        loops = kernel is kernels.backward_kernel  # over the rows of a modulation
        ptx = compile_ahead(
            kernel, capability, arguments | sizes, warps=warps, shared=80 * 1024, pipelined=loops
        )
        # No product of matrices in it; rows come and go 16 bytes at a time.
        assert len(re.findall(r"ld\.global\.v4", ptx)) >= (3 if dtype == "bf16" else 6)
        assert re.search(r"st\.global\.v4", ptx)

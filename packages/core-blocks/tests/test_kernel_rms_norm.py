"""RMSNorm: every implementation against the definition in float64, and what `torch.library` promises.

Triton's kernels run on the CPU under the interpreter (a switch read at import, hence in a second pytest
process) and are compiled ahead of time for two generations of GPUs; neither needs a GPU.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from multiway_blocks.kernels import dispatch, native
from multiway_blocks.kernels.rms_norm import cpu, operators, reference, rms_norm
from multiway_core.errors import ConfigError, InputError
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
EPS = 1e-5
SHAPES = [(1, 1), (1, 257), (0, 48), (3, 7), (5, 64), (9, 300), (130, 33), (300, 256), (17, 2050)]
# x, residual: equal types, and branches beside a residual stream of another type.
DTYPES = [
    (torch.float32, None),
    (torch.bfloat16, None),
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.bfloat16, torch.float32),
    (torch.float32, torch.bfloat16),
]
HALF = [(torch.float16, None), (torch.float16, torch.float16), (torch.float16, torch.float32)]


def draw(*shape: int, dtype: torch.dtype, seed: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale).to(dtype)


def assert_rounded(
    actual: Tensor, exact: Tensor, *, ulps: float = 0.5, noise: float = 4e-6, scale: Tensor | None = None
) -> None:
    """`actual` is `exact` (float64) rounded once, up to float32 noise at the scale of its terms."""
    assert actual.shape == exact.shape
    if exact.numel() == 0:
        return
    scale = exact.abs() if scale is None else scale.abs()
    bound = ulps * torch.finfo(actual.dtype).eps * exact.abs() + noise * (scale + scale.amax())
    if actual.dtype == torch.float16:
        bound = bound + 2.0**-25  # below 2^-14 its spacing no longer shrinks
    excess = (actual.double() - exact).abs() - bound
    assert not (excess > 0).any(), f"{excess.max():.3g} beyond the bound, at scale {scale.max():.3g}"


def check(
    implementation: ModuleType,
    x_dtype: torch.dtype,
    residual_dtype: torch.dtype | None,
    *,
    ulps: float = 0.5,
    shapes: list[tuple[int, int]] = SHAPES,
) -> None:
    """`forward` and `backward` of a module against float64 on the same rounded inputs."""
    for seed, (N, D) in enumerate(shapes):
        x = draw(N, D, dtype=x_dtype, seed=seed, scale=3.0)
        residual = None if residual_dtype is None else draw(N, D, dtype=residual_dtype, seed=seed + 100)
        weight = None if seed % 3 == 0 else draw(D, dtype=torch.float32, seed=seed + 200)
        y, total, inverse_rms = implementation.forward(x, residual, weight, EPS)
        assert y.dtype == x_dtype
        exact_total = x.double() if residual is None else x.double() + residual.double()
        assert_rounded(total, exact_total, ulps=ulps, noise=1e-7)
        if ulps == 0.5:
            torch.testing.assert_close(total, x if residual is None else x + residual, rtol=0, atol=0)
        wide_weight = None if weight is None else weight.double()
        exact_y, _, exact_rms = reference.forward(total.double(), None, wide_weight, EPS)
        assert_rounded(y, exact_y, ulps=ulps)
        assert_rounded(inverse_rms, exact_rms)

        grad_y = draw(N, D, dtype=x_dtype, seed=seed + 300)
        grad_total = None if residual is None else draw(N, D, dtype=total.dtype, seed=seed + 400)
        dx, dweight = implementation.backward(grad_y, total, weight, inverse_rms, grad_total)
        wide_grad = None if grad_total is None else grad_total.double()
        exact = reference.backward(grad_y.double(), total.double(), wide_weight, exact_rms, wide_grad)
        assert dx.dtype == total.dtype
        assert dweight.dtype == torch.float32
        terms = grad_y.double() * exact_rms * (1 if weight is None else wide_weight)
        assert_rounded(dx, exact[0], ulps=ulps, scale=terms)
        assert_rounded(dweight, exact[1], noise=2e-5)


@pytest.mark.parametrize(("x", "residual"), DTYPES + HALF)
def test_reference_is_its_own_float64(x: torch.dtype, residual: torch.dtype | None) -> None:
    check(reference, x, residual)


def test_reference_backward_is_the_derivative() -> None:
    x = draw(4, 9, dtype=torch.float64, seed=0).requires_grad_()
    weight = draw(9, dtype=torch.float64, seed=1).requires_grad_()
    grad_y = draw(4, 9, dtype=torch.float64, seed=2)
    y, _, inverse_rms = reference.forward(x, None, weight, EPS)
    expected = torch.autograd.grad(y, (x, weight), grad_y)
    actual = reference.backward(grad_y, x, weight, inverse_rms, None)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def build_with(monkeypatch: pytest.MonkeyPatch, cache: Path, flag_sets: tuple[tuple[str, ...], ...]) -> bool:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(native, "_FLAG_SETS", flag_sets)
    cpu._functions.cache_clear()
    return bool(cpu._functions())


@pytest.fixture
def fresh_build():
    yield
    cpu._functions.cache_clear()


@pytest.mark.parametrize(("x", "residual"), DTYPES)
def test_cpu(x: torch.dtype, residual: torch.dtype | None) -> None:
    if not cpu.supports(x, residual or x):
        pytest.skip("no C++ compiler")
    check(cpu, x, residual)


def test_cpu_keeps_nan_and_infinity() -> None:
    x = torch.ones(3, 40, dtype=torch.bfloat16)
    x[0, 3] = float("nan")
    x[1, 3] = float("inf")
    y = rms_norm(x, None, EPS)
    assert y[0].isnan().all()
    assert y[1, 3].isnan()
    assert (y[1, :3] == 0).all()
    assert (y[2] == 1).all()
    weight = torch.tensor([0xFFFFFFFF], dtype=torch.uint32).view(
        torch.float32
    )  # rounds up to 0 if done naively
    assert rms_norm(torch.ones(2, 1, dtype=torch.bfloat16), weight, EPS).isnan().all()


def test_cpu_gives_the_same_bits_for_any_number_of_threads() -> None:
    x = draw(1000, 130, dtype=torch.bfloat16, seed=0)
    weight = draw(130, dtype=torch.float32, seed=1)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
            y = rms_norm(leaves[0], leaves[1], EPS)
            results.append([y, *torch.autograd.grad(y, leaves, x)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_cpu_built_for_lesser_machines(built_for_lesser_machine: Callable[[ModuleType], None]) -> None:
    built_for_lesser_machine(cpu)
    for x, residual in DTYPES:
        check(cpu, x, residual)


def test_cpu_without_compiler_the_definition_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    cpu._functions.cache_clear()
    try:
        assert not cpu.supports(torch.float32, torch.float32)
        x = draw(3, 20, dtype=torch.float32, seed=0).requires_grad_()
        y, total = rms_norm(x, None, EPS, x)
        expected = reference.forward(x, x, None, EPS)
        assert torch.equal(y, expected[0])
        assert torch.equal(total, expected[1])
        actual = torch.autograd.grad(y.sin().sum(), x)
        torch.testing.assert_close(actual, torch.autograd.grad(expected[0].sin().sum(), x))
    finally:
        cpu._functions.cache_clear()


def test_environment_forces_the_definition() -> None:
    code = """
import torch
from multiway_blocks.kernels.rms_norm import cpu, rms_norm
x = torch.arange(12.).reshape(3, 4).requires_grad_()
y, total = rms_norm(x, torch.ones(4), 1e-6, residual=x)
(gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
gradient.sum().backward()  # a second derivative, which only the definition has
assert not cpu._functions.cache_info().currsize
"""
    environment = os.environ | {"MULTIWAY_KERNELS": "reference"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_unknown_mode_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIWAY_KERNELS", "fast")
    with pytest.raises(ConfigError, match=r"MULTIWAY_KERNELS=fast: expected 'auto' .* or 'reference'"):
        dispatch._mode()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("with_residual", [False, True])
def test_public_function_on_strided_input(dtype: torch.dtype, with_residual: bool) -> None:
    base = draw(6, 2, 5, 22, dtype=dtype, seed=0)
    x = base[:, 0, :, ::2].transpose(0, 1).requires_grad_()  # (5, 6, 11), no stride is 1
    residual = base[:, 1, :, 11:].transpose(0, 1) if with_residual else None
    weight = draw(11, dtype=dtype, seed=1).requires_grad_()
    result = rms_norm(x, weight, EPS, residual)
    y, total = result if isinstance(result, tuple) else (result, x)
    expected, _, _ = reference.forward(total, None, weight, EPS)
    tolerance = {"rtol": torch.finfo(dtype).eps, "atol": 1e-5}
    torch.testing.assert_close(y, expected, **tolerance)
    # An expanded gradient (stride 0), as `sum` sends it.
    actual = torch.autograd.grad(y.sum(), (x, weight), retain_graph=True)
    wanted = torch.autograd.grad(expected.sum(), (x, weight))
    for a, b in zip(actual, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=8 * torch.finfo(dtype).eps, atol=8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("used", ["y", "total", "both"])
def test_gradients_of_either_result(used: str) -> None:
    x, residual = (draw(7, 20, dtype=torch.float32, seed=s).requires_grad_() for s in (0, 1))
    weight = draw(20, dtype=torch.float32, seed=2).requires_grad_()
    outcome = []
    for function in (rms_norm, lambda x, w, eps, r: reference.forward(x, r, w, eps)[:2]):
        y, total = function(x, weight, EPS, residual)
        loss = {"y": y.square().sum(), "total": total.sin().sum(), "both": (y * total).sum()}[used]
        outcome.append(torch.autograd.grad(loss, (x, residual, weight), allow_unused=True))
    for a, b in zip(*outcome, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_mixed_types_send_each_gradient_in_its_own_type() -> None:
    x = draw(4, 32, dtype=torch.bfloat16, seed=0).requires_grad_()
    residual = draw(4, 32, dtype=torch.float32, seed=1).requires_grad_()
    weight = draw(32, dtype=torch.float32, seed=2).requires_grad_()
    y, total = rms_norm(x, weight, EPS, residual)
    assert (y.dtype, total.dtype) == (torch.bfloat16, torch.float32)
    (y.float().sum() + total.sum()).backward()
    assert (x.grad.dtype, residual.grad.dtype, weight.grad.dtype) == (
        torch.bfloat16,
        torch.float32,
        torch.float32,
    )


def test_gradcheck() -> None:
    x, residual = (draw(3, 5, dtype=torch.float64, seed=s).requires_grad_() for s in (0, 1))
    weight = draw(5, dtype=torch.float64, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, EPS), (x, weight))
    assert torch.autograd.gradcheck(lambda x: rms_norm(x, None, EPS), (x,))
    assert torch.autograd.gradcheck(lambda x, w, r: rms_norm(x, w, EPS, r), (x, weight, residual))
    assert torch.autograd.gradcheck(lambda x, w, r: reference.forward(x, r, w, EPS), (x, weight, residual))


def test_second_derivative_is_refused() -> None:
    x = draw(3, 5, dtype=torch.float32, seed=0).requires_grad_()
    (gradient,) = torch.autograd.grad(rms_norm(x, None, EPS).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="MULTIWAY_KERNELS=reference"):
        gradient.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_opcheck(dtype: torch.dtype) -> None:
    x, residual = (draw(2, 3, 24, dtype=dtype, seed=s).requires_grad_() for s in (0, 1))
    weight = draw(24, dtype=torch.float32, seed=2).requires_grad_()
    strided = draw(24, 5, dtype=dtype, seed=3).t().requires_grad_()
    for arguments in ((x, weight, EPS), (x, None, EPS), (strided, weight, EPS)):
        torch.library.opcheck(operators.rms_norm, arguments)
    for arguments in ((x, residual, weight, EPS), (x, residual.detach().float(), None, EPS)):
        torch.library.opcheck(operators.add_rms_norm, arguments)
    inverse_rms = operators.rms_norm(x, weight, EPS)[1].detach()
    schema = ("test_schema", "test_faketensor")
    for w in (weight.detach(), None):
        arguments = (residual.detach(), x.detach(), w, inverse_rms, x.detach())
        torch.library.opcheck(operators.rms_norm_backward, arguments, test_utils=schema)


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(draw(16, dtype=torch.float32, seed=5))

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        y, total = rms_norm(x * 2, self.weight, EPS, residual)
        return rms_norm(total, None, EPS) + y


def test_compiles_without_graph_break() -> None:
    block = Block()
    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend="aot_eager")
    for rows in (3, 8):
        x, residual = (draw(rows, 16, dtype=torch.float32, seed=s).requires_grad_() for s in (0, 1))
        leaves = (x, residual, block.weight)
        expected, actual = block(x, residual), compiled(x, residual)
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(
            torch.autograd.grad(actual.sin().sum(), leaves), torch.autograd.grad(expected.sin().sum(), leaves)
        )


def test_exports_as_one_node_each() -> None:
    block = Block()
    arguments = (draw(4, 16, dtype=torch.float32, seed=0), draw(4, 16, dtype=torch.float32, seed=1))
    rows = torch.export.Dim("rows")
    program = torch.export.export(block, arguments, dynamic_shapes=({0: rows}, {0: rows}))
    names = [str(node.target) for node in program.graph.nodes if "multiway" in str(node.target)]
    assert names == ["multiway.add_rms_norm.default", "multiway.rms_norm.default"]
    torch.testing.assert_close(program.module()(*arguments), block(*arguments))


@pytest.mark.parametrize(
    ("x", "weight", "residual", "message"),
    [
        (torch.ones(3, 0), None, None, "x is torch.float32 (3, 0) on cpu"),
        (torch.ones(()), None, None, "x is torch.float32 ()"),
        (torch.ones(3, 4, dtype=torch.int64), None, None, "x is torch.int64"),
        (
            torch.ones(3, 4),
            torch.ones(3),
            None,
            "(3,) on cpu, expected floating point (4,) on cpu",
        ),
        (torch.ones(3, 4), torch.ones(4, device="meta"), None, "weight is torch.float32 (4,) on meta"),
        (torch.ones(3, 4), None, torch.ones(4), "residual is torch.float32 (4,) on cpu"),
    ],
)
def test_bad_arguments(x: Tensor, weight: Tensor | None, residual: Tensor | None, message: str) -> None:
    with pytest.raises(InputError) as caught:
        rms_norm(x, weight, EPS, residual)
    assert message in str(caught.value)


def test_interpreter() -> None:
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", __file__, "-k", "interpreted"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(DTYPES + HALF)} passed" in result.stdout


@pytest.mark.skipif(not INTERPRETED, reason="run by test_interpreter, in a process of its own")
@pytest.mark.parametrize(("x", "residual"), DTYPES + HALF)
def test_triton_interpreted(x: torch.dtype, residual: torch.dtype | None) -> None:
    from multiway_blocks.kernels.rms_norm import triton

    # The interpreter rounds to bfloat16 by cutting off bits: right to one unit there, not to a half.
    ulps = 1.0 if torch.bfloat16 in (x, residual) else 0.5
    check(triton, x, residual, ulps=ulps, shapes=[(1, 1), (0, 48), (3, 7), (9, 300), (17, 64), (2, 2050)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("x", "residual"), DTYPES + HALF)
def test_triton_on_gpu(x: torch.dtype, residual: torch.dtype | None) -> None:
    leaves = [draw(1000, 777, dtype=x, seed=0), draw(777, dtype=torch.float32, seed=1)]
    leaves += [] if residual is None else [draw(1000, 777, dtype=residual, seed=2)]
    outcome = []
    for device in ("cpu", "cuda"):
        moved = [leaf.to(device).requires_grad_() for leaf in leaves]
        result = rms_norm(moved[0], moved[1], EPS, *moved[2:])
        y = result[0] if isinstance(result, tuple) else result
        gradients = torch.autograd.grad(y.float().sin().sum(), moved)
        outcome.append([t.double().cpu() for t in (y, *gradients)])
    for a, b in zip(*outcome, strict=True):
        torch.testing.assert_close(a, b, rtol=2 * torch.finfo(x).eps, atol=1e-3)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("D", [256, 1000, 8192])
def test_triton_compiles_ahead_of_time(
    capability: int, dtype: str, D: int, compile_ahead: Callable[..., str]
) -> None:
    from multiway_blocks.kernels.rms_norm import triton as kernels

    tile_n, tile_d, warps = kernels.tile(D)
    data, wide = f"*{dtype}", "*fp32"
    for kernel, types in (
        (kernels.forward_kernel, [data, data, wide, data, data, wide, "i32", "fp32"]),
        (kernels.backward_kernel, [data, data, wide, wide, data, data, wide, "i32"]),
    ):
        arguments = dict(zip(kernel.arg_names, [*types, D, tile_n, tile_d], strict=True))
        loops = kernel is kernels.backward_kernel  # over tiles of rows
        ptx = compile_ahead(kernel, capability, arguments, warps=warps, shared=100 * 1024, pipelined=loops)
        # x and residual, or grad_y and x: every row tensor is read and written 16 bytes at a time.
        reads = len(re.findall(r"ld\.global\.v4|cp\.async\.cg\.shared\.global", ptx))
        assert reads >= (2 if dtype == "bf16" else 4)
        assert re.search(r"st\.global\.v4", ptx)

"""RMSNorm with quantisation: all implementations give the definition's int8 values, and the step to a rounding.

As in `test_kernel_rms_norm.py`, Triton's kernel runs under the interpreter (in a second pytest process) and is compiled
ahead of time for two generations of GPUs; neither needs a GPU.
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
from multiway_blocks.kernels.rms_norm import rms_norm
from multiway_blocks.kernels.rms_norm_quantize import cpu, operators, reference, rms_norm_quantize
from multiway_core.errors import InputError
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
EPS = 1e-5
DTYPES = [torch.float32, torch.bfloat16]
SHAPES = [(1, 1), (1, 257), (0, 48), (3, 7), (5, 64), (9, 300), (130, 33), (17, 2050)]


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale).to(dtype)


def check(implementation: ModuleType, dtype: torch.dtype, shapes: list[tuple[int, int]] = SHAPES) -> None:
    for seed, (rows, features) in enumerate(shapes):
        for scale in (1.0, 1e-6, 1e4):  # tiny activations: eps and the least peak count
            x = draw(rows, features, dtype=dtype, seed=seed, scale=scale)
            for weight in (None, draw(features, dtype=torch.float32, seed=seed + 50)):
                values, step = implementation.forward(x, weight, EPS)
                expected, expected_step = reference.forward(x, weight, EPS)
                assert (values.dtype, step.dtype) == (torch.int8, torch.float32)
                assert values.shape == x.shape
                tiny = scale == 1e-6  # where the peak is not the row's, it hangs on the sum's rounding
                assert ((values.int() - expected.int()).abs() <= tiny).all()
                torch.testing.assert_close(step, expected_step, rtol=1e-5, atol=0)


@pytest.mark.parametrize("weighted", [True, False])
def test_definition_is_the_norm_then_the_quantiser_of_the_paper(weighted: bool) -> None:
    x = draw(20, 90, dtype=torch.float64)
    weight = draw(90, dtype=torch.float64, seed=1) if weighted else None
    values, step = reference.forward(x, weight, EPS)
    norm = rms_norm(x, weight, EPS)
    scale = 127 / norm.abs().amax(-1, keepdim=True).clamp(min=1e-5)
    exact = norm * scale
    undecided = ((exact - exact.floor()) - 0.5).abs() < 1e-9
    assert ((values == exact.round()) | undecided).all()
    torch.testing.assert_close(step, 1 / scale[:, 0])
    assert values.abs().amax(-1).eq(127).all()


def test_halves_are_rounded_to_even() -> None:
    x = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5]])
    for implementation in [reference, *([cpu] if cpu.supports(torch.float32) else [])]:
        assert implementation.forward(x, None, EPS)[0].tolist() == [[127, 0, 2, 2, 0, -2]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_cpu(dtype: torch.dtype) -> None:
    if not cpu.supports(dtype):
        pytest.skip("no C++ compiler")
    check(cpu, dtype)


def test_cpu_built_for_lesser_machines(built_for_lesser_machine: Callable[[ModuleType], None]) -> None:
    built_for_lesser_machine(cpu)
    for dtype in DTYPES:
        check(cpu, dtype)


@pytest.mark.parametrize("fault", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 18, 19])
def test_a_faulty_row_shows_in_its_step_only(fault: float, place: int) -> None:
    x = draw(3, 20)
    x[1, place] = fault
    for implementation in [reference, *([cpu] if cpu.supports(torch.float32) else [])]:
        values, step = implementation.forward(x, None, EPS)
        assert step.isnan().tolist() == [False, True, False]
        assert (values[1] == 0).all()


def test_without_compiler_the_definition_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_functions", dict)
    x = draw(3, 20)
    values, step = rms_norm_quantize(x, None, EPS)
    expected = reference.forward(x, None, EPS)
    assert torch.equal(values, expected[0])
    assert torch.equal(step[:, 0], expected[1])


def test_environment_forces_the_definition() -> None:
    code = """
import torch
from multiway_blocks.kernels.rms_norm_quantize import cpu, rms_norm_quantize
rms_norm_quantize(torch.arange(12.).reshape(3, 4), torch.ones(4), 1e-6)
assert not cpu._functions.cache_info().currsize
"""
    environment = os.environ | {"MULTIWAY_KERNELS": "reference"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16, torch.float64])
def test_public_function_on_strided_input(dtype: torch.dtype) -> None:
    x = draw(6, 5, 22, dtype=dtype).transpose(0, 1)[..., ::2]
    weight = draw(22, dtype=dtype, seed=1)[::2]
    values, step = rms_norm_quantize(x, weight, EPS)
    expected = rms_norm(x.double(), weight.double(), EPS)
    assert values.shape == x.shape
    assert step.shape == (5, 6, 1)
    assert step.dtype == torch.promote_types(dtype, torch.float32)
    assert ((values * step.double() - expected).abs() <= 0.5001 * step).all()


def test_no_derivatives_and_it_says_so() -> None:
    values, step = rms_norm_quantize(draw(2, 8).requires_grad_(), None, EPS)
    assert not values.requires_grad
    with pytest.raises(NotImplementedError, match="BitLinear"):
        step.sum().backward()


def test_opcheck_and_one_node() -> None:
    x, weight = draw(4, 24), draw(24, seed=1)
    tests = ("test_schema", "test_faketensor")
    for arguments in ((x, weight, EPS), (x.bfloat16(), None, EPS)):
        torch.library.opcheck(operators.rms_norm_quantize, arguments, test_utils=tests)

    class Block(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            values, step = rms_norm_quantize(x * 2, weight, EPS)
            return values * step

    compiled = torch.compile(Block(), fullgraph=True, dynamic=True, backend="aot_eager")
    for rows in (2, 4):
        torch.testing.assert_close(compiled(x[:rows]), Block()(x[:rows]))
    program = torch.export.export(Block(), (x,), dynamic_shapes=({0: torch.export.Dim("rows")},))
    names = [str(node.target) for node in program.graph.nodes if "multiway" in str(node.target)]
    assert names == ["multiway.rms_norm_quantize.default"]


@pytest.mark.parametrize(
    ("x", "weight", "message"),
    [
        (torch.ones(3, 0), None, "x is torch.float32 (3, 0) on cpu"),
        (torch.ones(()), None, "x is torch.float32 ()"),
        (torch.ones(3, 4, dtype=torch.int64), None, "x is torch.int64"),
        (
            torch.ones(3, 4),
            torch.ones(3),
            "weight is torch.float32 (3,) on cpu, expected floating point (4,)",
        ),
        (torch.ones(3, 4), torch.ones(4, device="meta"), "weight is torch.float32 (4,) on meta"),
    ],
)
def test_bad_arguments(x: Tensor, weight: Tensor | None, message: str) -> None:
    with pytest.raises(InputError) as caught:
        rms_norm_quantize(x, weight, EPS)
    assert message in str(caught.value)


def test_interpreter() -> None:
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", __file__, "-k", "interpreted"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 passed" in result.stdout


@pytest.mark.skipif(not INTERPRETED, reason="run by test_interpreter, in a process of its own")
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
def test_triton_interpreted(dtype: torch.dtype) -> None:
    from multiway_blocks.kernels.rms_norm_quantize import triton

    check(triton, dtype, [(1, 1), (0, 48), (3, 7), (9, 300), (17, 64)])
    x = draw(3, 20, dtype=dtype)
    x[1, 5] = float("nan")
    values, step = triton.forward(x, None, EPS)
    assert step.isnan().tolist() == [False, True, False]
    assert (values[1] == 0).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
def test_triton_on_gpu(dtype: torch.dtype) -> None:
    x, weight = draw(1000, 777, dtype=dtype), draw(777, seed=1)
    values, step = rms_norm_quantize(x.cuda(), weight.cuda(), EPS)
    expected, expected_step = reference.forward(x, weight, EPS)
    assert torch.equal(values.cpu(), expected)
    torch.testing.assert_close(step[:, 0].cpu(), expected_step, rtol=1e-5, atol=0)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter replaces the compiler")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("D", [1000, 2560, 6912])
def test_triton_compiles_ahead_of_time(capability: int, D: int, tmp_path: Path) -> None:
    triton = pytest.importorskip("triton")
    from multiway_blocks.kernels.rms_norm_quantize import triton as kernels
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    tile_n, tile_d, warps = kernels.tile(D)
    names = kernels.forward_kernel.arg_names
    types = ["*bf16", "*fp32", "*i8", "*fp32", "i32", "fp32"]
    signature = dict(zip(names, [*types, *["constexpr"] * 4], strict=True))
    constants = {"D": D, "SMALLEST": reference.SMALLEST, "TILE_N": tile_n, "TILE_D": tile_d}
    aligned = {(i,): [["tt.divisibility", 16]] for i, t in enumerate(types) if t.startswith("*")}
    compiled = triton.compile(
        ASTSource(
            kernels.forward_kernel, signature, {(names.index(n),): v for n, v in constants.items()}, aligned
        ),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": warps, "enable_fp_fusion": False},
    )
    assert compiled.asm["cubin"]
    assert compiled.metadata.shared <= 48 * 1024
    ptx = compiled.asm["ptx"]
    assert re.search(r"ld\.global\.v4", ptx)  # x comes 16 bytes at a time
    assert re.search(r"st\.global\.v2", ptx)  # eight values of a thread leave at once
    source = tmp_path / "kernel.ptx"
    source.write_text(ptx)
    arch = f"sm_{capability}" + ("a" if capability == 90 else "")
    command = [triton.knobs.nvidia.ptxas.path, "-v", f"--gpu-name={arch}", str(source), "-o", os.devnull]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert "0 bytes spill stores, 0 bytes spill loads" in report

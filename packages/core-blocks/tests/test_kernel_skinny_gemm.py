"""Products of few rows: every implementation against float64, and what `torch.library` promises.

As in `test_kernel_rms_norm.py`, Triton's kernel runs under the interpreter (in a second pytest process) and is compiled
ahead of time for two generations of GPUs; neither needs a GPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from multiway_blocks.kernels.skinny_gemm import cpu, operators, reference, skinny_gemm
from multiway_core.errors import InputError
from torch import Tensor

DTYPES = [torch.float32, torch.bfloat16]
# Rows, inputs, outputs: one row, odd sizes, more rows than a group has, outputs that no number of streams divides,
# rows that do not fit the first-level cache.
SHAPES = [
    (1, 515, 1),
    (1, 64, 259),
    (3, 7, 35),
    (4, 96, 64),
    (8, 130, 33),
    (9, 64, 67),
    (16, 40, 21),
    (7, 2500, 10),
    (0, 8, 8),
    (2, 0, 5),
]


def draw(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def check(implementation: ModuleType, dtype: torch.dtype) -> None:
    """`forward` of a module against float64 on the same rounded inputs: rounded once, up to float32 noise."""
    for seed, (rows, inputs, outputs) in enumerate(SHAPES):
        x = draw(rows, inputs, dtype=dtype, seed=seed)
        weight = draw(outputs, inputs, dtype=dtype, seed=seed + 100)
        for bias in (None, draw(outputs, dtype=dtype, seed=seed + 200)):
            y = implementation.forward(x, weight, bias)
            exact = x.double() @ weight.double().t() + (0 if bias is None else bias.double())
            terms = x.double().abs() @ weight.double().abs().t() + 1
            bound = 0.5 * torch.finfo(dtype).eps * exact.abs() + 1e-6 * terms
            assert y.dtype == dtype
            assert y.shape == exact.shape
            assert ((y.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
def test_reference(dtype: torch.dtype) -> None:
    check(reference, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cpu(dtype: torch.dtype) -> None:
    if not cpu.supports(dtype):
        pytest.skip("no C++ compiler")
    check(cpu, dtype)


def test_cpu_built_for_lesser_machines(built_for_lesser_machine: Callable[[ModuleType], None]) -> None:
    built_for_lesser_machine(cpu)
    for dtype in DTYPES:
        check(cpu, dtype)


def test_cpu_without_compiler_the_definition_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_functions", dict)
    x, weight = draw(3, 20, dtype=torch.float32, seed=0), draw(5, 20, dtype=torch.float32, seed=1)
    assert torch.equal(skinny_gemm(x, weight), reference.forward(x, weight, None))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_depend_on_its_batch_mates(dtype: torch.dtype) -> None:
    if not cpu.supports(dtype):
        pytest.skip("no C++ compiler")
    weight = draw(259, 96, dtype=dtype, seed=0)
    x = draw(17, 96, dtype=dtype, seed=1)
    alone = torch.cat([cpu.forward(x[row : row + 1], weight, None) for row in range(17)])
    for rows in (2, 3, 4, 5, 8, 17):
        assert torch.equal(cpu.forward(x[:rows], weight, None), alone[:rows])


def test_the_same_bits_for_any_number_of_threads() -> None:
    x, weight = draw(5, 300, dtype=torch.float32, seed=0), draw(1001, 300, dtype=torch.float32, seed=1)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(skinny_gemm(x, weight))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_environment_forces_the_definition() -> None:
    code = """
import torch
from multiway_blocks.kernels.skinny_gemm import cpu, skinny_gemm
from multiway_blocks.kernels.decode_attention import cpu as other, decode_attention
from multiway_blocks.attention import attend
from multiway_blocks.linear import project
with torch.no_grad():
    skinny_gemm(torch.ones(2, 3), torch.ones(4, 3))
    project(torch.ones(1, 1024), torch.ones(1024, 1024))
    attend(*torch.ones(3, 1, 2, 1, 4))
q = torch.ones(1, 2, 4, requires_grad=True)
decode_attention(q, *torch.ones(2, 1, 2, 3, 4)).sum().backward()  # which only the definition can
assert not cpu._functions.cache_info().currsize and not other._functions.cache_info().currsize
"""
    environment = os.environ | {"MULTIWAY_KERNELS": "reference"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16, torch.float64])
def test_public_function_on_strided_input(dtype: torch.dtype) -> None:
    x = draw(6, 2, 22, dtype=dtype, seed=0).transpose(0, 1)[..., ::2].requires_grad_()
    weight = draw(11, 7, dtype=dtype, seed=1).t().requires_grad_()
    bias = draw(14, dtype=dtype, seed=2)[::2].requires_grad_()
    y = skinny_gemm(x, weight, bias)
    expected = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(
        y.double(), expected, rtol=eps, atol=8 * eps if dtype != torch.float64 else 1e-12
    )
    # An expanded gradient (stride 0), as `sum` sends it.
    actual = torch.autograd.grad(y.sum(), (x, weight, bias))
    wanted = torch.autograd.grad(expected.sum(), (x, weight, bias))
    for a, b in zip(actual, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=8 * eps, atol=16 * eps)


def test_gradcheck() -> None:
    x, weight = (draw(*shape, dtype=torch.float64, seed=0).requires_grad_() for shape in ((3, 5), (4, 5)))
    bias = draw(4, dtype=torch.float64, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(skinny_gemm, (x, weight, bias))
    assert torch.autograd.gradcheck(skinny_gemm, (x, weight))
    assert torch.autograd.gradgradcheck(skinny_gemm, (x, weight, bias))


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck(dtype: torch.dtype) -> None:
    x, weight = (draw(*shape, dtype=dtype, seed=0).requires_grad_() for shape in ((3, 16), (8, 16)))
    bias = draw(8, dtype=dtype, seed=1).requires_grad_()
    strided = draw(16, 3, dtype=dtype, seed=2).t().requires_grad_()
    for arguments in ((x, weight, bias), (strided, weight, None)):
        torch.library.opcheck(operators.skinny_gemm, arguments)


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return skinny_gemm(x * 2, self.linear.weight, self.linear.bias).sin()


def test_compiles_without_graph_break() -> None:
    block = Block()
    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend="aot_eager")
    for rows in (3, 8):
        x = draw(rows, 16, dtype=torch.float32, seed=rows).requires_grad_()
        expected, actual = block(x), compiled(x)
        torch.testing.assert_close(actual, expected)
        leaves = (x, block.linear.weight, block.linear.bias)
        torch.testing.assert_close(
            torch.autograd.grad(actual.sum(), leaves), torch.autograd.grad(expected.sum(), leaves)
        )


def test_exports_as_one_node() -> None:
    block = Block()
    x = draw(4, 16, dtype=torch.float32, seed=0)
    program = torch.export.export(block, (x,), dynamic_shapes=({0: torch.export.Dim("rows")},))
    names = [str(node.target) for node in program.graph.nodes if "multiway" in str(node.target)]
    assert names == ["multiway.skinny_gemm.default"]
    torch.testing.assert_close(program.module()(x), block(x))


@pytest.mark.parametrize(
    ("x", "weight", "bias", "message"),
    [
        (torch.ones(()), torch.ones(2, 1), None, "x is torch.float32 ()"),
        (torch.ones(3, 4, dtype=torch.int64), torch.ones(2, 4), None, "x is torch.int64"),
        (torch.ones(3, 4), torch.ones(2, 3), None, "(2, 3) on cpu, expected torch.float32 (O, 4) on cpu"),
        (torch.ones(3, 4), torch.ones(2, 4).double(), None, "weight is torch.float64"),
        (torch.ones(3, 4), torch.ones(2, 4, device="meta"), None, "(2, 4) on meta"),
        (torch.ones(3, 4), torch.ones(2, 4), torch.ones(3), "bias is torch.float32 (3,)"),
    ],
)
def test_bad_arguments(x: Tensor, weight: Tensor, bias: Tensor | None, message: str) -> None:
    with pytest.raises(InputError) as caught:
        skinny_gemm(x, weight, bias)
    assert message in str(caught.value)

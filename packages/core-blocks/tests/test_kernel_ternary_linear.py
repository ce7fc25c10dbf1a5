"""Ternary products: every implementation gives the definition's bits, and what `torch.library` promises.

As in `test_kernel_rms_norm.py`, Triton's kernel runs under the interpreter (in a second pytest process) and is compiled
ahead of time for two generations of GPUs; neither needs a GPU.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from multiway_blocks.kernels.ternary_linear import (
    cpu,
    has_kernel,
    layout,
    operators,
    reference,
    ternary_linear,
)
from multiway_core.errors import InputError
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DTYPES = [torch.float32, torch.bfloat16]
# Rows, inputs, outputs: every number of rows that is unrolled for, rows left over behind tiles of three, more rows than
# a group of the second-level cache, odd sizes, outputs left over behind streams and panels, several depths of a panel.
SHAPES = [
    (1, 256, 8),
    (2, 515, 7),
    (3, 64, 259),
    (4, 300, 33),
    (5, 257, 130),
    (8, 2600, 18),
    (31, 40, 9),
    (301, 5200, 3),
    (0, 8, 8),
    (3, 16, 0),
]


def draw(rows: int, inputs: int, outputs: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, step, ternary weights, scale."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-128, 128, (rows, inputs), generator=generator, dtype=torch.int8)
    w = torch.randint(-1, 2, (outputs, inputs), generator=generator, dtype=torch.int8)
    return x, torch.rand(rows, generator=generator), w, torch.rand(outputs, generator=generator)


def check(
    implementation: ModuleType, dtype: torch.dtype, shapes: list[tuple[int, int, int]] = SHAPES
) -> None:
    for seed, shape in enumerate(shapes):
        x, step, w, scale = draw(*shape, seed)
        y = implementation.forward(x, step, layout.pack(w), scale, dtype)
        sums = x.long() @ w.long().t()
        expected = (sums.float() * (step[:, None] * scale)).to(dtype)
        assert y.dtype == dtype
        assert torch.equal(y, expected), shape


@pytest.mark.parametrize("inputs", [1, 255, 256, 300])
def test_packing_there_and_back(inputs: int) -> None:
    w = draw(1, inputs, 5, 0)[2]
    packed = layout.pack(w)
    assert packed.dtype == torch.uint8
    assert packed.shape == (5, layout.packed_size(inputs)) == (5, 64 if inputs <= 256 else 128)
    assert torch.equal(layout.unpack(packed, inputs), w)


def test_where_a_weight_lies() -> None:
    w = torch.zeros(1, 512, dtype=torch.int8)
    w[0, 256 + 64 * 3 + 5] = 1  # block 1, plane 3, byte 5
    packed = layout.pack(w)
    assert packed[0, 64 + 5] == 0b10_01_01_01
    assert (packed == 0b01_01_01_01).sum() == 127


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


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("value", [127, -128])
def test_the_largest_sums_do_not_overflow(rows: int, value: int) -> None:
    """All weights 1 and all activations at an end: what breaks sums in int16."""
    inputs = 6912
    x = torch.full((rows, inputs), value, dtype=torch.int8)
    packed = layout.pack(torch.ones(9, inputs, dtype=torch.int8))
    y = ternary_linear(x, torch.ones(rows, 1), packed, torch.ones(9), torch.float32)
    assert (y == value * inputs).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_not_a_number_stays_one(dtype: torch.dtype) -> None:
    x, _, w, scale = draw(9, 256, 16, 0)
    step = torch.full((9, 1), float("nan"))
    for rows in (1, 9):
        y = ternary_linear(x[:rows], step[:rows], layout.pack(w), scale, dtype)
        assert y.isnan().all()


def test_cpu_without_compiler_the_definition_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_functions", dict)
    x, step, w, scale = draw(3, 20, 5, 0)
    packed = layout.pack(w)
    y = ternary_linear(x, step[:, None], packed, scale, torch.float32)
    assert torch.equal(y, reference.forward(x, step, packed, scale, torch.float32))
    assert not has_kernel(torch.device("cpu"), torch.float32)


def test_the_same_bits_for_any_number_of_threads() -> None:
    before = torch.get_num_threads()
    try:
        for rows in (2, 40):
            x, step, w, scale = draw(rows, 1000, 1001, 0)
            results = []
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                results.append(cpu.forward(x, step, layout.pack(w), scale, torch.float32))
            assert torch.equal(results[0], results[1])
            assert torch.equal(results[0], results[2])
    finally:
        torch.set_num_threads(before)


def test_environment_forces_the_definition() -> None:
    code = """
import torch
from multiway_blocks.kernels.ternary_linear import cpu, has_kernel, layout, ternary_linear
x, step = torch.ones(2, 3, dtype=torch.int8), torch.ones(2, 1)
packed = layout.pack(torch.ones(4, 3, dtype=torch.int8))
assert (ternary_linear(x, step, packed, torch.ones(4), torch.float32) == 3).all()
assert not has_kernel(x.device, torch.float32)
assert not cpu._functions.cache_info().currsize
"""
    environment = os.environ | {"MULTIWAY_KERNELS": "reference"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_public_function_on_strided_input() -> None:
    x, step, w, scale = draw(12, 44, 11, 0)
    packed = layout.pack(w)
    strided_x = x.view(6, 2, 44).transpose(0, 1)
    y = ternary_linear(
        strided_x, step.view(6, 2, 1).transpose(0, 1), packed.t().contiguous().t(), scale, torch.bfloat16
    )
    expected = reference.forward(x, step, packed, scale, torch.bfloat16)
    assert torch.equal(y, expected.view(6, 2, 11).transpose(0, 1))


def test_no_derivatives_and_it_says_so() -> None:
    x, step, w, scale = draw(2, 8, 4, 0)
    y = ternary_linear(x, step[:, None], layout.pack(w), scale.requires_grad_(), torch.float32)
    with pytest.raises(NotImplementedError, match="BitLinear"):
        y.sum().backward()


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck(dtype: torch.dtype) -> None:
    x, step, w, scale = draw(3, 300, 8, 0)
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(operators.ternary_linear, (x, step, layout.pack(w), scale, dtype), test_utils=tests)


def test_compiles_and_exports_as_one_node() -> None:
    x, step, w, scale = draw(8, 300, 8, 0)

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.packed = torch.nn.Buffer(layout.pack(w))

        def forward(self, x: Tensor, step: Tensor) -> Tensor:
            return ternary_linear(x, step * 2, self.packed, scale, torch.float32).sin()

    block = Block()
    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend="aot_eager")
    for rows in (3, 8):
        arguments = x[:rows], step[:rows, None]
        torch.testing.assert_close(compiled(*arguments), block(*arguments))
    rows_dim = torch.export.Dim("rows")
    program = torch.export.export(
        block, (x, step[:, None]), dynamic_shapes=({0: rows_dim}, {0: rows_dim}), strict=False
    )
    names = [str(node.target) for node in program.graph.nodes if "multiway" in str(node.target)]
    assert names == ["multiway.ternary_linear.default"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.ones(())}, "x is torch.float32 ()"),
        ({"x": torch.ones(3, 8)}, "x is torch.float32 (3, 8) on cpu, expected torch.int8 (..., I)"),
        ({"step": torch.ones(3)}, "step is torch.float32 (3,) on cpu, expected torch.float32 (3, 1)"),
        ({"packed": torch.ones(4, 2, dtype=torch.uint8)}, "packed is torch.uint8 (4, 2) on cpu, expected"),
        ({"packed": torch.ones((), dtype=torch.uint8)}, "packed is torch.uint8 () on cpu"),
        ({"scale": torch.ones(1)}, "scale is torch.float32 (1,) on cpu, expected torch.float32 (4,)"),
        ({"scale": torch.ones(4, device="meta")}, "scale is torch.float32 (4,) on meta"),
        ({"dtype": torch.int32}, "dtype is torch.int32, expected floating point"),
    ],
)
def test_bad_arguments(changes: dict, message: str) -> None:
    x, step, w, scale = draw(3, 8, 4, 0)
    arguments = {
        "x": x, "step": step[:, None], "packed": layout.pack(w), "scale": scale, "dtype": torch.float32
    }  # fmt: skip
    with pytest.raises(InputError) as caught:
        ternary_linear(**(arguments | changes))
    assert message in str(caught.value)


def test_interpreter() -> None:
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", __file__, "-k", "interpreted"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 passed" in result.stdout


@pytest.mark.skipif(not INTERPRETED, reason="run by test_interpreter, in a process of its own")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_triton_interpreted(dtype: torch.dtype) -> None:
    from multiway_blocks.kernels.ternary_linear import triton

    check(triton, dtype, [(1, 256, 8), (3, 515, 70), (17, 64, 33), (70, 300, 65), (0, 8, 8)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("rows", [1, 128])
def test_triton_on_gpu(rows: int) -> None:
    x, step, w, scale = (tensor.cuda() for tensor in draw(rows, 2560, 640, 0))
    y = ternary_linear(x, step[:, None], layout.pack(w), scale, torch.float32)
    assert torch.equal(y, reference.forward(x, step, layout.pack(w), scale, torch.float32))


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("rows", [1, 32, 128])
def test_triton_compiles_ahead_of_time(capability: int, rows: int, compile_ahead: Callable[..., str]) -> None:
    from multiway_blocks.kernels.ternary_linear import triton as kernels
    from multiway_blocks.kernels.tuning import fits_rows, row_class

    types = ["*i8", "*fp32", "*u8", "*fp32", "*bf16", "i32", "i32"]
    arguments = dict(zip(kernels.forward_kernel.arg_names, types, strict=False))
    arguments |= {"packed_bytes": 640, "ROWS": row_class(rows), "PLANE": kernels._PLANE}
    choices = [tiles for tiles in kernels.TILES if fits_rows(tiles, arguments)]
    assert len(choices) >= 2
    for tiles in choices:
        ptx = compile_ahead(
            kernels.forward_kernel, capability, arguments | tiles.constants, warps=tiles.warps, stages=tiles.stages,
            shared=160 * 1024, aligned="num_outputs",
        )  # fmt: skip
        hopper = capability == 90 and tiles.constants["TILE_N"] >= 64
        instruction = r"wgmma\.mma_async\S*\.s32\.s8\.s8" if hopper else r"mma\.sync\S*\.s32\.s8\.s8\.s32"
        assert re.search(instruction, ptx)

"""Products with bytes: every implementation gives the definition's bits, and how far these are from floating point."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from multiway_blocks.int8 import Int8Linear
from multiway_blocks.kernels.int8_linear import cpu, int8_linear, layout, operators, reference
from multiway_core.errors import InputError
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DTYPES = [torch.float32, torch.bfloat16]
# Rows, inputs, outputs: one row, odd sizes, rows left over, outputs that no number of streams divides.
SHAPES = [
    (1, 64, 8),
    (1, 515, 259),
    (2, 63, 7),
    (5, 130, 33),
    (7, 2600, 18),
    (4, 1, 3),
    (0, 8, 8),
    (3, 16, 0),
]


def draw(rows: int, inputs: int, outputs: int, seed: int) -> tuple[Tensor, ...]:
    """high, low, step, codes, scale: all that bytes can hold."""
    generator = torch.Generator().manual_seed(seed)
    high, low = (
        torch.randint(-128, 128, (rows, inputs), generator=generator, dtype=torch.int8) for _ in range(2)
    )
    codes = torch.randint(0, 256, (outputs, inputs), generator=generator, dtype=torch.uint8)
    return (
        high,
        low,
        torch.rand(rows, generator=generator),
        codes,
        torch.rand(outputs, generator=generator),
    )


def check(implementation: ModuleType, dtype: torch.dtype, shapes=SHAPES) -> None:
    for seed, shape in enumerate(shapes):
        high, low, step, codes, scale = draw(*shape, seed)
        sums = (256 * high.long() + low.long()) @ (codes.long() - 128).t()
        expected = (sums.float() * (step[:, None] * scale)).to(dtype)
        y = implementation.forward(high, low, step, codes, scale, dtype)
        assert y.dtype == dtype
        assert torch.equal(y, expected), shape


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


@pytest.mark.parametrize("value", [-32_768, 32_639])
@pytest.mark.parametrize("code", [0, 255])
def test_the_largest_sums_do_not_overflow(value: int, code: int) -> None:
    inputs = 16_384
    low = torch.tensor(value, dtype=torch.int16).to(torch.int8)
    high = torch.tensor((value - int(low)) // 256 % 256, dtype=torch.uint8).view(torch.int8)
    x = 256 * int(high) + int(low)
    codes = torch.full((5, inputs), code, dtype=torch.uint8)
    for module in (reference, cpu) if cpu.supports(torch.float32) else (reference,):
        y = module.forward(
            high.expand(2, inputs).contiguous(), low.expand(2, inputs).contiguous(), torch.ones(2), codes,
            torch.ones(5), torch.float32,
        )  # fmt: skip
        assert (y == torch.tensor(float(x * (code - 128) * inputs))).all()


def test_rows_of_sixteen_bits() -> None:
    x = torch.randn(7, 300) * torch.logspace(-3, 3, 7)[:, None]
    x[3] = 0
    high, low, step = layout.quantize_rows(x)
    back = (256 * high.double() + low.double()) * step.double()[:, None]
    assert ((back - x).abs() <= 0.51 * step[:, None]).all()
    assert step[3] < 1e-30


def test_weights_are_within_half_a_step() -> None:
    weight = torch.randn(20, 64)
    weight[3] = 0
    codes, scale = layout.quantize(weight)
    error = (layout.dequantize(codes, scale, torch.float32) - weight).abs()
    assert (error <= 0.501 * scale[:, None]).all()
    torch.testing.assert_close(scale * 127, weight.abs().amax(1))
    assert codes.min() >= 1


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16, torch.float64])
def test_public_function_is_near_the_product(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 512, dtype=dtype), torch.randn(40, 512)
    codes, scale = layout.quantize(weight)
    y = int8_linear(x.transpose(0, 1), codes, scale)
    exact = x.transpose(0, 1).double() @ layout.dequantize(codes, scale, torch.float64).t()
    assert y.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), exact, rtol=max(eps, 1e-6), atol=512**0.5 * 1e-4)
    lost = (exact - x.transpose(0, 1).double() @ weight.double().t()).std() / exact.std()
    assert lost < 0.01


def test_not_a_number_stays_one() -> None:
    codes, scale = layout.quantize(torch.randn(3, 64))
    x = torch.ones(2, 64)
    x[1, 5] = float("nan")
    y = int8_linear(x, codes, scale)
    assert y[0].isfinite().all()
    assert y[1].isnan().all()


def test_module_is_map_and_embedding() -> None:
    weight = torch.randn(100, 32)
    module = Int8Linear.of(weight, at_once=30)
    whole = Int8Linear.of(weight)
    assert torch.equal(module.codes, whole.codes)
    module = module.bfloat16()
    assert module.scale.dtype == torch.float32
    x, tokens = torch.randn(2, 32), torch.tensor([[5, 99], [0, 5]])
    torch.testing.assert_close(module(x), x @ weight.t(), rtol=0.05, atol=0.1)
    assert module.rows(tokens, torch.bfloat16).dtype == torch.bfloat16
    torch.testing.assert_close(module.rows(tokens, torch.float32), weight[tokens], rtol=0, atol=0.02)
    other = Int8Linear(32, 100)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x), module(x))


def test_the_same_bits_for_any_number_of_threads() -> None:
    codes, scale = layout.quantize(torch.randn(1001, 600))
    x = torch.randn(3, 600)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(int8_linear(x, codes, scale))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_a_gradient_is_refused() -> None:
    codes, scale = layout.quantize(torch.randn(3, 8))
    with pytest.raises(NotImplementedError, match="no derivatives"):
        int8_linear(torch.ones(1, 8, requires_grad=True), codes, scale).sum().backward()


def test_opcheck_and_compile() -> None:
    codes, scale = layout.quantize(torch.randn(9, 16))
    torch.library.opcheck(
        operators.int8_linear, (torch.randn(3, 16), codes, scale), test_utils=("test_schema", "test_faketensor")
    )  # fmt: skip
    module = Int8Linear.of(torch.randn(9, 16))
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    for rows in (3, 8):
        x = torch.randn(rows, 16)
        assert torch.equal(compiled(x), module(x))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.ones(3, 8, dtype=torch.int8)}, "x is torch.int8 (3, 8)"),
        ({"codes": torch.ones(4, 7, dtype=torch.uint8)}, "codes is torch.uint8 (4, 7) on cpu, expected"),
        ({"codes": torch.ones(4, 8)}, "codes is torch.float32 (4, 8)"),
        ({"scale": torch.ones(3)}, "scale is torch.float32 (3,) on cpu, expected torch.float32 (4,)"),
    ],
)
def test_bad_arguments(changes: dict, message: str) -> None:
    arguments = {"x": torch.ones(3, 8), "codes": torch.ones(4, 8, dtype=torch.uint8), "scale": torch.ones(4)}
    with pytest.raises(InputError) as caught:
        int8_linear(**(arguments | changes))
    assert message in str(caught.value)


def test_interpreter(run_interpreted: Callable[[int], None]) -> None:
    run_interpreted(2)


@pytest.mark.skipif(not INTERPRETED, reason="run by test_interpreter, in a process of its own")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_triton_interpreted(dtype: torch.dtype) -> None:
    from multiway_blocks.kernels.int8_linear import triton

    check(triton, dtype, [(1, 64, 8), (2, 515, 70), (17, 130, 33), (0, 8, 8)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("rows", [1, 100])
def test_triton_on_gpu(rows: int) -> None:
    from multiway_blocks.kernels.int8_linear import triton

    arguments = draw(rows, 2560, 640, 0)
    y = triton.forward(*(argument.cuda() for argument in arguments), torch.float32)
    assert torch.equal(y.cpu(), reference.forward(*arguments, torch.float32))


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("rows", [1, 64])
def test_triton_compiles_ahead_of_time(capability: int, rows: int, compile_ahead: Callable[..., str]) -> None:
    from multiway_blocks.kernels.int8_linear import triton as kernels
    from multiway_blocks.kernels.tuning import fits_rows, row_class

    types = ["*i8", "*i8", "*fp32", "*u8", "*fp32", "*bf16", "i32", "i32"]
    arguments = dict(zip(kernels.forward_kernel.arg_names, types, strict=False))
    arguments |= {"num_inputs": 2560, "ROWS": row_class(rows), "TILE_I": kernels.TILE_I}
    choices = [tiles for tiles in kernels.TILES if fits_rows(tiles, arguments)]
    assert len(choices) >= 2
    for tiles in choices:
        ptx = compile_ahead(
            kernels.forward_kernel, capability, arguments | tiles.constants, warps=tiles.warps, stages=tiles.stages,
            shared=128 * 1024, aligned="num_outputs",
        )  # fmt: skip
        hopper = capability == 90 and tiles.constants["TILE_N"] >= 64
        instruction = r"wgmma\.mma_async\S*\.s32\.s8\.s8" if hopper else r"mma\.sync\S*\.s32\.s8\.s8\.s32"
        assert re.search(instruction, ptx)

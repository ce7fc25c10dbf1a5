"""Products with weights in blocks: implementations against the definition, and that against float64."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from multiway_blocks.block_linear import BlockLinear
from multiway_blocks.kernels.block_linear import block_linear, cpu, layout, reference
from multiway_core.errors import InputError
from torch import Tensor

DTYPES = [torch.float32, torch.bfloat16]
# Rows, inputs, outputs: one row, outputs and rows left over, many rows, none.
SHAPES = [
    (1, 64, 8),
    (1, 96, 87),
    (3, 32, 33),
    (6, 160, 49),
    (17, 96, 6),
    (40, 64, 16),
    (0, 32, 4),
    (2, 32, 0),
]


def draw(
    rows: int, inputs: int, outputs: int, packed: bool, half: bool = True, seed: int = 0
) -> tuple[Tensor, BlockLinear]:
    """x, and a map of all that a code can be; blocks of x of unlike sizes."""
    generator = torch.Generator().manual_seed(seed)
    blocks = inputs // layout.BLOCK
    x = torch.randn(rows, inputs, generator=generator)
    x *= torch.logspace(-2, 2, blocks).repeat_interleave(layout.BLOCK)
    codes = torch.randint(
        0, 256, (outputs, inputs // 2 if packed else inputs), generator=generator, dtype=torch.uint8
    )
    scale = torch.rand(outputs, blocks, generator=generator) + 0.1
    offset = torch.randn(outputs, blocks, generator=generator)
    if half:
        scale, offset = scale.half().float(), offset.half().float()
    module = BlockLinear(codes, scale, offset)
    assert module.scale.dtype == (torch.float16 if half and outputs else module.scale.dtype)
    return x, module


def matrix(module: BlockLinear) -> tuple[Tensor, Tensor, Tensor, int]:
    return module.codes, module.scale, module.offset, module.out_features


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_cpu(dtype: torch.dtype, packed: bool) -> None:
    if not cpu.supports(dtype):
        pytest.skip("no C++ compiler")
    _check(dtype, packed)


def test_cpu_built_for_lesser_machines(built_for_lesser_machine: Callable[[ModuleType], None]) -> None:
    built_for_lesser_machine(cpu)
    for dtype in DTYPES:
        for packed in (True, False):
            _check(dtype, packed)
    _check_error()


def _check(dtype: torch.dtype, packed: bool) -> None:
    for seed, (rows, inputs, outputs) in enumerate(SHAPES):
        for half in (True, False):
            x, module = draw(rows, inputs, outputs, packed, half, seed)
            x = x.to(dtype)
            y = cpu.forward(x, *matrix(module))
            expected = reference.forward(x, *matrix(module))
            assert y.dtype == dtype
            assert y.shape == (rows, outputs)
            largest = float(expected.abs().max()) if expected.numel() else 0.0
            tolerance = largest * (1e-5 if dtype == torch.float32 else 1e-2)
            torch.testing.assert_close(y, expected, rtol=0, atol=tolerance)


def _check_error() -> None:
    """Against float64: an output's error stays below what halves of x's steps can add up to, and far below mostly."""
    for packed in (True, False):
        for half in (True, False):
            x, module = draw(5, 1024, 30, packed, half)
            weight = module.rows(torch.arange(30), torch.float64)
            exact = x.double() @ weight.t()
            step = x.double().unflatten(-1, (-1, layout.BLOCK)).abs().amax(-1) / 127
            bound = 0.5 * step.repeat_interleave(layout.BLOCK, dim=-1) @ weight.abs().t()
            error = (cpu.forward(x, *matrix(module)).double() - exact).abs()
            assert (error <= bound + 1e-5 * exact.abs().max()).all()
            assert error.square().mean().sqrt() < 6e-3 * exact.square().mean().sqrt()


def test_error_against_float64() -> None:
    if not cpu.supports(torch.float32):
        pytest.skip("no C++ compiler")
    _check_error()


@pytest.mark.parametrize("code", [0, 255])
@pytest.mark.parametrize("packed", [True, False])
def test_the_largest_codes_do_not_overflow(code: int, packed: bool) -> None:
    x = torch.full((1, 8192), 127.0)
    codes = torch.full((5, 4096 if packed else 8192), code, dtype=torch.uint8)
    module = BlockLinear(codes, torch.ones(5, 256), -torch.ones(5, 256))
    expected = torch.full((1, 5), ((code & 15 if packed else code) - 1) * 127.0 * 8192)
    for implementation in (reference, cpu) if cpu.supports(torch.float32) else (reference,):
        for sign in (1, -1):
            torch.testing.assert_close(implementation.forward(sign * x, *matrix(module)), sign * expected)


@pytest.mark.parametrize("outputs", [5, 16, 33])
def test_panels_hold_the_matrix(outputs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 256, (outputs, 64), dtype=torch.uint8, generator=generator)
    scale, offset = torch.rand(2, outputs, 2, generator=generator).half().float()
    values = codes.float() * scale.repeat_interleave(32, dim=1) + offset.repeat_interleave(32, dim=1)
    module = BlockLinear(codes, scale, offset)
    assert torch.equal(layout.dequantize(*matrix(module), torch.float32), values)
    halves = codes.unflatten(1, (2, 32)) & 15
    packed = (halves[..., :16] | halves[..., 16:] << 4).flatten(1)
    values = halves.flatten(1).float() * scale.repeat_interleave(32, dim=1) + offset.repeat_interleave(
        32, dim=1
    )
    module = BlockLinear(packed, scale, offset)
    assert torch.equal(module.rows(torch.arange(outputs).flip(0), torch.float32), values.flip(0))


def test_not_a_number_stays_one() -> None:
    x, module = draw(3, 64, 6, packed=True)
    x[1, 5], x[2, 40] = float("nan"), float("inf")
    for implementation in (reference, cpu) if cpu.supports(torch.float32) else (reference,):
        y = implementation.forward(x, *matrix(module))
        assert y[0].isfinite().all()
        assert y[1:].isnan().all()


def test_module_is_map_and_embedding() -> None:
    x, module = draw(4, 64, 10, packed=True)
    module = module.bfloat16()
    assert module.scale.dtype == module.offset.dtype == torch.float16
    weight = layout.dequantize(*matrix(module), torch.float32)
    assert torch.equal(module.rows(torch.tensor([[3], [9]]), torch.float32), weight[[3, 9]][:, None])
    assert torch.equal(module(x), block_linear(x, *matrix(module)))


def test_what_does_not_fit_is_refused() -> None:
    x, module = draw(2, 64, 6, packed=True)
    codes, scale, offset, outputs = matrix(module)
    wrong = [
        (x[:, :48], codes, scale, offset, outputs),
        (x, codes[:, :1], scale, offset, outputs),
        (x, codes.int(), scale, offset, outputs),
        (x, codes, scale[:, :1], offset, outputs),
        (x, codes, scale, offset.double(), outputs),
        (x, codes, scale, offset.float(), outputs),
        (x, codes, scale, offset, outputs + 16),
    ]
    for arguments in wrong:
        with pytest.raises(InputError, match="block_linear: "):
            block_linear(*arguments)


def test_compiles_to_one_node_without_derivatives() -> None:
    x, module = draw(2, 64, 6, packed=True)
    torch.library.opcheck(
        torch.ops.multiway.block_linear.default, (x, *matrix(module)), test_utils="test_faketensor"
    )
    with pytest.raises(NotImplementedError, match="no derivatives"):
        module(x.requires_grad_()).sum().backward()

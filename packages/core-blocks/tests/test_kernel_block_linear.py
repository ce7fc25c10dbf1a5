"""Products with weights in blocks: implementations against the definition, and that against floating point."""

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
SHAPES = [(1, 64, 8), (1, 96, 7), (3, 32, 5), (6, 160, 9), (17, 96, 6), (40, 64, 3), (0, 32, 4), (2, 32, 0)]


def draw(rows: int, inputs: int, outputs: int, packed: bool, seed: int = 0) -> tuple[Tensor, ...]:
    """x, codes, scale, offset: blocks of unlike sizes, all that a code can be."""
    generator = torch.Generator().manual_seed(seed)
    blocks = inputs // layout.BLOCK
    x = torch.randn(rows, inputs, generator=generator)
    x *= torch.logspace(-2, 2, blocks).repeat_interleave(layout.BLOCK)
    codes = torch.randint(
        0, 256, (outputs, inputs // 2 if packed else inputs), generator=generator, dtype=torch.uint8
    )
    scale = torch.rand(outputs, blocks, generator=generator) + 0.1
    return x, codes, scale, torch.randn(outputs, blocks, generator=generator)


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


def _check(dtype: torch.dtype, packed: bool) -> None:
    for seed, (rows, inputs, outputs) in enumerate(SHAPES):
        x, codes, scale, offset = draw(rows, inputs, outputs, packed, seed)
        x = x.to(dtype)
        y = cpu.forward(x, codes, scale, offset)
        if rows < 16:
            expected = reference.forward(x, codes, scale, offset)
        else:
            expected = x @ layout.dequantize(codes, scale, offset, dtype).t()
        assert y.dtype == dtype
        largest = float(expected.abs().max()) if expected.numel() else 0.0
        torch.testing.assert_close(
            y, expected, rtol=0, atol=largest * (1e-5 if dtype == torch.float32 else 1e-2)
        )


@pytest.mark.parametrize("code", [0, 255])
def test_the_largest_codes_do_not_overflow(code: int) -> None:
    x = torch.full((1, 8192), 127.0)
    codes = torch.full((5, 8192), code, dtype=torch.uint8)
    ones = torch.ones(5, 256)
    for module in (reference, cpu) if cpu.supports(torch.float32) else (reference,):
        torch.testing.assert_close(
            module.forward(x, codes, ones, -ones), torch.full((1, 5), (code - 1) * 127.0 * 8192)
        )


def test_halves_of_bytes() -> None:
    codes = torch.arange(16, dtype=torch.uint8) | (15 - torch.arange(16, dtype=torch.uint8)) << 4
    assert torch.equal(
        layout.unpack(codes), torch.cat((torch.arange(16), 15 - torch.arange(16))).to(torch.uint8)
    )


def test_definition_is_near_the_product() -> None:
    x, codes, scale, offset = draw(5, 1024, 30, packed=True)
    exact = x.double() @ layout.dequantize(codes, scale, offset, torch.float64).t()
    error = block_linear(x[None], codes, scale, offset)[0].double() - exact
    assert error.std() / exact.std() < 1e-4


def test_not_a_number_stays_one() -> None:
    x, codes, scale, offset = draw(3, 64, 6, packed=True)
    x[1, 5], x[2, 40] = float("nan"), float("inf")
    for module in (reference, cpu) if cpu.supports(torch.float32) else (reference,):
        y = module.forward(x, codes, scale, offset)
        assert y[0].isfinite().all()
        assert y[1:].isnan().all()


def test_module_is_map_and_embedding() -> None:
    x, codes, scale, offset = draw(4, 64, 10, packed=True)
    module = BlockLinear(codes, scale, offset).bfloat16()
    assert module.scale.dtype == module.offset.dtype == torch.float32
    weight = layout.dequantize(codes, scale, offset, torch.float32)
    assert torch.equal(module.rows(torch.tensor([[3], [9]]), torch.float32), weight[[3, 9]][:, None])
    assert torch.equal(module(x), block_linear(x, codes, scale, offset))


def test_what_does_not_fit_is_refused() -> None:
    x, codes, scale, offset = draw(2, 64, 6, packed=True)
    wrong = [
        (x[:, :48], codes, scale, offset),
        (x, codes[:, :30], scale, offset),
        (x, codes.int(), scale, offset),
        (x, codes, scale[:, :1], offset),
        (x, codes, scale, offset.double()),
    ]
    for arguments in wrong:
        with pytest.raises(InputError, match="block_linear: "):
            block_linear(*arguments)


def test_compiles_to_one_node_without_derivatives() -> None:
    x, codes, scale, offset = draw(2, 64, 6, packed=True)
    torch.library.opcheck(
        torch.ops.multiway.block_linear.default, (x, codes, scale, offset), test_utils="test_faketensor"
    )
    with pytest.raises(NotImplementedError, match="no derivatives"):
        block_linear(x.requires_grad_(), codes, scale, offset).sum().backward()

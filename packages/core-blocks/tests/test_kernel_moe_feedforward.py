"""Experts' feed-forward networks: the definition against a loop over rows, Triton's against the definition."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
from multiway_blocks.kernels.moe_feedforward import moe_feedforward, operators, reference
from multiway_core.errors import InputError
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Rows of each expert, hidden size, inner size.
SHAPES = [([3], 1, 1), ([0, 5, 0, 70, 64], 24, 40), ([130, 1], 33, 65), ([0, 0], 8, 8)]


def draw(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def case(counts: list[int], E: int, inner: int, gated: bool, bias: bool, dtype: torch.dtype):
    N, first = len(counts), 2 * inner if gated else inner
    experts = reference.Experts(
        draw(N, first, E, dtype=dtype, seed=1) * E**-0.5,
        draw(N, first, dtype=dtype, seed=2) if bias else None,
        draw(N, E, inner, dtype=dtype, seed=3) * inner**-0.5,
        draw(N, E, dtype=dtype, seed=4) if bias else None,
        "gelu",
        gated,
    )
    return draw(sum(counts), E, dtype=dtype, seed=0), torch.tensor(counts), experts


def call(x: Tensor, counts: Tensor, experts: reference.Experts) -> Tensor:
    up, up_bias, down, down_bias, activation, gated = experts
    return moe_feedforward(
        x, counts, up, down, activation=activation, gated=gated, up_bias=up_bias, down_bias=down_bias
    )


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "relu", "silu"])
@pytest.mark.parametrize(("counts", "E", "inner"), SHAPES)
def test_row_by_row(counts: list[int], E: int, inner: int, activation: str, gated: bool) -> None:
    x, count, experts = case(counts, E, inner, gated, True, torch.float64)
    experts = experts._replace(activation=activation)
    function = getattr(torch.nn.functional, activation)
    rows = []
    for row, expert in zip(x, torch.arange(len(counts)).repeat_interleave(count), strict=True):
        h = experts.up_NJE[expert] @ row + experts.up_bias_NJ[expert]
        h = function(h[:inner]) * h[inner:] if gated else function(h)
        rows.append(experts.down_NEI[expert] @ h + experts.down_bias_NE[expert])
    expected = torch.stack(rows) if rows else x
    torch.testing.assert_close(call(x, count, experts), expected)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_gradcheck(gated: bool, bias: bool) -> None:
    x, counts, experts = case([2, 0, 3], 4, 3, gated, bias, torch.float64)
    leaves = [
        x,
        experts.up_NJE,
        experts.down_NEI,
        *([experts.up_bias_NJ, experts.down_bias_NE] if bias else []),
    ]
    leaves = [leaf.requires_grad_() for leaf in leaves]

    def function(x: Tensor, up: Tensor, down: Tensor, *biases: Tensor) -> Tensor:
        up_bias, down_bias = biases or (None, None)
        return call(x, counts, reference.Experts(up, up_bias, down, down_bias, "gelu", gated))

    assert torch.autograd.gradcheck(function, leaves)


def test_second_derivative_is_refused() -> None:
    x, counts, experts = case([2, 1], 4, 3, True, False, torch.float32)
    (grad,) = torch.autograd.grad(call(x.requires_grad_(), counts, experts).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="MULTIWAY_KERNELS=reference"):
        grad.sum().backward()


def test_opcheck_and_compile() -> None:
    x, counts, experts = case([2, 1], 4, 3, True, True, torch.float32)
    up, up_bias, down, down_bias, activation, gated = experts
    torch.library.opcheck(
        operators.moe_feedforward, (x, counts, up, up_bias, down, down_bias, activation, gated),
        test_utils=("test_schema", "test_faketensor"),
    )  # fmt: skip
    compiled = torch.compile(
        lambda x: operators.moe_feedforward(x * 2, counts, up, None, down, None, activation, gated) + 1,
        fullgraph=True, backend="aot_eager",
    )  # fmt: skip
    expected = call(x * 2, counts, experts._replace(up_bias_NJ=None, down_bias_NE=None)) + 1
    torch.testing.assert_close(compiled(x), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.ones(3)}, "x is torch.float32 (3,)"),
        ({"activation": "tanh"}, "activation is 'tanh', expected one of ['gelu', 'relu', 'silu']"),
        ({"counts": torch.tensor([1, 1])}, "counts add up to 2, expected 3 rows"),
        ({"counts": torch.tensor([4, -1])}, "counts add up to 3"),
        ({"counts": torch.ones(2)}, "counts is torch.float32 (2,)"),
        (
            {"up": torch.ones(2, 5, 3)},
            "up is torch.float32 (2, 5, 3) on cpu, expected torch.float32 (2, 5, 4)",
        ),
        ({"down": torch.ones(1, 4, 5)}, "down is torch.float32 (1, 4, 5)"),
        ({"up_bias": torch.ones(2, 4)}, "up_bias is torch.float32 (2, 4)"),
    ],
)
def test_bad_arguments(changes: dict, message: str) -> None:
    arguments = {
        "x": torch.ones(3, 4), "counts": torch.tensor([1, 2]), "up": torch.ones(2, 5, 4), "down": torch.ones(2, 4, 5),
        "activation": "gelu",
    }  # fmt: skip
    with pytest.raises(InputError) as caught:
        moe_feedforward(**(arguments | changes))
    assert message in str(caught.value)


def test_interpreter(run_interpreted: Callable[[int], None]) -> None:
    run_interpreted(3)


@pytest.mark.skipif(not INTERPRETED, reason="run by test_interpreter, in a process of its own")
def test_blocks_interpreted() -> None:
    from multiway_blocks.kernels.moe_feedforward import triton

    counts = torch.tensor([0, 5, 0, 130, 64, 0])
    found = [row for row in triton.blocks(counts, 199, 64).tolist() if row[1] < row[2]]
    assert found == [[1, 0, 5], [3, 5, 135], [3, 69, 135], [3, 133, 135], [4, 135, 199]]


@pytest.mark.skipif(not INTERPRETED, reason="run by test_interpreter, in a process of its own")
@pytest.mark.parametrize("gated", [False, True])
def test_triton_interpreted(gated: bool) -> None:
    from multiway_blocks.kernels.moe_feedforward import triton

    for index, (counts, E, inner) in enumerate(SHAPES):
        x, count, experts = case(counts, E, inner, gated, index % 2 == 0, torch.float16)
        wide = reference.Experts(*(p.double() if isinstance(p, Tensor) else p for p in experts))
        for activation in ("gelu", "silu") if index else ("relu",):
            y = triton.forward(x, count, experts._replace(activation=activation))
            exact = reference.forward(x.double(), count, wide._replace(activation=activation))
            torch.testing.assert_close(y.double(), exact, rtol=4e-3, atol=4e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("gated", [False, True])
def test_triton_on_gpu(gated: bool) -> None:
    x, counts, experts = case([0, 300, 77, 1], 192, 256, gated, True, torch.bfloat16)
    moved = reference.Experts(*(p.cuda() if isinstance(p, Tensor) else p for p in experts))
    y = call(x.cuda(), counts.cuda(), moved)
    torch.testing.assert_close(y.cpu(), reference.forward(x, counts, experts), rtol=0.03, atol=0.03)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("E", "gated"), [(192, False), (256, True)])
def test_triton_compiles_ahead_of_time(
    capability: int, E: int, gated: bool, compile_ahead: Callable[..., str]
) -> None:
    from multiway_blocks.kernels.moe_feedforward import triton as kernels

    for rows in (1, 64):
        x, _, experts = case([rows], E, 768, gated, True, torch.bfloat16)
        height = kernels.tile_rows(rows, 1, capability // 10)
        sizes = kernels.sizes(x, experts) | {"WIDE": False, "TILE_R": height}
        arguments = (
            dict.fromkeys(kernels.forward_kernel.arg_names[:7], "*bf16") | {"blocks_ptr": "*i64"} | sizes
        )
        ptx = compile_ahead(
            kernels.forward_kernel, capability, arguments, warps=kernels.WARPS, stages=kernels.STAGES,
            shared=128 * 1024,
        )  # fmt: skip
        assert ("wgmma.mma_async" if height == 64 else "mma.sync") in ptx

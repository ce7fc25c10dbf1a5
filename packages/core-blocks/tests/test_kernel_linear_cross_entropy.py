"""Linear map and cross entropy in one: every implementation against the definition in float64."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from multiway_blocks.kernels.linear_cross_entropy import (
    chunks,
    linear_cross_entropy,
    linear_distillation,
    operators,
    reference,
)
from multiway_core.errors import InputError
from torch import Tensor
from torch.nn import functional

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Rows, inputs, outputs, inputs of the teacher (0: none).
SHAPES = [(1, 1, 1, 0), (5, 9, 300, 0), (70, 33, 130, 20), (3, 70, 517, 96), (0, 4, 5, 3)]
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def draw(*shape: int, dtype: torch.dtype, seed: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale).to(dtype)


def case(N: int, E: int, V: int, F: int, dtype: torch.dtype, seed: int):
    """x, weight, target (one without), weights of rows, teacher or None."""
    x, weight = draw(N, E, dtype=dtype, seed=seed), draw(V, E, dtype=dtype, seed=seed + 1, scale=2 * E**-0.5)
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, V, (N,), generator=generator)
    row_weight = torch.rand(N, generator=generator)
    if N > 2:
        target[1], row_weight[1] = -100, 0.0
    teacher = None
    if F:
        teacher = reference.Teacher(
            draw(N, F, dtype=dtype, seed=seed + 2),
            draw(V, F, dtype=dtype, seed=seed + 3, scale=2 * F**-0.5),
            torch.rand(N, generator=generator),
            2.5,
        )
    return x, weight, target, row_weight, teacher


def wide(argument):
    if isinstance(argument, reference.Teacher):
        return reference.Teacher(*(wide(part) for part in argument))
    return argument.double() if isinstance(argument, Tensor) and argument.is_floating_point() else argument


def check(implementation: ModuleType, dtype: torch.dtype, shapes=SHAPES) -> None:
    for seed, shape in enumerate(shapes):
        arguments = case(*shape, dtype, 10 * seed)
        exact = [wide(argument) for argument in arguments]
        *values, grad_x, grad_weight = implementation.forward(*arguments, (True, True))
        scale = max(1, shape[0])
        for value, expected in zip(values, reference.forward(*exact), strict=True):
            torch.testing.assert_close(value.double(), expected, rtol=0, atol=TOLERANCE[dtype] * scale)
        assert (grad_x.dtype, grad_weight.dtype) == (dtype, torch.float32)
        for value, expected in zip((grad_x, grad_weight), reference.backward(*exact), strict=True):
            bound = TOLERANCE[dtype] * (1 + float(expected.abs().max()) if expected.numel() else 1)
            torch.testing.assert_close(value.double(), expected, rtol=0, atol=bound)
        assert all(grad.numel() == 0 for grad in implementation.forward(*arguments, (False, False))[2:])


def test_reference_is_what_pytorch_says() -> None:
    for seed, shape in enumerate(SHAPES[:4]):
        x, weight, target, row_weight, teacher = (wide(a) for a in case(*shape, torch.float64, seed))
        leaves = x.requires_grad_(), weight.requires_grad_()
        logits = functional.linear(x, weight)
        losses = functional.cross_entropy(logits, target.clamp(min=0), reduction="none")
        expected = (losses * row_weight).sum()
        values = reference.forward(x, weight, target, row_weight, teacher)
        torch.testing.assert_close(values[0], expected)
        if teacher is not None:
            taught = functional.linear(teacher.x_NF, teacher.weight_VF) / 2.5
            divergence = functional.kl_div(
                (logits / 2.5).log_softmax(-1), taught.log_softmax(-1), reduction="none", log_target=True
            )
            added = 2.5**2 * (divergence.sum(-1) * teacher.row_weight_N).sum()
            torch.testing.assert_close(values[1], added)
            expected = expected + added
        torch.testing.assert_close(
            reference.backward(x.detach(), weight.detach(), target, row_weight, teacher),
            torch.autograd.grad(expected, leaves),
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("at_once", [1, 300, 1 << 23])
def test_chunks(dtype: torch.dtype, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "LOGITS_AT_ONCE", at_once)
    check(chunks, dtype)


def test_mean_over_targets_as_pytorch_takes_it() -> None:
    x, weight, target, *_ = case(6, 8, 20, 0, torch.float32, 0)
    x = x.view(2, 3, 8).requires_grad_()
    weight.requires_grad_()
    expected = functional.cross_entropy(functional.linear(x, weight).flatten(0, 1), target)
    loss = linear_cross_entropy(x, weight, target.view(2, 3))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(3 * loss, (x, weight)), torch.autograd.grad(3 * expected, (x, weight))
    )
    assert linear_cross_entropy(x, weight, torch.full((2, 3), -1)) == 0


def test_distillation() -> None:
    x, weight, target, row_weight, teacher = case(70, 33, 130, 20, torch.float32, 0)
    x.requires_grad_(), weight.requires_grad_()
    options = {"temperature": 5.0, "row_weight": row_weight, "teacher_row_weight": teacher.row_weight_N}
    loss = linear_distillation(x, weight, target, teacher.x_NF, teacher.weight_VF, **options)
    logits, taught = x @ weight.t(), teacher.x_NF @ teacher.weight_VF.t()
    losses = functional.cross_entropy(logits, target.clamp(min=0), reduction="none")
    divergence = functional.kl_div((logits / 5).log_softmax(-1), (taught / 5).softmax(-1), reduction="none")
    parts = (losses * row_weight).sum(), 25 * (divergence.sum(-1) * teacher.row_weight_N).sum()
    torch.testing.assert_close(loss, (sum(parts), *parts), rtol=1e-5, atol=1e-5)
    assert not loss.cross_entropy.requires_grad
    torch.testing.assert_close(
        torch.autograd.grad(loss.total, (x, weight)), torch.autograd.grad(sum(parts), (x, weight))
    )


def test_the_same_student_and_teacher_do_not_diverge() -> None:
    x, weight, target, *_ = case(5, 9, 300, 0, torch.float32, 0)
    assert abs(linear_distillation(x, weight, target, x, weight, temperature=5.0).divergence) < 1e-6


def test_memory_does_not_grow_with_rows_times_outputs() -> None:
    rows, V = 4096, 8192
    x, weight = torch.randn(rows, 4).requires_grad_(), torch.randn(V, 4).requires_grad_()
    target = torch.randint(0, V, (rows,))
    with torch.profiler.profile(profile_memory=True) as profile:
        linear_cross_entropy(x, weight, target).backward()
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert largest <= 4 * chunks.LOGITS_AT_ONCE < 4 * rows * V / 3


def test_gradcheck() -> None:
    x, weight, target, row_weight, teacher = case(4, 5, 7, 3, torch.float64, 0)
    leaves = x.requires_grad_(), weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: linear_cross_entropy(x, w, target, row_weight), leaves)
    assert torch.autograd.gradcheck(
        lambda x, w: (
            linear_distillation(
                x, w, target, teacher.x_NF, teacher.weight_VF, temperature=2.0, row_weight=row_weight
            ).total
        ),
        leaves,
    )
    assert torch.autograd.gradcheck(lambda x: linear_cross_entropy(x, weight.detach(), target), (x,))


def test_second_derivative_is_refused() -> None:
    x, weight, target, *_ = case(4, 5, 7, 0, torch.float32, 0)
    (grad,) = torch.autograd.grad(
        linear_cross_entropy(x.requires_grad_(), weight, target), x, create_graph=True
    )
    with pytest.raises(NotImplementedError, match="MULTIWAY_KERNELS=reference"):
        grad.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(dtype: torch.dtype) -> None:
    x, weight, target, row_weight, teacher = case(5, 9, 30, 4, dtype, 0)
    told = (*teacher[:3], 2.0)
    for others, needed in ((told, (True, True)), ((None, None, None, 1.0), (False, True))):
        arguments = (x, weight, target, row_weight, *others, *needed)
        torch.library.opcheck(
            operators.linear_cross_entropy, arguments, test_utils=("test_schema", "test_faketensor")
        )


class Head(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(16, 40, bias=False)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return linear_cross_entropy(x * 2, self.linear.weight, target) + 1


def test_compiles_without_graph_break() -> None:
    head = Head()
    compiled = torch.compile(head, fullgraph=True, dynamic=True, backend="aot_eager")
    for rows in (3, 8):
        x, target = draw(rows, 16, dtype=torch.float32, seed=rows).requires_grad_(), torch.arange(rows)
        expected, actual = head(x, target), compiled(x, target)
        torch.testing.assert_close(actual, expected)
        leaves = x, head.linear.weight
        torch.testing.assert_close(torch.autograd.grad(actual, leaves), torch.autograd.grad(expected, leaves))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.ones(3, 4, dtype=torch.int64)}, "x is torch.int64 (3, 4)"),
        ({"weight": torch.ones(7, 5)}, "weight is torch.float32 (7, 5) on cpu, expected floating point (V, 4)"),
        ({"target": torch.zeros(2, dtype=torch.int64)}, "target is torch.int64 (2,) on cpu, expected torch.int64 (3,)"),
        ({"target": torch.zeros(3)}, "target is torch.float32 (3,)"),
        ({"target": torch.tensor([0, 1, 7])}, "target 7 is outside the 7 outputs"),
        ({"row_weight": torch.ones(4)}, "row_weight is torch.float32 (4,) on cpu, expected (3,)"),
        ({"teacher_x": torch.ones(2, 6)}, "teacher_x is torch.float32 (2, 6) on cpu, expected (3, F)"),
        ({"teacher_weight": torch.ones(8, 6)}, "teacher_weight is torch.float32 (8, 6) on cpu, expected"),
        ({"temperature": 0.0}, "temperature is 0.0, expected above 0"),
    ],
)  # fmt: skip
def test_bad_arguments(changes: dict, message: str) -> None:
    arguments = {
        "x": torch.ones(3, 4), "weight": torch.ones(7, 4), "target": torch.zeros(3, dtype=torch.int64),
        "teacher_x": torch.ones(3, 6), "teacher_weight": torch.ones(7, 6),
    }  # fmt: skip
    with pytest.raises(InputError) as caught:
        linear_distillation(**(arguments | changes))
    assert message in str(caught.value)


def test_interpreter(run_interpreted: Callable[[int], None]) -> None:
    run_interpreted(2)


@pytest.mark.skipif(not INTERPRETED, reason="run by test_interpreter, in a process of its own")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_triton_interpreted(dtype: torch.dtype) -> None:
    from multiway_blocks.kernels.linear_cross_entropy import triton

    # The last has several shares of the outputs.
    check(triton, dtype, [(1, 1, 1, 0), (70, 33, 130, 20), (3, 70, 517, 0), (2, 6, 1300, 5)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_triton_on_gpu(dtype: torch.dtype) -> None:
    from multiway_blocks.kernels.linear_cross_entropy import triton

    x, weight, target, row_weight, teacher = case(300, 192, 5000, 128, dtype, 0)
    moved = reference.Teacher(*(part.cuda() for part in teacher[:3]), teacher.temperature)
    results = triton.forward(x.cuda(), weight.cuda(), target.cuda(), row_weight.cuda(), moved, (True, True))
    expected = chunks.forward(x, weight, target, row_weight, teacher, (True, True))
    for a, b in zip(results, expected, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_triton_compiles_ahead_of_time(
    capability: int, dtype: str, compile_ahead: Callable[..., str]
) -> None:
    from multiway_blocks.kernels.linear_cross_entropy import triton as kernels

    torch_dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    tile, tile_v = kernels.TILE_E[torch_dtype], kernels.TILE_V[torch_dtype]
    data, number = f"*{dtype}", "*fp32"
    sizes = {
        "E": 576, "F": 960, "TILE_N": kernels.TILE_N, "TILE_V": tile_v, "TILE_E": tile, "TILE_F": tile,
        "WIDE": dtype == "fp32", "WIDE_TEACHER": dtype == "fp32",
    }  # fmt: skip
    forward = {
        "x_ptr": data, "weight_ptr": data, "target_ptr": "*i64", "teacher_x_ptr": data, "teacher_weight_ptr": data,
        "statistics_ptr": number, "N": "i32", "V": "i32", "share": "i32", "inverse_temperature": "fp32",
    }  # fmt: skip
    gradient = {
        "x_ptr": data, "weight_ptr": data, "target_ptr": "*i64", "row_weight_ptr": number, "lse_ptr": number,
        "teacher_x_ptr": data, "teacher_weight_ptr": data, "teacher_row_weight_ptr": number, "warm_lse_ptr": number,
        "teacher_lse_ptr": number, "grad_ptr": data, "N": "i32", "V": "i32", "inverse_temperature": "fp32",
    }  # fmt: skip
    for kernel, arguments in ((kernels.forward_kernel, forward), (kernels.gradient_kernel, gradient)):
        ptx = compile_ahead(
            kernel, capability, arguments | sizes, warps=kernels.WARPS, shared=100 * 1024, aligned="V share"
        )
        # Tensor cores multiply where the type allows it.
        assert (("wgmma.mma_async" if capability == 90 else "mma.sync") in ptx) == (dtype == "bf16")

"""BitDistill's relation loss: the released code's value, and every implementation against the definition in float64."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from multiway_blocks.kernels.relation_distillation import (
    chunks,
    cpu,
    operators,
    reference,
    relation_distillation,
)
from multiway_core.errors import InputError
from torch import Tensor
from torch.nn import functional

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Groups, tokens, widths of student and teacher, 1 / temperature.
SHAPES = [(1, 1, 1, 3, 1.0), (3, 37, 5, 5, 1.0), (2, 70, 33, 20, 4.0), (1, 130, 64, 96, 0.5)]


def draw(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def unit(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    return functional.normalize(draw(*shape, dtype=torch.float64, seed=seed), dim=-1).to(dtype)


def check(implementation: ModuleType, dtype: torch.dtype, tolerance: float, shapes=SHAPES) -> None:
    for seed, (groups, length, D, F, scale) in enumerate(shapes):
        student = unit(groups, length, D, dtype=dtype, seed=seed)
        teacher = unit(groups, length, F, dtype=dtype, seed=seed + 50)
        grad = draw(groups, length, dtype=torch.float32, seed=seed + 100)
        results = implementation.forward(student, teacher, scale)
        expected = reference.forward(student.double(), teacher.double(), scale)
        for actual, exact in zip(results, expected, strict=True):
            torch.testing.assert_close(actual.double(), exact, rtol=tolerance, atol=tolerance)
        back = implementation.backward(grad, student, teacher, scale, *results[1:])
        exact = reference.backward(grad.double(), student.double(), teacher.double(), scale, *expected[1:])
        assert back.dtype == dtype
        bound = tolerance + torch.finfo(dtype).eps * float(exact.abs().max())
        torch.testing.assert_close(back.double(), exact, rtol=tolerance, atol=bound)


def sines(shape: tuple[int, ...], step: float, start: float) -> Tensor:
    count = torch.Size(shape).numel()
    return torch.sin(step * torch.arange(count, dtype=torch.float64) + start).view(shape)


@pytest.mark.parametrize(
    ("teacher_heads", "golden"), [(2, 0.0313671923), (4, 0.0314028460)], ids=["equal", "wider teacher"]
)
def test_value_of_the_released_code(teacher_heads: int, golden: float) -> None:
    student, teacher = sines((1, 2, 5, 4), 0.7, 0.1), sines((1, teacher_heads, 5, 4), 0.8, 0.3)
    assert abs(float(relation_distillation(student, teacher, 2)) - golden) < 1e-9
    assert abs(float(relation_distillation(student.float(), teacher.float(), 2)) - golden) < 1e-6


def test_reference_is_kl_div_and_its_derivative() -> None:
    student, teacher = unit(2, 7, 4, dtype=torch.float64, seed=0), unit(2, 7, 6, dtype=torch.float64, seed=1)
    student.requires_grad_()
    s, t = (3 * (x @ x.transpose(1, 2)) for x in (student, teacher))
    expected = functional.kl_div(s.log_softmax(-1), t.softmax(-1), reduction="none").sum(-1)
    kl, student_lse, teacher_lse = reference.forward(student, teacher, 3.0)
    torch.testing.assert_close(kl, expected)
    grad = draw(2, 7, dtype=torch.float64, seed=2)
    back = reference.backward(grad, student.detach(), teacher, 3.0, student_lse.detach(), teacher_lse)
    torch.testing.assert_close(back, torch.autograd.grad(expected, student, grad)[0])


@pytest.mark.parametrize("at_once", [1, 1500, 1 << 18])
@pytest.mark.parametrize("module", [chunks, cpu], ids=["chunks", "cpu"])
def test_chunks(module: ModuleType, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if module is cpu and not cpu.supports(torch.float32):
        pytest.skip("no C++ compiler")
    monkeypatch.setattr(chunks, "PRODUCTS_AT_ONCE", at_once)
    check(module, torch.float32, 2e-6)
    check(module, torch.bfloat16, 2e-6)


def test_cpu_built_for_lesser_machines(built_for_lesser_machine: Callable[[ModuleType], None]) -> None:
    built_for_lesser_machine(cpu)
    check(cpu, torch.float32, 2e-6)


def test_cpu_without_compiler_chunks_of_pytorch_run(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = (
        draw(1, 2, 9, 4, dtype=torch.float32, seed=0),
        draw(1, 2, 9, 4, dtype=torch.float32, seed=1),
    )
    expected = relation_distillation(student, teacher, 4)
    monkeypatch.setattr(cpu, "_functions", dict)
    torch.testing.assert_close(relation_distillation(student, teacher, 4), expected)


def test_the_same_bits_for_any_number_of_threads() -> None:
    student = draw(2, 3, 90, 8, dtype=torch.float32, seed=0).requires_grad_()
    teacher = draw(2, 3, 90, 8, dtype=torch.float32, seed=1)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            loss = relation_distillation(student, teacher, 6)
            results.append((loss, *torch.autograd.grad(loss, student)))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)  # PyTorch's products may differ in order


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    student = draw(2, 2, 67, 8, dtype=dtype, seed=0).requires_grad_()
    teacher = draw(2, 2, 67, 8, dtype=dtype, seed=1)
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = relation_distillation(student, teacher, 4)
            results.append((loss, *torch.autograd.grad(loss, student)))
    for plain, cast in zip(*results, strict=True):
        torch.testing.assert_close(cast, plain, rtol=0, atol=0)


def test_equal_relations_do_not_diverge_and_zero_vectors_are_harmless() -> None:
    student = draw(1, 2, 9, 4, dtype=torch.float32, seed=0)
    assert abs(float(relation_distillation(student, 3 * student, 2))) < 1e-6
    student[0, :, 3] = 0
    student.requires_grad_()
    loss = relation_distillation(student, draw(1, 2, 9, 4, dtype=torch.float32, seed=1), 2)
    assert torch.isfinite(loss)
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def test_gradcheck() -> None:
    student = draw(1, 2, 5, 3, dtype=torch.float64, seed=0).requires_grad_()
    teacher = draw(1, 2, 5, 4, dtype=torch.float64, seed=1)
    assert torch.autograd.gradcheck(
        lambda x: relation_distillation(x, teacher, 2, temperature=0.3), (student,)
    )


def test_second_derivative_is_refused() -> None:
    student = unit(1, 5, 3, dtype=torch.float32, seed=0).requires_grad_()
    kl = operators.relation_distillation(student, student.detach() * 1, 1.0)[0]
    (grad,) = torch.autograd.grad(kl.square().sum(), student, create_graph=True)
    with pytest.raises(NotImplementedError, match="MULTIWAY_KERNELS=reference"):
        grad.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(dtype: torch.dtype) -> None:
    student, teacher = unit(2, 9, 5, dtype=dtype, seed=0), unit(2, 9, 7, dtype=dtype, seed=1)
    results = operators.relation_distillation(student, teacher, 1.0)
    schema = ("test_schema", "test_faketensor")
    torch.library.opcheck(operators.relation_distillation, (student, teacher, 1.0), test_utils=schema)
    arguments = (results[0], student, teacher, 1.0, *results[1:])
    torch.library.opcheck(operators.relation_distillation_backward, arguments, test_utils=schema)


def test_compiles_without_graph_break() -> None:
    teacher = draw(1, 2, 9, 4, dtype=torch.float32, seed=1)
    function = lambda x: relation_distillation(x * 2, teacher[:, :, : x.shape[2]], 4) + 1  # noqa: E731
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (5, 8):
        x = draw(1, 2, length, 4, dtype=torch.float32, seed=length).requires_grad_()
        expected, actual = function(x), compiled(x)
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(torch.autograd.grad(actual, x), torch.autograd.grad(expected, x))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": torch.ones(2, 5, 4)}, "student is torch.float32 (2, 5, 4)"),
        ({"teacher": torch.ones(1, 2, 6, 4)}, "teacher is torch.float32 (1, 2, 6, 4) on cpu, expected"),
        ({"splits": 3}, "splits is 3, expected a divisor of student's width 8"),
        ({"splits": 0}, "splits is 0"),
        ({"temperature": -1.0}, "temperature is -1.0, expected above 0"),
    ],
)
def test_bad_arguments(changes: dict, message: str) -> None:
    arguments = {"student": torch.ones(1, 2, 5, 4), "teacher": torch.ones(1, 2, 5, 4), "splits": 2} | changes
    with pytest.raises(InputError) as caught:
        relation_distillation(**arguments)
    assert message in str(caught.value)


def test_interpreter(run_interpreted: Callable[[int], None]) -> None:
    run_interpreted(2)


@pytest.mark.skipif(not INTERPRETED, reason="run by test_interpreter, in a process of its own")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_triton_interpreted(dtype: torch.dtype) -> None:
    from multiway_blocks.kernels.relation_distillation import triton

    check(triton, dtype, 1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_triton_on_gpu(dtype: torch.dtype) -> None:
    student, teacher = unit(4, 300, 64, dtype=dtype, seed=0), unit(4, 300, 32, dtype=dtype, seed=1)
    from multiway_blocks.kernels.relation_distillation import triton

    results = triton.forward(student.cuda(), teacher.cuda(), 1.0)
    for a, b in zip(results, chunks.forward(student, teacher, 1.0), strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("width", [32, 64])
def test_triton_compiles_ahead_of_time(
    capability: int, width: int, compile_ahead: Callable[..., str]
) -> None:
    from multiway_blocks.kernels.relation_distillation import triton as kernels

    rows = torch.empty(1, 1, width, dtype=torch.bfloat16)
    sizes = kernels.sizes(rows, rows) | {"WIDE": False}
    data, number = "*bf16", "*fp32"
    forward = {
        "student_ptr": data, "teacher_ptr": data, "kl_ptr": number, "student_lse_ptr": number,
        "teacher_lse_ptr": number, "L": "i32", "scale": "fp32",
    }  # fmt: skip
    backward = {
        "grad_ptr": number, "student_ptr": data, "teacher_ptr": data, "student_lse_ptr": number,
        "teacher_lse_ptr": number, "result_ptr": data, "L": "i32", "scale": "fp32",
    }  # fmt: skip
    for kernel, arguments in ((kernels.forward_kernel, forward), (kernels.backward_kernel, backward)):
        ptx = compile_ahead(kernel, capability, arguments | sizes, warps=kernels.WARPS, shared=100 * 1024)
        assert ("wgmma.mma_async" if capability == 90 else "mma.sync") in ptx

"""The segmented scan: every implementation against a loop in float64, and what `torch.library` promises."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType

import pytest
import torch
from multiway_core.errors import InputError
from multiway_event_vision.kernels.segmented_scan import cpu, operators, reference, segmented_scan
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
LENGTHS = [[], [0], [1], [3, 0, 1], [1, 1, 1, 1], [7, 2, 40, 0, 13], [100]]
WIDTHS = [1, 5, 12, 32, 300]


def draw(
    lengths: list[int], D: int, dtype: torch.dtype, *, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    R = sum(lengths)
    u = torch.randn(R, D, generator=generator, dtype=torch.float64).to(dtype)
    g = torch.rand(R, D, generator=generator, dtype=torch.float64).to(dtype)
    initial = torch.randn(len(lengths), D, generator=generator, dtype=torch.float64).to(dtype)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return u, g, offsets, initial


def brute_force(u: Tensor, g: Tensor, offsets: Tensor, initial: Tensor) -> Tensor:
    """One row after another, in float64, recorded by autograd."""
    rows = []
    for s in range(len(offsets) - 1):
        h = initial[s].double()
        for t in range(int(offsets[s]), int(offsets[s + 1])):
            h = g[t].double() * h + u[t].double()
            rows.append(h)
    return torch.stack(rows) if rows else u.double()


def check(implementation: ModuleType, dtype: torch.dtype, tolerance: float) -> None:
    for seed, lengths in enumerate(LENGTHS):
        for D in WIDTHS:
            u, g, offsets, initial = draw(lengths, D, dtype, seed=seed)
            leaves = [x.double().requires_grad_() for x in (u, g, initial)]
            exact = brute_force(leaves[0], leaves[1], offsets, leaves[2])
            h = implementation.forward(u, g, offsets, initial)
            assert h.dtype == dtype
            torch.testing.assert_close(h.double(), exact, rtol=tolerance, atol=tolerance)

            generator = torch.Generator().manual_seed(seed + 99)
            grad_h = torch.randn(h.shape, generator=generator, dtype=torch.float64).to(dtype)
            expected = torch.autograd.grad(exact, leaves, grad_h.double(), allow_unused=True)
            actual = implementation.backward(grad_h, g, h, offsets, initial)
            for mine, right in zip(actual, expected, strict=True):
                assert mine.dtype == dtype
                right = torch.zeros_like(mine, dtype=torch.float64) if right is None else right
                torch.testing.assert_close(mine.double(), right, rtol=8 * tolerance, atol=8 * tolerance)


TOLERANCES = [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)]


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_reference(dtype: torch.dtype, tolerance: float) -> None:
    check(reference, dtype, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES[:2])
def test_cpu(dtype: torch.dtype, tolerance: float) -> None:
    if not cpu.supports(dtype):
        pytest.skip("no C++ compiler")
    check(cpu, dtype, tolerance)


def test_cpu_gives_the_same_bits_for_any_number_of_threads() -> None:
    u, g, offsets, initial = draw([3, 50, 0, 700, 9] * 40, 12, torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            leaves = [x.clone().requires_grad_() for x in (u, g, initial)]
            h = segmented_scan(leaves[0], leaves[1], offsets, leaves[2])
            results.append([h, *torch.autograd.grad(h, leaves, u)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_without_compiler_the_definition_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    cpu._functions.cache_clear()
    try:
        assert not cpu.supports(torch.float32)
        arguments = draw([3, 0, 5], 7, torch.float32)
        assert torch.equal(segmented_scan(*arguments), reference.forward(*arguments))
    finally:
        cpu._functions.cache_clear()


@pytest.mark.parametrize("initial", [True, False])
def test_gradcheck(initial: bool) -> None:
    u, g, offsets, start = draw([3, 0, 1, 5], 2, torch.float64)
    leaves = [x.requires_grad_() for x in ((u, g, start) if initial else (u, g))]
    assert torch.autograd.gradcheck(lambda u, g, *h: segmented_scan(u, g, offsets, *h), leaves)
    assert torch.autograd.gradcheck(lambda u, g, h=start: reference.forward(u, g, offsets, h), leaves)


def test_reference_survives_gates_that_underflow() -> None:
    u, g, offsets, initial = draw([4000], 3, torch.float32)
    h = reference.forward(u, g * 1e-30, offsets, initial)
    torch.testing.assert_close(h, u + g * 1e-30 * torch.cat([initial, u[:-1]]))


def test_opcheck_and_strided_input() -> None:
    u, g, offsets, initial = draw([3, 2, 4], 6, torch.float32)
    u, g, initial = (x.requires_grad_() for x in (u, g, initial))
    torch.library.opcheck(operators.segmented_scan, (u, g, offsets, initial))
    wide = torch.stack([u, g], dim=2).detach()
    h = segmented_scan(wide[..., 0], wide[..., 1], offsets, initial.detach())
    torch.testing.assert_close(h, segmented_scan(u, g, offsets, initial).detach())
    loss = segmented_scan(u, g, offsets, initial).square().sum()
    (gradient,) = torch.autograd.grad(loss, u, create_graph=True)
    with pytest.raises(NotImplementedError, match="MULTIWAY_KERNELS=reference"):
        gradient.sum().backward()


def test_compiles_without_graph_break() -> None:
    def run(u: Tensor, g: Tensor, offsets: Tensor, initial: Tensor) -> Tensor:
        return segmented_scan(u * 2, g, offsets, initial).sin()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager", dynamic=True)
    for lengths in ([3, 2, 4], [5, 1]):
        arguments = draw(lengths, 6, torch.float32)
        torch.testing.assert_close(compiled(*arguments), run(*arguments))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": torch.ones(3)}, "u is torch.float32 (3,)"),
        ({"u": torch.ones(3, 2, dtype=torch.int64)}, "u is torch.int64"),
        ({"g": torch.ones(3, 2)}, "g is torch.float32 (3, 2) on cpu, expected torch.float32 (5, 2)"),
        ({"offsets": torch.tensor([0, 5], dtype=torch.int32)}, "offsets is torch.int32"),
        ({"offsets": torch.tensor([0, 3, 2, 5])}, "must ascend from 0 to 5"),
        ({"offsets": torch.tensor([0, 2, 6])}, "must ascend from 0 to 5"),
        ({"initial": torch.ones(3, 2)}, "initial is torch.float32 (3, 2)"),
    ],
)
def test_bad_arguments(change: dict[str, Tensor], message: str) -> None:
    u, g, offsets, initial = draw([2, 3], 2, torch.float32)
    arguments = {"u": u, "g": g, "offsets": offsets, "initial": initial} | change
    with pytest.raises(InputError) as caught:
        segmented_scan(*arguments.values())
    assert message in str(caught.value)


def test_interpreter() -> None:
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", __file__, "-k", "interpreted"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 passed" in result.stdout


@pytest.mark.skipif(not INTERPRETED, reason="run by test_interpreter, in a process of its own")
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_triton_interpreted(dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from multiway_event_vision.kernels.segmented_scan import triton

    monkeypatch.setitem(globals(), "LENGTHS", [[3, 0, 9], [2]])
    monkeypatch.setitem(globals(), "WIDTHS", [5, 300])
    check(triton, dtype, tolerance)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_triton_on_gpu(dtype: torch.dtype) -> None:
    arguments = draw([3, 50, 0, 700, 9] * 40, 96, dtype)
    outcome = []
    for device in ("cpu", "cuda"):
        u, g, offsets, initial = (x.to(device) for x in arguments)
        leaves = [x.requires_grad_() for x in (u, g, initial)]
        h = segmented_scan(u, g, offsets, initial)
        outcome.append([x.cpu() for x in (h, *torch.autograd.grad(h.sin().sum(), leaves))])
    for a, b in zip(*outcome, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter replaces the compiler")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["fp32", "fp64", "bf16"])
@pytest.mark.parametrize("D", [12, 256])
def test_triton_compiles_ahead_of_time(capability: int, dtype: str, D: int) -> None:
    triton = pytest.importorskip("triton")
    from multiway_event_vision.kernels.segmented_scan import triton as kernels
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    block, warps = kernels.tile(D)
    data = f"*{dtype}"
    signatures = {
        kernels.forward_kernel: [data, data, "*i64", data, data],
        kernels.backward_kernel: [data, data, data, "*i64", data, data, data, data],
    }
    for kernel, types in signatures.items():
        names = kernel.arg_names
        signature = dict(zip(names, [*types, "constexpr", "constexpr"], strict=True))
        constants = {(names.index(n),): v for n, v in {"D": D, "BLOCK": block}.items()}
        aligned = {(i,): [["tt.divisibility", 16]] for i in range(len(types))}
        compiled = triton.compile(
            ASTSource(kernel, signature, constants, aligned),
            target=GPUTarget("cuda", capability, 32),
            options={"num_warps": warps},
        )
        assert compiled.asm["cubin"]
        assert compiled.metadata.shared == 0  # rows go straight from memory to registers

"""Retention with gates: golden values, all implementations against the recurrence in float64, the backward pass."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from multiway_blocks.kernels.gated_retention import cpu, gated_retention, operators, reference
from multiway_core.errors import InputError
from torch import Tensor
from torch.nn.functional import logsigmoid

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Batch, heads, tokens, key and value width.
SHAPES = [(1, 1, 1, 1, 1), (2, 3, 70, 5, 18), (1, 2, 130, 64, 130), (1, 2, 64, 33, 16)]


def draw(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def case(B: int, H: int, T: int, K: int, V: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, ...]:
    """q, k, v, log-decays, state."""
    wide = torch.promote_types(dtype, torch.float32)
    return (
        draw(B, H, T, K, dtype=dtype, seed=seed),
        draw(B, H, T, K, dtype=dtype, seed=seed + 1) * K**-0.5,
        draw(B, H, T, V, dtype=dtype, seed=seed + 2),
        logsigmoid(draw(B, H, T, dtype=wide, seed=seed + 3)) / 4,
        draw(B, H, K, V, dtype=wide, seed=seed + 4),
    )


def by_recurrence(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    results = []
    for t in range(q.shape[2]):
        one, state = reference.recurrent(q[:, :, t], k[:, :, t], v[:, :, t], log_decay[:, :, t], state)
        results.append(one)
    return torch.stack(results, dim=2), state


def filled(function: Callable[[Tensor], Tensor], *shape: int) -> Tensor:
    return function(torch.arange(torch.Size(shape).numel(), dtype=torch.float64)).view(shape)


@pytest.mark.parametrize("chunk", [1, 4, 128])
def test_golden_of_yoco(chunk: int) -> None:
    q = filled(lambda i: torch.sin(0.7 * i + 0.1), 1, 2, 6, 4)
    k = filled(lambda i: torch.cos(0.3 * i - 0.2), 1, 2, 6, 4) / 2
    v = filled(lambda i: torch.sin(0.05 * i * i), 1, 2, 6, 4)
    log_decay = logsigmoid(filled(lambda i: torch.cos(0.5 * i), 1, 2, 6)) / 16
    o, _ = gated_retention(q, k, v, log_decay, chunk=chunk)
    assert float(o.sum()) == pytest.approx(4.383626933952, abs=1e-11)
    wanted = [[0.368658, -0.012623, 0.587537, 2.035207], [-1.274887, 1.379431, -0.924166, 0.404655]]
    torch.testing.assert_close(o[0, :, 5], torch.tensor(wanted, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_forms_agree(shape: tuple[int, ...]) -> None:
    arguments = case(*shape, torch.float64)
    expected = by_recurrence(*arguments)
    for chunk in (1, 7, 64, 500):
        torch.testing.assert_close(reference.chunkwise(*arguments, chunk=chunk), expected)
    empty = torch.zeros_like(arguments[4])
    torch.testing.assert_close(reference.parallel(*arguments[:4]), by_recurrence(*arguments[:4], empty)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_one_token_on_cpu(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if not cpu.supports(dtype, torch.float32):
        pytest.skip("no C++ compiler")
    q, k, v, log_decay, state = case(*shape, dtype)
    arguments = q[:, :, -1], k[:, :, -1], v[:, :, -1], log_decay[:, :, -1], state
    expected = reference.recurrent(*(x.double() for x in arguments))
    for actual, exact in zip(cpu.recurrent(*arguments), expected, strict=True):
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual.double(), exact, rtol=1e-5, atol=1e-5)


def test_cpu_built_for_lesser_machines(built_for_lesser_machine: Callable[[ModuleType], None]) -> None:
    built_for_lesser_machine(cpu)
    for shape in SHAPES:
        test_one_token_on_cpu(shape, torch.float32)


def test_the_same_bits_for_any_number_of_threads() -> None:
    q, k, v, log_decay, state = case(2, 4, 1, 96, 120, torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(gated_retention(q, k, v, log_decay, state))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_token_by_token_equals_all_at_once(dtype: torch.dtype) -> None:
    q, k, v, log_decay, _ = case(2, 3, 20, 8, 10, dtype)
    expected, last = gated_retention(q, k, v, log_decay, chunk=6)
    state, results = None, []
    for t in range(20):
        part = slice(t, t + 1)
        o, state = gated_retention(q[:, :, part], k[:, :, part], v[:, :, part], log_decay[:, :, part], state)
        results.append(o)
    torch.testing.assert_close((torch.cat(results, dim=2), state), (expected, last), rtol=1e-4, atol=1e-4)


def test_no_tokens_leave_the_state() -> None:
    q, k, v, log_decay, state = case(1, 2, 3, 4, 5, torch.float32)
    o, after = gated_retention(q[:, :, :0], k[:, :, :0], v[:, :, :0], log_decay[:, :, :0], state)
    assert o.shape == (1, 2, 0, 5)
    assert torch.equal(after, state)


@pytest.mark.parametrize(("tokens", "chunk"), [(1, 4), (7, 3), (8, 128)])
def test_gradcheck(tokens: int, chunk: int) -> None:
    leaves = [x.requires_grad_() for x in case(1, 2, tokens, 3, 4, torch.float64)]
    assert torch.autograd.gradcheck(lambda *a: gated_retention(*a, chunk=chunk), leaves)
    assert torch.autograd.gradcheck(lambda *a: gated_retention(*a, chunk=chunk)[0], leaves[:4])


def test_gradients_do_not_overflow_with_strong_decay() -> None:
    q, k, v, log_decay, _ = case(1, 2, 300, 8, 8, torch.float32)
    leaves = [x.requires_grad_() for x in (q, k, v, 50 * log_decay.detach())]
    loss = gated_retention(*leaves)[0].square().sum()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(loss, leaves))


def test_second_derivative_is_refused() -> None:
    q, k, v, log_decay, _ = case(1, 1, 3, 2, 2, torch.float32)
    (grad,) = torch.autograd.grad(
        gated_retention(q.requires_grad_(), k, v, log_decay)[0].sum(), q, create_graph=True
    )
    with pytest.raises(NotImplementedError, match="MULTIWAY_KERNELS=reference"):
        grad.sum().backward()


@pytest.mark.parametrize("tokens", [1, 9])
def test_opcheck(tokens: int) -> None:
    arguments = case(1, 2, tokens, 3, 4, torch.float32)
    schema = ("test_schema", "test_faketensor")
    torch.library.opcheck(operators.gated_retention, (*arguments, 4), test_utils=schema)
    grads = torch.randn(1, 2, tokens, 4), torch.randn(1, 2, 3, 4)
    torch.library.opcheck(operators.gated_retention_backward, (*grads, *arguments, 4), test_utils=schema)


def test_compiles_without_graph_break() -> None:
    q, k, v, log_decay, state = case(1, 2, 9, 3, 4, torch.float32)

    def block(q: Tensor) -> Tensor:
        T = q.shape[2]
        o, after = gated_retention(q * 2, k[:, :, :T], v[:, :, :T], log_decay[:, :, :T], state)
        return o.sum() + after.sum()

    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend="aot_eager")
    for tokens in (5, 9):
        x = q[:, :, :tokens].clone().requires_grad_()
        expected, actual = block(x), compiled(x)
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(torch.autograd.grad(actual, x), torch.autograd.grad(expected, x))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": torch.ones(2, 5, 4)}, "q is torch.float32 (2, 5, 4)"),
        (
            {"k": torch.ones(1, 2, 5, 3)},
            "k is torch.float32 (1, 2, 5, 3) on cpu, expected torch.float32 (1, 2, 5, 4)",
        ),
        ({"v": torch.ones(1, 2, 4, 3)}, "v is torch.float32 (1, 2, 4, 3)"),
        ({"log_decay": torch.ones(1, 2)}, "log_decay is torch.float32 (1, 2)"),
        ({"state": torch.ones(1, 2, 3, 4)}, "state is torch.float32 (1, 2, 3, 4)"),
        ({"chunk": 0}, "chunk is 0"),
    ],
)
def test_bad_arguments(changes: dict, message: str) -> None:
    x = torch.ones(1, 2, 5, 4)
    arguments = {"q": x, "k": x, "v": x[..., :3], "log_decay": x[..., 0]} | changes
    with pytest.raises(InputError) as caught:
        gated_retention(**arguments)
    assert message in str(caught.value)


def test_interpreter(run_interpreted: Callable[[int], None]) -> None:
    run_interpreted(2)


@pytest.mark.skipif(not INTERPRETED, reason="run by test_interpreter, in a process of its own")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_triton_interpreted(dtype: torch.dtype) -> None:
    from multiway_blocks.kernels.gated_retention import triton

    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.02}
    for seed, shape in enumerate(SHAPES):
        arguments = case(*shape, dtype, seed)
        expected = reference.chunkwise(*(x.double() for x in arguments))
        for actual, exact in zip(triton.chunkwise(*arguments), expected, strict=True):
            torch.testing.assert_close(actual.double(), exact, **tolerance)
        one = [x[:, :, 0].contiguous() for x in arguments[:4]]
        expected = reference.recurrent(*(x.double() for x in one), arguments[4].double())
        for actual, exact in zip(triton.recurrent(*one, arguments[4]), expected, strict=True):
            torch.testing.assert_close(actual.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_triton_on_gpu() -> None:
    from multiway_blocks.kernels.gated_retention import triton

    arguments = case(2, 3, 300, 128, 128, torch.bfloat16)
    results = triton.chunkwise(*(x.cuda() for x in arguments))
    for actual, exact in zip(results, reference.chunkwise(*arguments), strict=True):
        torch.testing.assert_close(actual.cpu(), exact, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("capability", [80, 90])
def test_triton_compiles_ahead_of_time(capability: int, compile_ahead: Callable[..., str]) -> None:
    from multiway_blocks.kernels.gated_retention import triton as kernels

    data, number = "*bf16", "*fp32"
    sizes = {"CHUNK": kernels.CHUNK, "TILE": kernels.TILE, "WIDE": False}
    counts = {"T": "i32", "num_chunks": "i32", "K": 128, "V": 128}
    state = {
        "k_ptr": data, "v_ptr": data, "total_ptr": number, "state_ptr": number, "states_ptr": data, "next_ptr": number,
    }  # fmt: skip
    output = {
        "q_ptr": data, "k_ptr": data, "v_ptr": data, "total_ptr": number, "states_ptr": data, "o_ptr": number,
    }  # fmt: skip
    step = {
        "q_ptr": data, "k_ptr": data, "v_ptr": data, "log_decay_ptr": number, "state_ptr": number, "o_ptr": number,
        "next_ptr": number, "K": 128, "V": 128, "TILE_K": 32, "TILE": kernels.TILE,
    }  # fmt: skip
    for kernel, arguments in (
        (kernels.state_kernel, state | counts | sizes),
        (kernels.output_kernel, output | counts | sizes),
        (kernels.step_kernel, step),
    ):
        ptx = compile_ahead(kernel, capability, arguments, warps=kernels.WARPS, shared=100 * 1024)
        # Tensor cores multiply, but for the one token, which has no product of matrices.
        multiplies = kernel is not kernels.step_kernel
        assert (("wgmma.mma_async" if capability == 90 else "mma.sync") in ptx) == multiplies

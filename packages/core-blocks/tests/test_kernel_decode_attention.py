"""Attention of one query: every implementation against float64, and what `torch.library` promises."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from multiway_blocks.attention import attend
from multiway_blocks.kernels.decode_attention import cpu, decode_attention, operators, reference
from multiway_core.errors import InputError
from torch import Tensor

DTYPES = [torch.float32, torch.bfloat16]
# B, H, K, S, D: one key, grouped queries, head sizes with and without a rest, more keys than a block has.
SHAPES = [
    (1, 1, 1, 1, 1),
    (2, 4, 4, 5, 8),
    (1, 6, 2, 33, 64),
    (3, 4, 1, 130, 33),
    (2, 2, 2, 40, 96),
    (0, 2, 2, 3, 4),
]


def draw(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def arguments(B: int, H: int, K: int, S: int, D: int, dtype: torch.dtype, seed: int) -> tuple[Tensor, ...]:
    """Query, keys and values with the strides that a decoder's have: views of projections and of a longer cache."""
    query = draw(B, 1, H * D, dtype=dtype, seed=seed).view(B, 1, H, D).transpose(1, 2)[:, :, 0]
    keys, values = (draw(B, K, S + 3, D, dtype=dtype, seed=seed + i)[:, :, :S] for i in (100, 200))
    return query, keys, values


def exact(query: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None) -> Tensor:
    """Row by row over the visible keys only, in float64."""
    out = torch.zeros(query.shape, dtype=torch.float64)
    group = query.shape[1] // keys.shape[1]
    for b in range(len(query)):
        kept = slice(None) if visible is None else visible[b]
        for h in range(query.shape[1]):
            key, value = keys[b, h // group][kept].double(), values[b, h // group][kept].double()
            if len(key):
                weights = (key @ query[b, h].double() * query.shape[-1] ** -0.5).softmax(0)
                out[b, h] = weights @ value
    return out


def check(implementation: ModuleType, dtype: torch.dtype) -> None:
    for seed, shape in enumerate(SHAPES):
        query, keys, values = arguments(*shape, dtype, seed)
        B, _, _, S, D = shape
        scattered = torch.rand(B, S, generator=torch.Generator().manual_seed(seed)) < 0.6
        padded = torch.arange(S)[None] >= torch.arange(B)[:, None]
        for visible in (None, scattered, padded):
            y = implementation.forward(query, keys, values, visible, D**-0.5)
            wanted = exact(query, keys, values, visible)
            assert y.dtype == dtype
            assert y.is_contiguous()
            # One rounding of the result, and float32 noise of sums over terms of size 1.
            torch.testing.assert_close(y.double(), wanted, rtol=torch.finfo(dtype).eps / 2, atol=3e-6)


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


def test_without_a_compiler_the_definition_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_functions", dict)
    query, keys, values = arguments(2, 4, 2, 9, 8, torch.float32, 0)
    assert torch.equal(
        decode_attention(query, keys, values), reference.forward(query, keys, values, None, 8**-0.5)
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_scores(dtype: torch.dtype) -> None:
    query = torch.tensor([[[300.0, 0.0]]], dtype=dtype)
    keys = torch.tensor([[[[1.0, 0.0], [-1.0, 0.0], [0.5, 0.0], [1.0, 5.0]]]], dtype=dtype)
    values = torch.tensor([[[[1.0, 2.0], [7.0, 7.0], [9.0, 9.0], [3.0, 4.0]]]], dtype=dtype)
    assert decode_attention(query, keys, values).flatten().tolist() == [
        2.0,
        3.0,
    ]  # the mean of the first and the last


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_stays_and_invisible_keys_do_not_matter(dtype: torch.dtype) -> None:
    query, keys, values = (tensor.clone() for tensor in arguments(2, 2, 2, 20, 16, dtype, 0))
    keys[0, 0, 3, 2] = float("nan")
    y = decode_attention(query, keys, values)
    assert y[0, 0].isnan().all()
    assert y[0, 1].isfinite().all()
    visible = torch.ones(2, 20, dtype=torch.bool)
    visible[0, 3] = False
    keys[0, 0, 3] = 1e4  # would be the greatest score
    wanted = exact(query, keys, values, visible)
    torch.testing.assert_close(
        decode_attention(query, keys, values, visible).double(),
        wanted,
        rtol=torch.finfo(dtype).eps,
        atol=3e-6,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_depends_on_neither_batch_mates_nor_padding(dtype: torch.dtype) -> None:
    if not cpu.supports(dtype):
        pytest.skip("no C++ compiler")
    query, keys, values = arguments(3, 4, 4, 70, 32, dtype, 0)
    padding = torch.tensor([0, 7, 40])
    visible = torch.arange(70)[None] >= padding[:, None]
    together = decode_attention(query, keys, values, visible)
    for row, start in enumerate(padding.tolist()):
        part = slice(row, row + 1)
        assert torch.equal(
            together[part], decode_attention(query[part], keys[part, :, start:], values[part, :, start:])
        )


def test_the_same_bits_for_any_number_of_threads() -> None:
    query, keys, values = arguments(4, 4, 4, 600, 64, torch.float32, 0)
    assert 2 * keys.numel() >= cpu._ELEMENTS_FOR_THREADS
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(decode_attention(query, keys, values))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16, torch.float64])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_takes_it_for_a_decoding_step(dtype: torch.dtype, masked: bool, monkeypatch) -> None:
    calls = []
    forward = cpu.forward

    def counted(*arguments) -> Tensor:
        calls.append(1)
        return forward(*arguments)

    monkeypatch.setattr(cpu, "forward", counted)
    query, keys, values = arguments(2, 4, 2, 19, 16, dtype, 0)
    visible = torch.arange(19)[None] >= torch.tensor([[0], [6]]) if masked else None
    mask = None if visible is None else visible[:, None, None]
    with torch.no_grad():
        y = attend(query[:, :, None], keys, values, mask)
    assert y.shape == (2, 4, 1, 16)
    wanted = exact(query, keys, values, visible)
    tolerance = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(y[:, :, 0].double(), wanted, rtol=tolerance, atol=tolerance)
    assert len(calls) == (dtype in DTYPES and cpu.supports(dtype))
    # A mask of scores, or a gradient, is none of its business.
    calls.clear()
    attend(query[:, :, None].detach().requires_grad_(), keys, values, mask)
    with torch.no_grad():
        attend(query[:, :, None], keys, values, torch.zeros(2, 1, 1, 19, dtype=dtype))
    assert not calls


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck(dtype: torch.dtype) -> None:
    query, keys, values = arguments(2, 4, 2, 9, 16, dtype, 0)
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    for visible in (None, torch.ones(2, 9, dtype=torch.bool)):
        torch.library.opcheck(
            operators.decode_attention, (query, keys, values, visible, 0.25), test_utils=checks
        )


def test_derivatives_are_refused() -> None:
    query, keys, values = arguments(1, 2, 2, 3, 4, torch.float32, 0)
    y = decode_attention(query.detach().requires_grad_(), keys, values)
    with pytest.raises(NotImplementedError, match="MULTIWAY_KERNELS=reference"):
        y.sum().backward()


def test_the_definition_has_derivatives() -> None:
    query, keys, values = (t.detach().requires_grad_() for t in arguments(1, 4, 2, 3, 4, torch.float64, 0))
    assert torch.autograd.gradcheck(
        lambda q, k, v: reference.forward(q, k, v, None, 0.5), (query, keys, values)
    )


def test_compiles_without_graph_break_and_exports_as_one_node() -> None:
    class Step(torch.nn.Module):
        def forward(self, query: Tensor, keys: Tensor, values: Tensor, visible: Tensor) -> Tensor:
            return decode_attention(query * 2, keys, values, visible) + 1

    step = Step()
    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (5, 9):
        inputs = (
            *arguments(2, 4, 2, length, 8, torch.float32, length),
            torch.ones(2, length, dtype=torch.bool),
        )
        with torch.no_grad():
            torch.testing.assert_close(compiled(*inputs), step(*inputs))
    program = torch.export.export(step, inputs)
    names = [str(node.target) for node in program.graph.nodes if "multiway" in str(node.target)]
    assert names == ["multiway.decode_attention.default"]


@pytest.mark.parametrize(
    ("query", "keys", "values", "visible", "message"),
    [
        (torch.ones(1, 2), torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4), None, "query is torch.float32 (1, 2)"),
        (torch.ones(1, 4, 4), torch.ones(1, 3, 3, 4), torch.ones(1, 3, 3, 4), None, "K a divisor of 4"),
        (torch.ones(1, 4, 4), torch.ones(1, 2, 3, 4), torch.ones(1, 2, 5, 4), None, "value is torch.float32 (1, 2, 5"),
        (torch.ones(1, 4, 4), torch.ones(1, 2, 3, 8), torch.ones(1, 2, 3, 8), None, "key is torch.float32 (1, 2, 3, 8"),
        (
            torch.ones(1, 4, 4), torch.ones(1, 2, 3, 4).double(), torch.ones(1, 2, 3, 4), None, "key is torch.float64",
        ),
        (
            torch.ones(1, 4, 4), torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4), torch.ones(1, 3),
            "visible is torch.float32 (1, 3) on cpu, expected torch.bool (1, 3)",
        ),
    ],
)  # fmt: skip
def test_bad_arguments(
    query: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        decode_attention(query, keys, values, visible)
    assert message in str(caught.value)

"""Dilated attention: golden values of the released code, the layers' form against the definition, Triton's kernel."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
from multiway_blocks.kernels.dilated_attention import dilated_attention, has_kernel, operators, reference
from multiway_core.errors import InputError
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Batch, heads, tokens, head dim, branches.
CASES = [
    (1, 1, 1, 1, [(4, 1)]),
    (2, 4, 16, 4, [(4, 1), (8, 2), (16, 4)]),
    (1, 3, 150, 20, [(300, 3), (70, 1), (100, 2)]),
    (1, 6, 37, 16, [(8, 1), (16, 5)]),
]


def draw(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def case(index: int, dtype: torch.dtype) -> tuple[tuple[Tensor, ...], list[tuple[int, int]]]:
    B, H, N, D, branches = CASES[index]
    return tuple(draw(B, H, N, D, dtype=dtype, seed=seed) for seed in range(3)), branches


def filled(function: Callable[[Tensor], Tensor], tokens: int) -> Tensor:
    x = function(torch.arange(tokens * 16, dtype=torch.float64)).view(1, tokens, 4, 4)
    return x.transpose(1, 2)


@pytest.mark.parametrize(
    ("tokens", "branches", "causal", "total", "golden"),
    [
        (8, [(4, 1), (8, 2)], True, -1.3765621655, (5, slice(0, 3), (-0.484198, 0.272864, -0.388480))),
        (8, [(4, 1), (8, 2)], False, -2.4562814783, (5, slice(0, 3), (-0.321185, 0.042216, -0.184007))),
        (16, [(4, 1), (8, 2), (16, 4)], True, 1.7927426717, (15, slice(-3, None), (0.612473, 0.497513, 0.405533))),
        (16, [(4, 1), (8, 2), (16, 4)], False, 9.4375795325, None),
        (10, [(4, 1), (8, 2)], True, -3.5842490825, (9, slice(-3, None), (0.837818, -0.645909, 0.574002))),
    ],
)  # fmt: skip
def test_goldens_of_the_released_code(tokens, branches, causal, total, golden) -> None:
    q = filled(lambda i: torch.sin(0.7 * i + 0.1), tokens)
    k = filled(lambda i: torch.cos(0.3 * i - 0.2), tokens)
    v = filled(lambda i: torch.sin(0.05 * i * i), tokens)
    for function in (reference.forward, lambda *a: dilated_attention(*a[:-1], causal=a[-1])):
        o = function(q, k, v, branches, causal).transpose(1, 2).flatten(2)
        assert float(o.sum()) == pytest.approx(total, abs=1e-9)
        if golden is not None:
            row, part, wanted = golden
            torch.testing.assert_close(
                o[0, row, part], torch.tensor(wanted, dtype=torch.float64), atol=1e-6, rtol=0
            )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("index", range(len(CASES)))
def test_public_function_is_the_definition(index: int, causal: bool) -> None:
    tensors, branches = case(index, torch.float64)
    torch.testing.assert_close(
        dilated_attention(*tensors, branches, causal=causal), reference.forward(*tensors, branches, causal)
    )
    assert not has_kernel(tensors[0])


def test_opcheck_and_compile() -> None:
    tensors, branches = case(1, torch.float32)
    lengths, dilations = (list(sizes) for sizes in zip(*branches, strict=True))
    torch.library.opcheck(
        operators.dilated_attention, (*tensors, lengths, dilations, True),
        test_utils=("test_schema", "test_faketensor"),
    )  # fmt: skip
    compiled = torch.compile(
        lambda q: dilated_attention(q * 2, *tensors[1:], branches) + 1, fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(
        compiled(tensors[0]), dilated_attention(2 * tensors[0], *tensors[1:], branches) + 1
    )


def test_a_gradient_is_refused() -> None:
    (q, k, v), branches = case(1, torch.float32)
    with pytest.raises(NotImplementedError, match="dilated_attend has"):
        dilated_attention(q.requires_grad_(), k, v, branches).sum().backward()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": torch.ones(2, 5, 4)}, "query is torch.float32 (2, 5, 4)"),
        (
            {"key": torch.ones(1, 2, 6, 4)},
            "key is torch.float32 (1, 2, 6, 4) on cpu, expected that of the query",
        ),
        ({"branches": [(4, 2)]}, "one branch needs dilation 1, got [(4, 2)]"),
        ({"branches": [(0, 1)]}, "must be at least 1, got [(0, 1)]"),
    ],
)
def test_bad_arguments(changes: dict, message: str) -> None:
    x = torch.ones(1, 2, 5, 4)
    with pytest.raises(InputError) as caught:
        dilated_attention(**({"query": x, "key": x, "value": x, "branches": [(4, 1)]} | changes))
    assert message in str(caught.value)


def test_interpreter(run_interpreted: Callable[[int], None]) -> None:
    run_interpreted(4)


@pytest.mark.skipif(not INTERPRETED, reason="run by test_interpreter, in a process of its own")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_triton_interpreted(dtype: torch.dtype, causal: bool) -> None:
    from multiway_blocks.kernels.dilated_attention import triton

    tolerance = 1e-5 if dtype == torch.float32 else 4e-3
    for index in range(len(CASES)):
        tensors, branches = case(index, dtype)
        exact = reference.forward(*(x.double() for x in tensors), branches, causal)
        actual = triton.forward(*tensors, branches, causal)
        torch.testing.assert_close(actual.double(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("causal", [False, True])
def test_triton_on_gpu(causal: bool) -> None:
    q, k, v = (draw(2, 12, 1000, 64, dtype=torch.bfloat16, seed=seed) for seed in range(3))
    branches = [(256, 1), (512, 2), (1000, 4)]
    y = dilated_attention(q.cuda(), k.cuda(), v.cuda(), branches, causal=causal)
    torch.testing.assert_close(y.cpu(), reference.forward(q, k, v, branches, causal), rtol=0.03, atol=0.03)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("D", [64, 128])
def test_triton_compiles_ahead_of_time(capability: int, D: int, compile_ahead: Callable[..., str]) -> None:
    from multiway_blocks.kernels.dilated_attention import triton as kernels

    query = torch.empty(1, 1, 1, D, dtype=torch.bfloat16)
    sizes = kernels.sizes(query, True) | {"WIDE": False}
    choices = [tiles for tiles in kernels.TILES if kernels.fits(tiles, sizes)]
    assert len(choices) >= 2
    arguments = dict.fromkeys(("q_ptr", "k_ptr", "v_ptr"), "*bf16") | {"o_ptr": "*fp32", "lse_ptr": "*fp32"}
    arguments |= dict.fromkeys(("H", "N", "length", "dilation", "heads_an_offset"), "i32")
    arguments |= {"scale": "fp32", "first_branch": "i32"} | sizes
    for tiles in choices:
        ptx = compile_ahead(
            kernels.forward_kernel, capability, arguments | tiles.constants, warps=tiles.warps, stages=tiles.stages,
            shared=100 * 1024,
        )  # fmt: skip
        hopper = capability == 90 and tiles.constants["TILE_Q"] >= 64
        assert ("wgmma.mma_async" if hopper else "mma.sync") in ptx

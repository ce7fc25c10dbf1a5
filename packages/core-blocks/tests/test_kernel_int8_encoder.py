"""The int8 encoder: every implementation near the definition, the definition near floating point, and mistakes far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from multiway_blocks.kernels.int8_encoder import cpu, int8_encoder, layout, operators, reference
from multiway_core.errors import InputError
from torch import Tensor, nn

# Hidden size, heads, inner size, activation: sizes that fill no panel and no vector, heads of odd size.
SHAPES = [(64, 2, 256, "gelu"), (60, 3, 100, "gelu_tanh"), (36, 4, 72, "relu"), (128, 2, 192, "gelu")]
LENGTHS = [1, 7, 30, 2, 65]
NEAR, FAR = (
    0.02,
    0.04,
)  # relative error: what other roundings come to, and what the least of the mistakes does


def draw(
    width: int, inner: int, layers: int = 2, seed: int = 0
) -> tuple[layout.Embedding, list[layout.Layer]]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=generator) * scale

    def linear(inputs: int, outputs: int) -> layout.Linear:
        codes, scale = layout.quantize(normal(outputs, inputs, scale=1.5 * inputs**-0.5))
        return layout.Linear(codes, scale, normal(outputs, scale=0.3))

    def norm() -> Tensor:
        return torch.stack([1 + normal(width, scale=0.2), normal(width, scale=0.3)])

    codes, scale = layout.quantize(normal(90, width))
    embedding = layout.Embedding(codes, scale, normal(80, width, scale=0.3), norm())
    made = [
        layout.Layer(
            linear(width, 3 * width),
            linear(width, width),
            norm(),
            linear(width, inner),
            linear(inner, width),
            norm(),
        )
        for _ in range(layers)
    ]
    return embedding, made


def texts(lengths: list[int] = LENGTHS, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 90, (sum(lengths),), generator=generator), torch.tensor([0, *lengths]).cumsum(0)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def in_floating_point(
    embedding: layout.Embedding, layers: list[layout.Layer], tokens: Tensor, starts: Tensor, heads: int, eps: float,
    activation: str,
) -> Tensor:  # fmt: skip
    """The network without rounded activations, text by text, in float64 (by Devlin et al. 2019)."""

    def norm(x: Tensor, both: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, x.shape[1:], both[0].double(), both[1].double(), eps)

    def apply(x: Tensor, linear: layout.Linear) -> Tensor:
        return x @ layout.dequantize(linear.codes, linear.scale).double().t() + linear.bias.double()

    act = {
        "gelu": nn.functional.gelu,
        "gelu_tanh": lambda x: nn.functional.gelu(x, approximate="tanh"),
        "relu": torch.relu,
    }[activation]
    results = []
    for start, end in zip(starts.tolist(), starts.tolist()[1:], strict=False):
        ids = tokens[start:end]
        x = layout.dequantize(embedding.codes[ids], embedding.scale[ids]).double()
        x = norm(x + embedding.positions[: end - start].double(), embedding.norm)
        for layer in layers:
            parts = apply(x, layer.query_key_value).chunk(3, dim=1)
            q, k, v = (part.unflatten(1, (heads, -1)).transpose(0, 1) for part in parts)
            weights = (q @ k.transpose(1, 2) / q.shape[2] ** 0.5).softmax(2)
            mixed = (weights @ v).transpose(0, 1).flatten(1)
            x = norm(x + apply(mixed, layer.output), layer.attention_norm)
            x = norm(x + apply(act(apply(x, layer.up)), layer.down), layer.feedforward_norm)
        results.append(x)
    return torch.cat(results).float()


@pytest.fixture(params=SHAPES, ids=lambda shape: f"{shape[0]}-{shape[3]}")
def case(request: pytest.FixtureRequest):
    width, heads, inner, activation = request.param
    return *draw(width, inner), heads, 1e-3, activation


def test_the_definition_is_near_floating_point(case) -> None:
    embedding, layers, heads, eps, activation = case
    found = reference.forward(*texts(), layout.pack(embedding, layers), heads, eps, activation)
    exact = in_floating_point(embedding, layers, *texts(), heads, eps, activation)
    assert error(found, exact) < NEAR


def check(implementation: ModuleType, case) -> None:
    embedding, layers, heads, eps, activation = case
    weights = layout.pack(embedding, layers)
    found = implementation.forward(*texts(), weights, heads, eps, activation)
    assert error(found, reference.forward(*texts(), weights, heads, eps, activation)) < NEAR


def test_cpu(case) -> None:
    if not cpu.supports([]):
        pytest.skip("no C++ compiler")
    check(cpu, case)


def test_cpu_of_lesser_machines(case, built_for_lesser_machine: Callable[[ModuleType], None]) -> None:
    built_for_lesser_machine(cpu)
    check(cpu, case)


MISTAKES = {
    "a scale": lambda e, ls: (e, [replace(ls[0], up=replace(ls[0].up, scale=ls[0].up.scale * 1.1)), *ls[1:]]),
    "a bias": lambda e, ls: (
        e,
        [replace(ls[0], output=replace(ls[0].output, bias=0 * ls[0].output.bias)), *ls[1:]],
    ),
    "positions": lambda e, ls: (replace(e, positions=e.positions.roll(1, 0)), ls),
    "a norm": lambda e, ls: (e, [replace(ls[0], attention_norm=ls[0].feedforward_norm), *ls[1:]]),
    "a layer": lambda e, ls: (e, ls[::-1]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_weights_shows(mistake: str) -> None:
    embedding, layers = draw(64, 256)
    wrong = layout.pack(*MISTAKES[mistake](embedding, layers))
    found = int8_encoder(*texts(), wrong, num_heads=2, eps=1e-3)
    exact = in_floating_point(embedding, layers, *texts(), 2, 1e-3, "gelu")
    assert error(found, exact) > FAR


def test_starts_off_by_one_show() -> None:
    embedding, layers = draw(64, 256)
    tokens, starts = texts()
    starts = torch.cat([starts[:1], starts[1:-1] + 1, starts[-1:]])
    found = int8_encoder(tokens, starts, layout.pack(embedding, layers), num_heads=2, eps=1e-3)
    assert error(found, in_floating_point(embedding, layers, *texts(), 2, 1e-3, "gelu")) > FAR


def test_a_text_is_the_same_alone_and_among_others_on_any_number_of_threads() -> None:
    weights = layout.pack(*draw(64, 256))
    lengths = LENGTHS * 8
    tokens, starts = texts(lengths)
    threads = torch.get_num_threads()
    try:
        together = []
        for number in (1, 3):
            torch.set_num_threads(number)
            together.append(int8_encoder(tokens, starts, weights, num_heads=2, eps=1e-3))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*together)
    for start, end in zip(starts.tolist(), starts.tolist()[1:], strict=False):
        alone = int8_encoder(
            tokens[start:end], torch.tensor([0, end - start]), weights, num_heads=2, eps=1e-3
        )
        if cpu.supports(weights):
            assert torch.equal(alone, together[0][start:end])
        else:
            assert error(alone, together[0][start:end]) < NEAR


def test_rows_of_equal_numbers_and_no_texts() -> None:
    weights = layout.pack(*draw(64, 256))
    rows = torch.full((3, 64), 2.5)
    found = reference.linear(rows, weights[4], weights[5])[:, :192]
    codes, scale, bias = draw(64, 256)[1][0].query_key_value.__dict__.values()
    expected = rows @ layout.dequantize(codes, scale).t() + bias
    assert torch.allclose(found, expected, atol=1e-4)
    assert int8_encoder(*texts([]), weights, num_heads=2, eps=1e-3).shape == (0, 64)


def test_packing_keeps_every_weight() -> None:
    codes, scale = layout.quantize(torch.randn(70, 13))
    packed, affine = layout.Linear(codes, scale, torch.randn(70)).packed()
    assert packed.shape == (2, 4, 64, 4)
    assert affine.shape == (3, 128)
    for output, given in ((0, 0), (69, 12), (64, 5), (63, 3)):
        assert packed[output // 64, given // 4, output % 64, given % 4] == codes[output, given]
    assert layout.dequantize(codes, scale).shape == (70, 13)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": torch.tensor([90])}, "tokens are 0 to 89"),
        ({"tokens": torch.tensor([-1])}, "tokens are 0 to 89"),
        ({"tokens": torch.tensor([1.0])}, "expected int64"),
        ({"starts": torch.tensor([0, 2])}, "number of tokens"),
        ({"starts": torch.tensor([0, 0, 1])}, "texts have 0 to 1 tokens"),
        ({"heads": 5}, "5 heads"),
        ({"activation": "silu"}, "silu"),
        ({"weights": []}, "0 weights"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, message: str) -> None:
    given = {"tokens": torch.tensor([1]), "starts": torch.tensor([0, 1]), "heads": 2, "activation": "gelu"}
    given = given | {"weights": layout.pack(*draw(64, 128, 1))} | change
    with pytest.raises(InputError, match=message):
        int8_encoder(
            given["tokens"],
            given["starts"],
            given["weights"],
            num_heads=given["heads"],
            eps=1e-3,
            activation=given["activation"],
        )


def test_a_text_beyond_the_positions_is_refused() -> None:
    with pytest.raises(InputError, match="expected 1 to 80"):
        int8_encoder(*texts([81]), layout.pack(*draw(64, 128, 1)), num_heads=2, eps=1e-3)


def test_the_operator() -> None:
    arguments = (*texts(), layout.pack(*draw(64, 128, 1)), 2, 1e-3, "gelu")
    torch.library.opcheck(
        operators.int8_encoder, arguments, test_utils=("test_schema", "test_faketensor", "test_autograd_registration")
    )  # fmt: skip

"""A decoding step in machine code against the modules that define it."""

from __future__ import annotations

import copy

import pytest
import torch
from multiway_blocks.bitlinear import TernaryLinear
from multiway_core.errors import InputError
from multiway_text.decoders.bitnet import step
from multiway_text.decoders.bitnet.config import BitNetConfig
from multiway_text.decoders.bitnet.model import BitNet
from torch import Tensor

PROMPT, LENGTH = 8, 20


def build(activation: str, hidden_size: int, heads: int, kv_heads: int, dtype: torch.dtype) -> BitNet:
    torch.manual_seed(0)
    model = BitNet(
        BitNetConfig(
            hidden_size=hidden_size,
            num_layers=3,
            num_heads=heads,
            num_kv_heads=kv_heads,
            inner_size=200,
            vocab_size=100,
            activation=activation,  # type: ignore[arg-type]
        )
    )
    for module in model.modules():
        if isinstance(module, TernaryLinear):
            values = torch.randint(-1, 2, (sum(module.outputs), module.in_features), dtype=torch.int8)
            module.set(values, 0.02 + 0.1 * torch.rand(len(module.outputs)))
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.uniform_(0.5, 1.5)
    return model.to(dtype).eval()


def decoded(model: BitNet, *, in_machine_code: bool, padded: bool = False) -> Tensor:
    """Logits of the steps behind a prompt, three rows."""
    tokens = torch.randint(0, 100, (3, LENGTH), generator=torch.Generator().manual_seed(0))
    valid = torch.ones(3, PROMPT, dtype=torch.bool)
    valid[0, :3] = not padded
    model.decoder.step.packed = in_machine_code
    with torch.inference_mode():
        cache = model.new_cache(3, LENGTH)
        model.prefill(tokens[:, :PROMPT], cache, valid)
        steps = [model.decode(tokens[:, t : t + 1], cache) for t in range(PROMPT, LENGTH)]
    assert cache.length == LENGTH
    assert cache.num_valid_B.tolist() == [LENGTH - 3 * padded, LENGTH, LENGTH]
    return torch.stack(steps)


needs_machine_code = pytest.mark.skipif(step._kernels(torch.float32) is None, reason="needs a C++ compiler")


@needs_machine_code
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("hidden_size", "heads", "kv_heads"), [(64, 4, 1), (576, 8, 4)])
def test_equals_the_modules(
    hidden_size: int, heads: int, kv_heads: int, dtype: torch.dtype, padded: bool
) -> None:
    model = build("relu2", hidden_size, heads, kv_heads, dtype)
    ours = decoded(model, in_machine_code=True, padded=padded)
    modules = decoded(model, in_machine_code=False, padded=padded)
    # A sine that differs in its last bit may move a quantised value, and with it one row's step.
    error = (ours - modules).norm(dim=-1) / modules.norm(dim=-1)
    assert error.median() < 1e-6
    assert error.max() < 0.05


@needs_machine_code
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_silu_is_near(dtype: torch.dtype) -> None:
    model = build("silu", 64, 4, 2, dtype)
    ours, modules = (decoded(model, in_machine_code=own) for own in (True, False))
    error = (ours - modules).norm(dim=-1) / modules.norm(dim=-1)
    assert error.median() < 1e-5
    assert error.max() < 0.05


@needs_machine_code
def test_threads_change_nothing() -> None:
    model = build("relu2", 1024, 4, 2, torch.bfloat16)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = decoded(model, in_machine_code=True)
        torch.set_num_threads(2)
        assert torch.equal(decoded(model, in_machine_code=True), one)
    finally:
        torch.set_num_threads(before)


@needs_machine_code
def test_new_weights_and_copies_are_seen() -> None:
    model = build("relu2", 64, 4, 1, torch.bfloat16)
    first = decoded(model, in_machine_code=True)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        model.decoder.layers[1].attention_norm.weight.mul_(2).add_(0.5)  # in place
    linear = model.decoder.layers[2].feedforward.down
    linear.set(-linear.ternary()[0], linear.scale * 3)  # exchanged
    changed = decoded(model, in_machine_code=True)
    assert not torch.equal(changed, first)
    assert torch.equal(changed, decoded(model, in_machine_code=False))
    assert torch.equal(decoded(twin, in_machine_code=True), first)
    model.load_state_dict(twin.state_dict())
    assert torch.equal(decoded(model, in_machine_code=True), first)


@needs_machine_code
def test_a_full_cache_is_refused_and_left_as_it_is() -> None:
    model = build("relu2", 64, 4, 1, torch.float32)
    with torch.inference_mode():
        cache = model.new_cache(1, 2)
        model.prefill(torch.tensor([[1, 2]]), cache)
        with pytest.raises(InputError, match="too long"):
            model.decode(torch.tensor([[3]]), cache)
        assert cache.length == 2
        with pytest.raises(IndexError):
            model.decode(torch.tensor([[100]]), model.new_cache(1, 2))


@needs_machine_code
def test_wrong_sizes_are_refused() -> None:
    model, other = build("relu2", 64, 4, 1, torch.float32), build("relu2", 64, 4, 2, torch.float32)
    with torch.inference_mode():
        with pytest.raises(ValueError, match="other sizes"):
            model.decode(torch.tensor([[3]]), other.new_cache(1, 4))
        with pytest.raises(ValueError, match=r"takes \[2, 1, 64\]"):
            model.decode(torch.tensor([[3]]), model.new_cache(2, 4))
        down = model.decoder.layers[0].feedforward.down
        down.packed = down.packed[:, :-1]
        with pytest.raises(ValueError, match="packed weights"):
            model.decode(torch.tensor([[3]]), model.new_cache(1, 4))


def test_what_does_not_suit_goes_through_the_modules() -> None:
    model = build("relu2", 64, 4, 1, torch.float32)
    x, cache = torch.zeros(1, 1, 64), model.new_cache(1, 4)
    assert not model.decoder.step.suits(x, cache)  # with gradients
    with torch.inference_mode():
        assert not model.decoder.step.suits(torch.zeros(1, 2, 64), cache)
        assert not model.decoder.step.suits(x.bfloat16(), cache)
        assert not BitNet(model.config, packed=False).decoder.step.suits(x, cache)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_behind_caches_of_their_own(dtype: torch.dtype) -> None:
    model = build("relu2", 64, 4, 2, dtype)
    prompts = [
        torch.tensor([[1, 2, 3, 4, 5]]),
        torch.tensor([[6, 7]]),
        torch.tensor([[0, 8, 9], [10, 11, 12]]),
    ]
    valid = torch.tensor([[False, True, True], [True, True, True]])
    steps = [[torch.full((len(prompt), 1), 13 + 7 * step) for prompt in prompts] for step in range(4)]

    def caches():
        found = [model.new_cache(len(prompt), 12 + 5 * len(prompt)) for prompt in prompts]
        for prompt, cache in zip(prompts, found, strict=True):
            model.prefill(prompt, cache, valid if len(prompt) == 2 else None)
        return found

    with torch.inference_mode():
        together, apart = caches(), caches()
        for tokens in steps:
            logits = model.decode_each(tokens, together)
            expected = [model.decode(*pair) for pair in zip(tokens, apart, strict=True)]
            for ours, alone in zip(logits, expected, strict=True):
                torch.testing.assert_close(ours, alone)  # the last matrix is in floating point
        assert [cache.length for cache in together] == [9, 6, 7]
        full = model.new_cache(1, 1)
        model.prefill(torch.tensor([[1]]), full)
        with pytest.raises(InputError, match="too long"):
            model.decode_each([torch.tensor([[2]])] * 2, [together[0], full])
        uneven = model.decode_each([torch.tensor([[2, 3]]), torch.tensor([[4]])], together[:2])
        assert [len(logits) for logits in uneven] == [1, 1]

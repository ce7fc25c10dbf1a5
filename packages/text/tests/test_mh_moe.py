"""MH-MoE against loops and dense networks; the parity of operations and weights against the papers' figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from multiway_blocks.feedforward import GatedFeedForward
from multiway_blocks.transformer import Context
from multiway_core import checkpoint as tensors
from multiway_core.errors import InputError, MultiwayError
from multiway_core.generation import GenerationConfig, generate
from multiway_text.decoders.mh_moe import checkpoint, processor, recipe
from multiway_text.decoders.mh_moe.config import PRESETS, MHMoEConfig
from multiway_text.decoders.mh_moe.model import MHMoE
from multiway_text.decoders.mh_moe.objective import activation_ratio, expert_loads, language_loss
from multiway_text.decoders.mh_moe.parity import MixtureSizes, match_operations_and_weights, match_weights
from torch import Tensor, nn

SMALL = {"vocab_size": 61, "hidden_size": 24, "num_layers": 2, "num_heads": 2, "inner_size": 40}
SPLIT = SMALL | {"split_heads": 3, "num_experts": 7, "experts_per_token": 2, "expert_size": 20}


def build(seed: int = 0, **sizes) -> MHMoE:
    torch.manual_seed(seed)
    model = MHMoE(MHMoEConfig(**(SPLIT | sizes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def tokens(rows: int = 2, length: int = 9, seed: int = 0) -> Tensor:
    return torch.randint(0, 61, (rows, length), generator=torch.Generator().manual_seed(seed))


def by_loop(layer: nn.Module, x_TE: Tensor, config: MHMoEConfig) -> Tensor:
    """Token by token: split in sub-tokens, each through its experts, merged in the same order."""
    mixture, width = layer.mixture, config.hidden_size // config.split_heads
    experts, rows = mixture.experts, []
    for token in x_TE:
        parts, split = [], layer.split(token)
        for head in range(config.split_heads):
            part = split[head * width : (head + 1) * width]
            weights, chosen = mixture.gate(part[None])[0].softmax(-1).topk(config.experts_per_token)
            result = torch.zeros_like(part)
            for weight, index in zip(weights / weights.sum(), chosen.tolist(), strict=True):
                inner = experts.up[index] @ part
                if config.gated:
                    gate, up = inner.chunk(2)
                    inner = nn.functional.silu(gate) * up
                else:
                    inner = nn.functional.gelu(inner + experts.up_bias[index])
                down = experts.down[index] @ inner
                result = result + weight * (down if config.gated else down + experts.down_bias[index])
            parts.append(result)
        rows.append(layer.merge(torch.cat(parts)))
    return torch.stack(rows)


@pytest.mark.parametrize(
    "options", [{}, {"gate": "x_moe", "gate_size": 12}, {"gated": False, "split_heads": 2}]
)
def test_split_and_merge_equal_a_loop(options) -> None:
    model = build(**options).double()
    layer = model.decoder.layers[1].feedforward
    x = torch.randn(3, 5, 24, dtype=torch.float64)
    expected = by_loop(layer, x.flatten(0, 1), model.config).view_as(x)
    torch.testing.assert_close(layer(x, Context()), expected)


def test_split_is_a_view_of_neighbours() -> None:
    """Sub-tokens of a token stand together, in the order of its numbers: the split copies nothing."""
    layer = build().decoder.layers[1].feedforward
    seen: list[Tensor] = []
    layer.mixture.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    layer.split.register_forward_hook(lambda module, inputs, output: seen.append(output))
    layer(torch.randn(2, 4, 24), Context())
    whole, parts = seen
    assert parts.shape == (2, 4, 3, 8)
    assert parts.data_ptr() == whole.data_ptr()
    assert torch.equal(parts[1, 2, 1], whole[1, 2, 8:16])


def test_one_expert_is_the_dense_model() -> None:
    sizes = {"split_heads": 1, "num_experts": 1, "experts_per_token": 1, "expert_size": 40}
    mixture, dense = build(mixture_every=1, **sizes), build(mixture_every=0, **sizes)
    weights = mixture.state_dict()
    for layer in range(2):
        start = f"decoder.layers.{layer}.feedforward."
        gate_up = weights.pop(start + "experts.up")[0]
        weights[start + "gate.weight"], weights[start + "up.weight"] = gate_up.chunk(2)
        weights[start + "down.weight"] = weights.pop(start + "experts.down")[0]
    dense.load_state_dict(weights)
    torch.testing.assert_close(mixture(tokens()), dense(tokens()))


@pytest.mark.parametrize("gate", ["linear", "x_moe"])
def test_cache_and_padding_change_nothing(gate: str) -> None:
    model, prompt = build(gate=gate, gate_size=12), tokens(2, 6)
    with torch.no_grad():
        valid = torch.tensor([[False, False, True, True, True, True], [True] * 6])
        cache = model.new_cache(2, 14)
        config = GenerationConfig(max_new_tokens=8, eos_token_ids=(), pad_token_id=0)
        found = generate(model.decode, model.prefill(prompt, cache, valid), cache, config).tokens
        for row, start in ((0, 2), (1, 0)):
            expected = prompt[row, start:].tolist()
            for _ in range(8):
                expected.append(int(model(torch.tensor([expected]))[0, -1].argmax()))
            assert found[row].tolist() == expected[-8:]


def test_padding_takes_no_place() -> None:
    """With a capacity a padded token would push real ones out."""
    model = build(capacity_factor=1.0)
    row = tokens(1, 8)
    padded = torch.cat([torch.full((1, 8), 3), row], dim=1)
    valid = torch.arange(16)[None] >= 8
    with torch.no_grad():
        torch.testing.assert_close(model(padded, valid)[:, 8:], model(row))
        alone = model.hidden_and_balance(row)[1]
        torch.testing.assert_close(model.hidden_and_balance(padded, valid)[1], alone)


def test_loss_and_its_gradients() -> None:
    model, rows = build(), tokens(3, 12)
    found = language_loss(model, rows)
    logits = model(rows[:, :-1]).log_softmax(-1)
    expected = -logits.gather(-1, rows[:, 1:, None]).sum()
    torch.testing.assert_close(found.entropy, expected)
    torch.testing.assert_close(found.total, expected + 0.01 * 33 * found.balance)
    assert found.balance > 0.9
    found.total.backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


def test_heads_share_the_size_of_the_gate() -> None:
    gate = build(gate="x_moe", gate_size=12).mixtures()[0].gate
    assert gate.experts.shape == (7, 12 // 3)


def test_activation_ratio() -> None:
    loads = torch.tensor([[0.5, 0.44, 0.06, 0.0], [0.25, 0.25, 0.25, 0.25]])
    assert activation_ratio(loads) == 6 / 8  # a fair share is 0.25, a quarter of it 0.0625
    several = expert_loads(build(num_layers=4, mixture_every=2), tokens(4, 20))
    assert several.shape == (2, 7)
    torch.testing.assert_close(several.sum(1), torch.ones(2, dtype=torch.float64))
    model = build()
    loads = expert_loads(model, tokens(4, 20))
    assert loads.shape == (1, 7)
    torch.testing.assert_close(loads.sum(1), torch.ones(1, dtype=torch.float64))
    assert not model.mixtures()[0].gate._forward_hooks
    assert activation_ratio(expert_loads(build(mixture_every=0), tokens())) == 1


def test_formulas_of_the_second_paper() -> None:
    """f - d / k and the count of experts of its section 3; the sizes of its section 4."""
    base = MixtureSizes(300, 1200, 8, 1, gated=False)
    three = match_operations_and_weights(base, 3)
    assert (three.expert_size, three.num_experts) == (900, 4 * 8 - 1)
    assert three.operations == base.operations
    assert three.weights == base.weights
    smoe = PRESETS["smoe"].mixture
    for name, heads, size, experts in (("mh2", 2, 768, 41), ("mh3", 3, 512, 93)):
        found = match_operations_and_weights(smoe, heads, heads)
        assert (found.expert_size, found.num_experts) == (size, experts)
        assert found.expert_size == PRESETS[name].expert_size
    for name, weights in (("fine", 1.0), ("mh2", 0.968), ("mh3", 1.031)):  # the paper takes 40 and 96 experts
        assert PRESETS[name].mixture.operations == smoe.operations
        assert PRESETS[name].mixture.weights / smoe.weights == pytest.approx(weights, abs=1e-3)


def test_formulas_of_the_first_paper() -> None:
    """Equal weights and experts; about four times the operations (its appendix: 67 against 16 B d^2)."""
    base = MixtureSizes(768, 4 * 768, 16, 2, gated=False)
    found = match_weights(base, 4)
    assert found.num_experts == 16
    assert found.expert_size == 4 * 4 * 768 * 63 // 64
    assert found.weights == base.weights
    assert base.operations / (2 * 768**2) == 16
    assert found.operations / (2 * 768**2) == 65


def test_sizes_are_those_of_the_network() -> None:
    for name, config in PRESETS.items():
        with tensors.on_meta():
            model = MHMoE(config)
        if name == "dense":
            continue
        layer = model.decoder.layers[1].feedforward
        counted = sum(p.numel() for n, p in layer.named_parameters() if p.ndim > 1 and "gate.weight" not in n)
        assert counted == config.mixture.weights
        assert isinstance(model.decoder.layers[0].feedforward, GatedFeedForward)


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = build(gate="x_moe", gate_size=12)
    checkpoint.save(model, tmp_path)
    again = checkpoint.load(tmp_path)
    assert again.config == model.config
    assert torch.equal(again(tokens()), model(tokens()))
    weights = model.state_dict()
    weights["decoder.layers.1.feedforward.merge.weight"][0, 0] = float("nan")
    tensors.save(weights, tmp_path)
    with pytest.raises(
        InputError, match=r"layers\.1\.feedforward\.merge\.weight has values that are not finite"
    ):
        checkpoint.load(tmp_path)


def test_learns(tmp_path: Path) -> None:
    text = torch.tensor(processor.encode("the cat sat on the mat. " * 40))
    torch.manual_seed(0)
    model = MHMoE(MHMoEConfig(**(SPLIT | {"vocab_size": processor.VOCAB_SIZE})))
    before = recipe.evaluate(model, text, length=17)
    recipe.job(model, text, recipe.train_config(60, 1e-2), batch_size=8, length=17).fit(tmp_path)
    assert before > 5
    assert recipe.evaluate(model, text, length=17) < 2
    assert processor.decode([*processor.encode("né", end=True)]) == "né"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"split_heads": 5}, "split_heads 5 does not divide hidden_size 24"),
        ({"num_heads": 5}, "num_heads 5 does not divide hidden_size 24"),
        ({"num_heads": 8}, "even head width, not 3"),
        ({"capacity_factor": 0.0}, "capacity_factor must be above 0"),
        ({"capacity_factor": float("nan")}, "capacity_factor must be above 0"),
        ({"num_experts": 1}, "num_experts 1 is below experts_per_token 2"),
        ({"num_experts": 0}, "num_experts must be 1 to"),
        ({"experts_per_token": 0}, "experts_per_token must be 1 to"),
        ({"mixture_every": -1}, "mixture_every must be 0"),
        ({"balance_weight": float("inf")}, "balance_weight must be at least 0"),
    ],
)
def test_impossible_sizes(sizes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        MHMoEConfig(**(SPLIT | sizes))
    assert "\n" not in str(error.value)
    if all(value == value and abs(value) != float("inf") for value in sizes.values()):
        model = build()
        checkpoint.save(model, tmp_path)
        content = json.loads((tmp_path / "config.json").read_text()) | sizes
        (tmp_path / "config.json").write_text(json.dumps(content))
        with pytest.raises(MultiwayError, match=r"config\.json.*" + message):
            checkpoint.load(tmp_path)


def test_impossible_parity_and_windows() -> None:
    base = MixtureSizes(300, 1200, 8, 1, gated=False)
    with pytest.raises(InputError, match="does not divide"):
        match_operations_and_weights(base, 7)
    with pytest.raises(InputError, match="nothing is left"):
        match_operations_and_weights(MixtureSizes(300, 200, 8, gated=False), 2)
    with pytest.raises(InputError, match="nothing is left"):
        match_weights(MixtureSizes(300, 100, 2, gated=False), 2)
    with pytest.raises(InputError, match="num_experts 8 is below experts_per_token 9"):
        MixtureSizes(300, 1200, 8, 9)
    with pytest.raises(InputError, match="experts_per_token must be at least 1"):
        match_operations_and_weights(base, 3, 0)
    with pytest.raises(InputError, match="no windows of 5"):
        recipe.windows(torch.zeros(4), 2, 5, 0)
    with pytest.raises(InputError, match="no stretch of 129"):
        recipe.evaluate(build(), torch.zeros(100))

"""BitNet against the classes of `transformers`: random weights, every tensor perturbed, all published forms.

Theirs computes with floats that stand for integers, ours with the integers: they agree up to float32 rounding, except
where an activation lies at a half and is rounded the other way, which moves a result by less than a step.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from multiway_blocks.bitlinear import TernaryLinear
from multiway_core import checkpoint as tensors
from multiway_core.generation import GenerationConfig, generate
from multiway_text import gguf
from multiway_text.decoders.bitnet import checkpoint
from multiway_text.decoders.bitnet.config import BITNET_2B_4T
from multiway_text.decoders.bitnet.model import BitNet
from safetensors.torch import save_file

pytestmark = [pytest.mark.peer, pytest.mark.requires("transformers.models.bitnet")]

SIZES = {
    "narrow": {
        "hidden_size": 48,
        "intermediate_size": 100,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "vocab_size": 91,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "tie_word_embeddings": True,
    },
    # more than one block of packed weights a row, one key-value head, an output matrix of its own
    "wide": {
        "hidden_size": 384,
        "intermediate_size": 640,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "vocab_size": 130,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
        "tie_word_embeddings": False,
    },
}
FORMS = {
    "master": ("autobitlinear", "online"),
    "packed": ("autobitlinear", "offline"),
    "legacy": ("bitlinear", "offline"),
}


@pytest.fixture(autouse=True)
def _no_compiler():
    # Theirs compiles its quantisers, a minute and a half of work.
    torch.compiler.set_stance("force_eager")
    yield
    torch.compiler.set_stance("default")


def build_peer(sizes: str):
    """Their model in floating point with random weights, and its configuration."""
    from transformers import BitNetConfig, BitNetForCausalLM

    torch.manual_seed(0)
    config = BitNetConfig(**SIZES[sizes], max_position_embeddings=128, pad_token_id=None)
    config._attn_implementation = "eager"
    model = BitNetForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model, config


def publish(sizes: str, form: str, folder: Path):
    """Their quantised model, and its folder as it is published."""
    from transformers import BitNetQuantConfig
    from transformers.integrations import bitnet

    model, config = build_peer(sizes)
    linear_class, mode = FORMS[form]
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    quantization = BitNetQuantConfig(linear_class=linear_class, quantization_mode=mode)
    bitnet.replace_with_bitnet_linear(model, ["lm_head"], quantization)
    for name, module in model.named_modules():
        if not isinstance(module, (bitnet.AutoBitLinear, bitnet.BitLinear)):
            continue
        weight = weights[f"{name}.weight"]
        scale = weight.abs().mean()
        if form == "master":
            # Both make the weights ternary themselves: none may lie at a half, where the last bit of a mean decides.
            near = ((weight.abs() / scale - 0.5).abs() < 1e-3).logical_and(weight != 0)
            weight = torch.where(near, weight * 1.01, weight)
            weights[f"{name}.weight"] = weight
            module.weight = torch.nn.Parameter(weight)
            continue
        ternary = (weight / scale).round().clamp(-1, 1)
        packed = bitnet.pack_weights(ternary.clone())
        stored = (1 / scale if form == "legacy" else scale).reshape(1)
        weights |= {f"{name}.weight": packed, f"{name}.weight_scale": stored}
        module.weight_scale = stored
        module.weight = packed if form == "legacy" else torch.nn.Parameter(ternary, requires_grad=False)
        module.dtype = torch.float32
    save_file(weights, folder / "model.safetensors")
    content = config.to_dict() | {
        "quantization_config": {"linear_class": linear_class, "quantization_mode": mode}
    }
    (folder / "config.json").write_text(json.dumps(content))
    return model.eval()


def assert_near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Of logits (rows, positions, vocabulary).

    Which activations lie at a half, and so how far a row with several of them is moved, depends on the order in which a
    processor sums: that is in some rows of many, a mistake would be in all of them.
    """
    assert ours.shape == theirs.shape
    error = (ours - theirs).norm(dim=-1) / theirs.norm(dim=-1)
    assert error.median() < 1e-4
    assert (error.amax(dim=1) < 2e-2).float().mean() > 0.5
    assert error.max() < 1e-1


@pytest.mark.parametrize("sizes", list(SIZES))
@pytest.mark.parametrize("form", list(FORMS))
def test_logits(sizes: str, form: str, tmp_path: Path) -> None:
    theirs = publish(sizes, form, tmp_path)
    ours = checkpoint.load(tmp_path)
    # Many short rows: about one position in twenty has an activation at a half, which moves the rest of its row.
    tokens = torch.randint(0, SIZES[sizes]["vocab_size"], (60, 6), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(input_ids=tokens).logits
        assert_near(ours(tokens), expected)
        if form == "master":
            trainable = checkpoint.load(tmp_path, packed=False)
            assert_near(trainable(tokens), expected)


def test_greedy_tokens_and_left_padding(tmp_path: Path) -> None:
    theirs = publish("narrow", "packed", tmp_path)
    ours = checkpoint.load(tmp_path)
    prompts = [[5, 6, 7, 8, 9], [11, 12]]
    width = max(map(len, prompts))
    padded = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    valid = torch.tensor([[False] * (width - len(p)) + [True] * len(p) for p in prompts])
    config = GenerationConfig(max_new_tokens=24, eos_token_ids=(), pad_token_id=0)
    with torch.no_grad():
        cache = ours.new_cache(2, width + 24)
        output = generate(ours.decode, ours.prefill(padded, cache, valid), cache, config)
        for prompt, tokens in zip(prompts, output.tokens, strict=True):
            cache = ours.new_cache(1, len(prompt) + 24)
            first = ours.prefill(torch.tensor([prompt]), cache)
            assert generate(ours.decode, first, cache, config).tokens[0].tolist() == tokens.tolist()
            expected = theirs.generate(
                input_ids=torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=None,
                pad_token_id=0, attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            )[0, len(prompt) :]  # fmt: skip
            assert tokens.tolist() == expected.tolist()


@pytest.mark.parametrize("form", ["master", "packed"])
def test_saved_by_us_read_by_them_and_by_us(form: str, tmp_path: Path) -> None:
    from transformers.integrations import bitnet

    (tmp_path / "theirs").mkdir()
    theirs = publish("wide", form, tmp_path / "theirs")
    ours = checkpoint.load(tmp_path / "theirs")
    checkpoint.save(ours, tmp_path / "ours")
    written = tensors.read(tmp_path / "ours")
    for name, module in theirs.named_modules():
        if isinstance(module, bitnet.AutoBitLinear):
            values = bitnet.unpack_weights(written[f"{name}.weight"], torch.float32)
            dequantized = values * written[f"{name}.weight_scale"]
            expected = (
                bitnet.WeightQuant.apply(module.weight)
                if form == "master"
                else module.weight * module.weight_scale
            )
            torch.testing.assert_close(dequantized, expected)
    again = checkpoint.load(tmp_path / "ours")
    tokens = torch.arange(20)[None]
    assert torch.equal(again(tokens), ours(tokens))


def test_gguf_there_and_back(tmp_path: Path) -> None:
    publish("wide", "packed", tmp_path)
    ours = checkpoint.load(tmp_path)
    with torch.no_grad():
        for parameter in (ours.embedding.weight, ours.head.weight):
            parameter.copy_(parameter.half())
    checkpoint.save_gguf(ours, tmp_path / "model.gguf", metadata={"general.name": "test"})
    file = gguf.read(tmp_path / "model.gguf")
    assert file.metadata["general.architecture"] == "bitnet-b1.58"
    assert file.tensors["blk.0.ffn_down.weight"].kind == gguf.I2_S
    again = checkpoint.load(tmp_path / "model.gguf")
    assert again.config == ours.config
    tokens = torch.arange(20)[None]
    assert torch.equal(again(tokens), ours(tokens))
    # A container with unpacked, dequantised weights (16 bits) gives the same weights, scales up to their rounding.
    floats = {}
    for name, tensor in file.tensors.items():
        if tensor.kind == gguf.I2_S:
            values, scale = checkpoint.unpack_i2_s(tensor.data, *tensor.shape)
            tensor = gguf.floating((values * scale).half())
        floats[name] = tensor
    gguf.write(tmp_path / "floats.gguf", file.metadata, floats)
    unpacked = checkpoint.load(tmp_path / "floats.gguf")
    for (name, module), (_, other) in zip(ours.named_modules(), unpacked.named_modules(), strict=True):
        if isinstance(module, checkpoint.TernaryLinear):
            assert torch.equal(module.packed, other.packed), name
            torch.testing.assert_close(module.scale, other.scale, rtol=1e-3, atol=0)


def test_published_size_on_the_meta_device() -> None:
    from transformers import BitNetConfig, BitNetForCausalLM

    with torch.device("meta"):
        ours = BitNet(BITNET_2B_4T, packed=False)
        theirs = BitNetForCausalLM(BitNetConfig(tie_word_embeddings=True, max_position_embeddings=4096))
    expected = {name: tuple(p.shape) for name, p in theirs.named_parameters()}
    found = {
        name: tuple(ours.get_parameter(f"{module}.weight").shape)
        for module, name in checkpoint._floats_of(ours, checkpoint._HUB)
    }
    for module, group in checkpoint._maps_of(ours, checkpoint._HUB):
        linear = ours.get_submodule(module)
        for name, outputs in zip(group, linear.outputs, strict=True):
            found[f"{name}.weight"] = (outputs, linear.weight.shape[1])
    assert found == expected
    assert sum(p.numel() for p in ours.parameters()) == 2_412_820_480
    ternary = sum(m.weight.numel() for m in ours.modules() if isinstance(m, checkpoint.BitLinear))
    assert ternary == 30 * 69_468_160


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("drop", "1 missing (model.layers.1.mlp.down_proj.weight)"),
        ("shape", "model.layers.0.self_attn.q_proj.weight has [11, 48] of uint8"),
        ("code", "model.layers.0.self_attn.q_proj.weight: holds codes"),
        ("scale", "model.layers.0.self_attn.q_proj.weight_scale: expected one number above 0"),
        ("type", "model_type is 'llama', expected 'bitnet'"),
        ("heads", "num_heads 7 does not divide hidden_size 48"),
    ],
)
def test_damaged_checkpoints(damage: str, message: str, tmp_path: Path) -> None:
    from multiway_core.errors import MultiwayError

    publish("narrow", "packed", tmp_path)
    content = {name: t.clone() for name, t in tensors.read(tmp_path).items()}
    config = json.loads((tmp_path / "config.json").read_text())
    query = "model.layers.0.self_attn.q_proj.weight"
    if damage == "drop":
        del content["model.layers.1.mlp.down_proj.weight"]
    elif damage == "shape":
        content[query] = content[query][:-1].clone()
    elif damage == "code":
        content[query][0, 0] = 255
    elif damage == "scale":
        content[f"{query}_scale"][:] = float("nan")
    elif damage == "type":
        config["model_type"] = "llama"
    else:
        config["num_attention_heads"] = 7
    save_file(content, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(MultiwayError) as caught:
        checkpoint.load(tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize("form", ["packed", "gguf"])
def test_packed_weights_get_master_weights(form: str, tmp_path: Path) -> None:
    """Those are quantised to the packed ones, so that the network computes the same."""
    publish("wide", "packed", tmp_path)
    path = tmp_path
    if form == "gguf":
        path = tmp_path / "model.gguf"
        checkpoint.save_gguf(checkpoint.load(tmp_path), path)
    runs, trains = checkpoint.load(path), checkpoint.load(path, packed=False)
    for name, module in runs.named_modules():
        if isinstance(module, TernaryLinear):
            (values, scales), (own, own_scales) = module.ternary(), trains.get_submodule(name).ternary()
            assert torch.equal(own, values)
            torch.testing.assert_close(own_scales, scales, rtol=1e-6, atol=0)
    tokens = torch.arange(60).view(3, 20)
    with torch.no_grad():
        assert_near(trains(tokens), runs(tokens))
    half = checkpoint.load(path, packed=False, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}

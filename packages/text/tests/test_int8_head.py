"""The output matrix in a byte a weight: what stays the same, and what changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from multiway_blocks.int8 import Int8Linear
from multiway_core.generation import GenerationConfig, generate
from multiway_text.decoders.bitnet import checkpoint
from multiway_text.decoders.bitnet.config import BitNetConfig
from multiway_text.decoders.bitnet.model import BitNet

CONFIG = BitNetConfig(
    hidden_size=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    inner_size=128,
    vocab_size=300,
    max_positions=64,
)


def build(tied: bool) -> BitNet:
    torch.manual_seed(0)
    return BitNet(dataclasses.replace(CONFIG, tied_embeddings=tied), packed=False).eval()


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_logits_are_near(tied: bool) -> None:
    model, tokens = build(tied), torch.arange(2, 22).view(2, 10)
    before = model(tokens)
    hidden = model.hidden(tokens)
    model.quantize_head()
    model.quantize_head()  # once is enough
    names = dict(model.named_parameters())
    assert ("embedding.weight" in names) == (not tied)
    assert "head.weight" not in names
    lost = (model.logits(hidden) - before).std() / before.std()
    assert 0 < lost < 0.01
    assert model(tokens).shape == before.shape


@torch.no_grad()
def test_decodes_with_cache_in_bfloat16() -> None:
    model = build(True).bfloat16()
    model.quantize_head()
    model = model.bfloat16()
    cache = model.new_cache(1, 16)
    tokens = torch.tensor([[3, 5, 8, 13]])
    whole = model(tokens)[:, -1].float()
    model.prefill(tokens[:, :3], cache)
    torch.testing.assert_close(model.decode(tokens[:, 3:], cache), whole, rtol=0.1, atol=0.4)
    config = GenerationConfig(max_new_tokens=4, eos_token_ids=(), pad_token_id=0)
    output = generate(model.decode, whole, cache, config)
    assert output.tokens[0].shape == (4,)


@torch.no_grad()
def test_a_byte_a_weight_is_saved_and_stays(tmp_path: Path) -> None:
    model, tokens = build(True), torch.arange(2, 12)[None]
    checkpoint.save(model, tmp_path / "bytes", int8_embedding=True)
    loaded = checkpoint.load(tmp_path / "bytes")
    assert isinstance(loaded.embedding, Int8Linear)
    checkpoint.save(loaded, tmp_path / "again", int8_embedding=True)
    again = checkpoint.load(tmp_path / "again")
    assert torch.equal(again.embedding.codes, loaded.embedding.codes)
    assert torch.equal(again.embedding.scale, loaded.embedding.scale)
    checkpoint.save(loaded, tmp_path / "floats")
    floats = checkpoint.load(tmp_path / "floats")
    assert not isinstance(floats.embedding, Int8Linear)
    torch.testing.assert_close(loaded(tokens), floats(tokens), rtol=1e-3, atol=1e-3)


def test_loaded_with_the_option(tmp_path: Path) -> None:
    model = build(True)
    checkpoint.save(model, tmp_path)
    tokens = torch.arange(2, 12)[None]
    plain, small = checkpoint.load(tmp_path), checkpoint.load(tmp_path, int8_head=True)
    with torch.no_grad():
        expected = plain(tokens)
        assert 0 < (small(tokens) - expected).std() / expected.std() < 0.3

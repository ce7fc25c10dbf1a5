"""Magneto: TorchScale's decoder with the same weights, the decode loop, and blocks beyond the trained length."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from multiway_blocks.torchscale import Decoder, DecoderConfig, TextEmbedding
from multiway_core.errors import CheckpointError, MultiwayError
from multiway_core.generation import GenerationConfig, generate
from multiway_text.decoders.magneto import checkpoint
from multiway_text.decoders.magneto.config import PRESETS, MagnetoConfig
from multiway_text.decoders.magneto.model import Magneto
from torch import nn

CONFIG = MagnetoConfig(
    hidden_size=24, num_layers=2, num_heads=3, inner_size=40, vocab_size=13, trained_length=8, scale_base=64
)
TOKENS = torch.randint(0, 13, (2, 30), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> Magneto:
    torch.manual_seed(0)
    model = Magneto(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms start at one and hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def greedy(
    model: Magneto, tokens: torch.Tensor, count: int, valid: torch.Tensor | None = None
) -> list[list[int]]:
    cache = model.new_cache(len(tokens), tokens.shape[1] + count)
    config = GenerationConfig(max_new_tokens=count, eos_token_ids=(), pad_token_id=0)
    with torch.no_grad():
        first = model.prefill(tokens, cache, valid)
    return [row.tolist() for row in generate(model.decode, first, cache, config).tokens]


@torch.no_grad()
def test_saved_files_are_torchscale_decoders(model: Magneto, tmp_path: Path) -> None:
    checkpoint.save(model, tmp_path)
    flags = json.loads((tmp_path / "config.json").read_text())
    assert flags.pop("model_type") == "magneto"
    theirs = Decoder(DecoderConfig(**flags), TextEmbedding(13, 24)).eval()
    from safetensors.torch import load_file

    missing = theirs.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False).missing_keys
    assert missing == [f"layers.{i}.self_attn.xpos.scale" for i in range(2)]
    torch.testing.assert_close(theirs(TOKENS)[0], model(TOKENS), atol=1e-5, rtol=1e-5)
    torch.save(theirs.state_dict(), tmp_path / "checkpoint.pth")  # and a file as they write it
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "checkpoint.pth").rename(tmp_path / "pytorch_model.bin")
    again = checkpoint.load(tmp_path)
    assert again.config == CONFIG
    assert torch.equal(again(TOKENS), model(TOKENS))


@pytest.mark.parametrize("block", [None, CONFIG.block])
@torch.no_grad()
def test_decoding_equals_the_full_pass(model: Magneto, block: int | None) -> None:
    model.decoder.block = block
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), TOKENS[:, :10]], dim=1)
    valid = torch.arange(13).expand(2, -1) >= 3
    rows = greedy(model, TOKENS[:, :10], 15)
    assert greedy(model, padded, 15, valid) == rows
    for tokens, row in zip(TOKENS, rows, strict=True):
        whole = torch.cat([tokens[:10], torch.tensor(row)])[None]
        assert model(whole)[0, 9:-1].argmax(-1).tolist() == row


@torch.no_grad()
def test_blocks_see_no_farther_than_training_did(model: Magneto) -> None:
    """A token's output depends on its block and the one before: earlier tokens, changed, change nothing."""
    one_layer = Magneto(MagnetoConfig(**{**vars(CONFIG), "num_layers": 1})).eval()
    one_layer.decoder.block = CONFIG.block
    changed = TOKENS.clone()
    changed[:, :8] = (changed[:, :8] + 1) % 13
    a, b = one_layer(TOKENS), one_layer(changed)
    torch.testing.assert_close(a[:, 12:], b[:, 12:], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(a[:, 8:12], b[:, 8:12], atol=1e-4)
    # And only distances count: the same two blocks, farther on, give the same.
    shifted = torch.cat([TOKENS, TOKENS], dim=1)[:, :28]
    moved = torch.cat([TOKENS[:, :4], shifted], dim=1)
    torch.testing.assert_close(one_layer(moved)[:, 12:], one_layer(shifted)[:, 8:], atol=1e-5, rtol=1e-5)


def test_initial_weights_grow_with_depth() -> None:
    torch.manual_seed(0)
    model = Magneto(MagnetoConfig(hidden_size=256, num_layers=6, num_heads=4, inner_size=256, vocab_size=11))
    gain = math.sqrt(math.log(12))
    for name, module in model.decoder.layers.named_modules():
        if isinstance(module, nn.Linear):
            expected = (1.0 if name.endswith(("query", "key")) else gain) / 16  # Xavier: 1 / sqrt(256)
            assert module.weight.std().item() == pytest.approx(expected, rel=0.03)
            assert not module.bias.any()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"decoder_attention_heads": 5}, "num_heads 5 does not divide hidden_size 24"),
        ({"decoder_attention_heads": 8}, "xPos needs an even width of heads, not 3"),
        ({"xpos_rel_pos": False}, "xpos_rel_pos is False, and only True is supported"),
        ({"deepnorm": True}, "deepnorm is True, and only False is supported"),
        ({"decoder_layers": 10**6}, "layers are asked for"),
        ({"decoder_layers": "two"}, "num_layers: expected an integer"),
        ({"model_type": "gpt2"}, "model_type is 'gpt2'"),
        ({"layernorm_eps": 0.0}, "norm_eps must be above 0"),
        ({"vocab_size": 14}, "does not fit Magneto"),
    ],
)
def test_files_that_do_not_fit(model: Magneto, tmp_path: Path, flags: dict, message: str) -> None:
    checkpoint.save(model, tmp_path)
    where = tmp_path / "config.json"
    where.write_text(json.dumps(json.loads(where.read_text()) | flags))
    with pytest.raises(MultiwayError, match=message) as caught:
        checkpoint.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_broken_checkpoint(model: Magneto, tmp_path: Path) -> None:
    checkpoint.save(model, tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path)


def test_preset_can_be_built() -> None:
    with torch.device("meta"):
        model = Magneto(PRESETS["magneto-base"])
    assert (
        sum(p.numel() for p in model.decoder.layers.parameters()) == 85_146_624
    )  # 12 layers of 768 with sub-LN

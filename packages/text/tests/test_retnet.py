"""RetNet: TorchScale's decoder with the same weights, the decode loop with states, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from multiway_blocks.torchscale import RetNetConfig as Flags
from multiway_blocks.torchscale import RetNetDecoder, TextEmbedding
from multiway_core.errors import InputError, MultiwayError
from multiway_core.generation import GenerationConfig, StaticKVCache, generate
from multiway_text.decoders.retnet import checkpoint
from multiway_text.decoders.retnet.config import PRESETS, RetNetConfig
from multiway_text.decoders.retnet.model import RetNet

CONFIG = RetNetConfig(
    hidden_size=24, num_layers=2, num_heads=3, value_size=36, inner_size=40, vocab_size=13, chunk=4
)
TOKENS = torch.randint(0, 13, (2, 30), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> RetNet:
    torch.manual_seed(0)
    model = RetNet(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms start at one and hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@torch.no_grad()
def test_saved_files_are_torchscale_retnets(model: RetNet, tmp_path: Path) -> None:
    """Their recurrent form, which divides rows as ours, and their parallel one where eps does not matter."""
    checkpoint.save(model, tmp_path)
    flags = json.loads((tmp_path / "config.json").read_text())
    assert flags.pop("model_type") == "retnet"
    theirs = RetNetDecoder(Flags(**flags), TextEmbedding(13, 24)).eval()
    from safetensors.torch import load_file

    missing = theirs.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False).missing_keys
    assert missing == ["retnet_rel_pos.angle", "retnet_rel_pos.decay"]
    state: dict = {}
    steps = [theirs(TOKENS[:, : i + 1], incremental_state=state)[0] for i in range(30)]
    torch.testing.assert_close(torch.cat(steps, dim=1), model(TOKENS), atol=1e-5, rtol=1e-5)
    for layer, own in zip(theirs.layers, model.decoder.layers, strict=True):
        layer.retention.eps = own.attention.eps = 1e-12
    torch.testing.assert_close(theirs(TOKENS)[0], model(TOKENS), atol=1e-5, rtol=1e-5)
    again = checkpoint.load(tmp_path)
    assert again.config == CONFIG
    for (name, a), b in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@torch.no_grad()
def test_three_forms_give_the_same(model: RetNet) -> None:
    whole = RetNet(RetNetConfig(**{**vars(CONFIG), "chunk": 64})).eval()  # one chunk: the parallel form
    whole.load_state_dict(model.state_dict())
    expected = whole(TOKENS)
    torch.testing.assert_close(model(TOKENS), expected, atol=1e-5, rtol=1e-5)
    cache = model.new_cache(2, 30)
    parts = [model.hidden(TOKENS[:, :11], cache=cache)]
    parts += [model.hidden(TOKENS[:, i : i + 1], cache=cache) for i in range(11, 25)]
    parts += [model.hidden(TOKENS[:, 25:], cache=cache)]
    torch.testing.assert_close(model.logits(torch.cat(parts, dim=1)), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_decode_loop_with_padding_ends_and_beams(model: RetNet) -> None:
    def run(tokens: torch.Tensor, valid: torch.Tensor | None = None, **options) -> list[list[int]]:
        cache = model.new_cache(len(tokens), tokens.shape[1] + 12)
        settings = {"max_new_tokens": 12, "eos_token_ids": (), "pad_token_id": 0} | options
        output = generate(
            model.decode, model.prefill(tokens, cache, valid), cache, GenerationConfig(**settings)
        )
        return [row.tolist() for row in output.tokens]

    alone = [run(TOKENS[row : row + 1, : 10 - 3 * row])[0] for row in range(2)]
    for tokens, row in zip(TOKENS, alone, strict=True):
        whole = torch.cat([tokens[: 10 - 3 * (row is alone[1])], torch.tensor(row)])[None]
        assert model(whole)[0, -13:-1].argmax(-1).tolist() == row
    padded = torch.stack([TOKENS[0, :10], torch.cat([torch.zeros(3, dtype=torch.long), TOKENS[1, :7]])])
    valid = torch.ones(2, 10, dtype=torch.bool)
    valid[1, :3] = False
    assert run(padded, valid) == alone
    # Rows that end leave the batch, and the states of the others stay theirs.
    end = alone[0][2]
    assert run(padded, valid, eos_token_ids=(end,)) == [
        row[: row.index(end)] if end in row else row for row in alone
    ]
    one_by_one = [run(TOKENS[row : row + 1, :8], num_beams=3)[0] for row in range(2)]
    assert run(TOKENS[:, :8], num_beams=3) == one_by_one


@torch.no_grad()
def test_what_a_state_cannot_do(model: RetNet) -> None:
    cache = model.new_cache(1, 12)
    first = model.prefill(TOKENS[:1, :8], cache)
    with pytest.raises(InputError, match="sequence too long: 8 tokens"):
        model.decode(TOKENS[:1, 8:13], cache)
    assert cache.length == 8
    with pytest.raises(InputError, match="cannot forget its last tokens"):
        cache.truncate(7)
    with pytest.raises(TypeError, match="a cache of its own"):
        model.hidden(TOKENS, cache=StaticKVCache(2, 2, 3, 8, 30))
    twins = model.new_cache(3, 12)
    twins.copy_from(cache, torch.zeros(3, dtype=torch.long))
    step = model.decode(torch.full((3, 1), 5), twins)
    torch.testing.assert_close(step[0], step[2])
    torch.testing.assert_close(step[:1], model.decode(torch.full((1, 1), 5), cache))
    assert len(first) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"decoder_retention_heads": 5}, "num_heads 5 does not divide hidden_size 24"),
        ({"decoder_retention_heads": 8}, "does not divide value_size 36"),
        ({"decoder_retention_heads": 12, "decoder_embed_dim": 36}, "even width of heads, not 3"),
        ({"recurrent_chunk_size": 0}, "chunk must be 1 to"),
        ({"activation_fn": "relu"}, "activation"),
        ({"deepnorm": True}, "deepnorm is True, and only False is supported"),
        ({"decoder_layers": 10**6}, "layers are asked for"),
        ({"decoder_ffn_embed_dim": 41}, "does not fit RetNet"),
        ({"model_type": "magneto"}, "model_type is 'magneto'"),
    ],
)
def test_files_that_do_not_fit(model: RetNet, tmp_path: Path, flags: dict, message: str) -> None:
    checkpoint.save(model, tmp_path)
    where = tmp_path / "config.json"
    where.write_text(json.dumps(json.loads(where.read_text()) | flags))
    with pytest.raises(MultiwayError, match=message) as caught:
        checkpoint.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PRESETS)
def test_sizes_have_a_state_that_no_length_changes(name: str) -> None:
    config = PRESETS[name]
    assert config.value_size == config.inner_size
    assert config.state_size == config.num_layers * config.num_heads * config.head_dim * (
        config.value_size // config.num_heads
    )

"""The Qwen2-style decoder: against the peer's class, and with a cache what it is without."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.gated_decoder import GatedDecoder
from multiway_blocks.position import Rotary

SIZES = {"hidden_size": 24, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "inner_size": 40}


@pytest.fixture(scope="module")
def decoder() -> GatedDecoder:
    torch.manual_seed(0)
    decoder = GatedDecoder(**SIZES, rope_theta=1000.0)
    for parameter in decoder.parameters():
        parameter.data += torch.randn_like(parameter) * 0.2
    return decoder.eval()


@pytest.mark.peer
@pytest.mark.parametrize("sizes", [(24, 4, 2, None), (20, 6, 3, 8)])
@torch.no_grad()
def test_equals_qwen2(sizes) -> None:
    transformers = pytest.importorskip("transformers")
    hidden, heads, kv_heads, head_dim = sizes
    config = transformers.Qwen2Config(
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=36,
        vocab_size=11,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        **({"head_dim": head_dim} if head_dim else {}),
    )
    torch.manual_seed(0)
    peer = transformers.Qwen2Model(config).eval()
    for parameter in peer.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
    ours = GatedDecoder(
        hidden_size=hidden,
        num_layers=2,
        num_heads=heads,
        num_kv_heads=kv_heads,
        inner_size=36,
        head_dim=head_dim,
        rope_theta=1e6,
    )
    names = {
        "attention_norm": "input_layernorm",
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.o_proj",
        "feedforward_norm": "post_attention_layernorm",
        "feedforward.gate": "mlp.gate_proj",
        "feedforward.up": "mlp.up_proj",
        "feedforward.down": "mlp.down_proj",
    }
    theirs = peer.state_dict()
    state = {"norm.weight": theirs["norm.weight"]}
    for name in ours.state_dict():
        if name.startswith("layers."):
            _, layer, rest = name.split(".", 2)
            stem, kind = rest.rsplit(".", 1)
            state[name] = theirs[f"layers.{layer}.{names[stem]}.{kind}"]
    ours.load_state_dict(state)
    x = torch.randn(2, 7, hidden)
    valid = torch.ones(2, 7, dtype=torch.bool)
    valid[1, :3] = False
    expected = peer(inputs_embeds=x, attention_mask=valid.long()).last_hidden_state
    torch.testing.assert_close(ours.eval()(x, valid)[valid], expected[valid], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("chunks", [[9], [4, 1, 1, 3], [1] * 9])
@torch.no_grad()
def test_chunks_equal_the_whole(decoder, chunks: list[int]) -> None:
    torch.manual_seed(1)
    x, valid = torch.randn(3, 9, 24), torch.ones(3, 9, dtype=torch.bool)
    valid[1, :2] = False
    whole, cache = decoder(x, valid), decoder.new_cache(3, 9, x)
    pieces = [
        decoder(part, mask, cache)
        for part, mask in zip(x.split(chunks, 1), valid.split(chunks, 1), strict=True)
    ]
    torch.testing.assert_close(torch.cat(pieces, dim=1)[valid], whole[valid], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rotations_are_computed_once_for_all_layers(decoder, monkeypatch) -> None:
    """And once a pass: a second one behind the cache has other positions."""
    found, compute = [], Rotary.rotations
    monkeypatch.setattr(
        Rotary, "rotations", lambda self, positions: found.append(positions) or compute(self, positions)
    )
    x = torch.randn(1, 5, 24)
    cache = decoder.new_cache(1, 5, x)
    decoder(x[:, :4], None, cache)
    decoder(x[:, 4:], None, cache)
    assert [positions.tolist() for positions in found] == [[[0, 1, 2, 3]], [[4]]]


@torch.no_grad()
def test_a_dropped_token_leaves_no_trace(decoder) -> None:
    """A slot that is invalidated after its step is as if the token had never been fed: guidance relies on it."""
    torch.manual_seed(2)
    x, one = torch.randn(2, 6, 24), torch.ones(2, 1, dtype=torch.bool)
    cache = decoder.new_cache(2, 8, x)
    for step in range(3):
        decoder(x[:, step : step + 1], one, cache)
    decoder(torch.randn(2, 1, 24), one, cache)
    cache.invalidate(torch.tensor([[True], [False]]))
    after = decoder(x[:, 3:4], one, cache)[0]
    expected = decoder(x[:1, :4], torch.ones(1, 4, dtype=torch.bool))[0, -1:]
    torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_padding_is_finite_and_the_lower_half_has_no_norm(decoder) -> None:
    valid = torch.zeros(1, 4, dtype=torch.bool)
    assert decoder(torch.randn(1, 4, 24), valid).isfinite().all()
    assert not any(
        "norm.weight" in n and "layers" not in n
        for n, _ in GatedDecoder(**SIZES, final_norm=False).named_parameters()
    )

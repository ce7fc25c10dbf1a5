"""The decoder with xPos and both sub-norms, or with DeepNorm, against torchscale's with the same random weights."""

from __future__ import annotations

import pytest
import torch
from multiway_blocks.decoder import Decoder, scale_for_deep_norm
from multiway_blocks.position import XPos
from multiway_core.generation import StaticKVCache
from torch import nn

# (our name, theirs) inside a layer; the parts of a Linear or LayerNorm have the same names.
PARTS = {
    "attention_norm": "self_attn_layer_norm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.norm": "self_attn.inner_attn_ln",
    "attention.output": "self_attn.out_proj",
    "feedforward_norm": "final_layer_norm",
    "feedforward.up": "ffn.fc1",
    "feedforward.norm": "ffn.ffn_layernorm",
    "feedforward.down": "ffn.fc2",
}


@pytest.fixture
def torchscale_decoder(torchscale):
    def build(hidden: int, layers: int, heads: int, inner: int, vocabulary: int, deep_norm: bool = False):
        config = torchscale.DecoderConfig(
            decoder_embed_dim=hidden,
            decoder_attention_heads=heads,
            decoder_ffn_embed_dim=inner,
            decoder_layers=layers,
            subln=not deep_norm,
            deepnorm=deep_norm,
            xpos_rel_pos=not deep_norm,
            vocab_size=vocabulary,
        )
        decoder = torchscale.Decoder(config, embed_tokens=nn.Embedding(vocabulary, hidden))
        for parameter in decoder.parameters():  # every tensor: norms start at one and hide mistakes
            parameter.data = torch.randn_like(parameter) * 0.3 + (parameter.ndim == 1) * 0.5
        return decoder.eval()

    return build


def ours_from(
    theirs, hidden: int, layers: int, heads: int, inner: int, *, deep_norm: bool = False
) -> Decoder:
    decoder = Decoder(
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        inner_size=inner,
        sub_norm=not deep_norm,
        attention_sub_norm=not deep_norm,
        rotary=None if deep_norm else XPos(hidden // heads),
        deep_norm=deep_norm,
    )
    source = theirs.state_dict()
    names = {
        f"layers.{i}.{ours}": f"layers.{i}.{theirs}" for i in range(layers) for ours, theirs in PARTS.items()
    }
    names["norm"] = "layer_norm"
    state = {}
    for our_name, their_name in names.items():
        if f"{their_name}.weight" in source:  # DeepNorm has neither sub-norms nor a final norm
            state |= {f"{our_name}.{part}": source[f"{their_name}.{part}"] for part in ("weight", "bias")}
    decoder.load_state_dict(state)
    return decoder.eval()


@pytest.mark.peer
@pytest.mark.parametrize(("shape", "length"), [((24, 2, 3, 40), 9), ((32, 3, 2, 20), 70)])
@torch.no_grad()
def test_equals_torchscale_at_once_and_token_by_token(torchscale_decoder, shape, length: int) -> None:
    torch.manual_seed(length)
    theirs = torchscale_decoder(*shape, 11)
    ours = ours_from(theirs, *shape)
    tokens = torch.randint(0, 11, (2, length))
    expected = theirs(tokens, features_only=True)[0]
    x, valid = theirs.embed_tokens(tokens), torch.ones_like(tokens, dtype=torch.bool)
    torch.testing.assert_close(ours(x, valid), expected, atol=1e-5, rtol=1e-5)

    hidden, layers, heads, _ = shape
    cache = StaticKVCache(layers, 2, heads, hidden // heads, length)
    start = length // 2
    steps = [ours(x[:, :start], valid[:, :start], cache)]
    steps += [ours(x[:, i : i + 1], valid[:, i : i + 1], cache) for i in range(start, length)]
    torch.testing.assert_close(torch.cat(steps, dim=1), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_padding_on_the_left_changes_nothing(torchscale_decoder) -> None:
    shape = (24, 2, 3, 40)
    theirs = torchscale_decoder(*shape, 11)
    ours = ours_from(theirs, *shape)
    tokens = torch.randint(0, 11, (1, 6))
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), tokens], dim=1)
    valid = torch.arange(9)[None] >= 3
    out = ours(theirs.embed_tokens(padded), valid)[:, 3:]
    expected = theirs(tokens, features_only=True)[0]
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.peer
@torch.no_grad()
def test_deep_norm_equals_torchscale(torchscale_decoder) -> None:
    torch.manual_seed(3)
    shape = (24, 3, 3, 40)
    theirs = torchscale_decoder(*shape, 11, deep_norm=True)
    ours = ours_from(theirs, *shape, deep_norm=True)
    tokens = torch.randint(0, 11, (2, 9))
    expected = theirs(tokens, features_only=True)[0]
    x, valid = theirs.embed_tokens(tokens), torch.ones_like(tokens, dtype=torch.bool)
    torch.testing.assert_close(ours(x, valid), expected, atol=1e-5, rtol=1e-5)
    before = {name: parameter.clone() for name, parameter in ours.named_parameters()}
    scale_for_deep_norm(ours)
    changed = {
        name for name, parameter in ours.named_parameters() if not torch.equal(parameter, before[name])
    }
    parts = ("attention.value", "attention.output", "feedforward.up", "feedforward.down")
    kinds = ("weight", "bias")
    assert changed == {f"layers.{i}.{part}.{kind}" for i in range(3) for part in parts for kind in kinds}
    name = "layers.1.feedforward.up.weight"
    torch.testing.assert_close(ours.state_dict()[name] * 24**0.25, before[name])

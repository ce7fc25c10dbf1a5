"""`multiway_blocks.torchscale` by itself: configurations, initialisation, what cannot be built, what the peer lacks."""

from __future__ import annotations

import copy
import types
from typing import Any

import pytest
import torch
from multiway_blocks.retention import RetentionRotary, retnet_log_decays
from multiway_blocks.torchscale import (
    BEiT3,
    Decoder,
    DecoderConfig,
    Encoder,
    EncoderConfig,
    EncoderDecoder,
    EncoderDecoderConfig,
    PositionalEmbedding,
    RetNetConfig,
    RetNetDecoder,
    TextEmbedding,
    VisionEmbedding,
)
from multiway_blocks.torchscale.config import flag_types
from multiway_blocks.torchscale.retention import chunkwise_form, parallel_form, recurrent_form
from multiway_core.errors import InputError

SMALL = {
    "decoder_embed_dim": 24,
    "decoder_attention_heads": 3,
    "decoder_ffn_embed_dim": 40,
    "decoder_layers": 2,
    "vocab_size": 13,
}
SMALL_ENCODER = {name.replace("decoder", "encoder"): value for name, value in SMALL.items()}
TOKENS = torch.randint(0, 13, (2, 9), generator=torch.Generator().manual_seed(0))


def decoder(**flags: Any) -> Decoder:
    torch.manual_seed(0)
    return Decoder(DecoderConfig(**SMALL | flags), TextEmbedding(13, 24))


@pytest.mark.peer
@pytest.mark.parametrize("name", ["EncoderConfig", "DecoderConfig", "EncoderDecoderConfig", "RetNetConfig"])
@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"deepnorm": True},
        {"subln": False},
        {"use_xmoe": True, "moe_freq": 2, "moe_expert_count": 8, "moe_second_expert_policy": "all"},
    ],
    ids=str,
)
def test_flags_and_rules_are_those_of_torchscale(torchscale, name: str, flags: dict[str, Any]) -> None:
    own = globals()[name](**flags)
    values = {flag: getattr(own, flag) for flag in flag_types(type(own)) if flag != "retnet_normalizer"}
    assert values == vars(getattr(torchscale, name)(**flags))


def test_literals_are_read_and_never_run() -> None:
    config = DecoderConfig(
        decoder_layers="6", xpos_rel_pos="True", dropout="0.1", activation_fn="relu", subln=0
    )
    assert (config.decoder_layers, config.xpos_rel_pos, config.dropout, config.subln) == (6, True, 0.1, False)
    for value in ("__import__('os').getcwd()", "1 +", "[1]", "", "9" * 5000):
        with pytest.raises(InputError, match="DecoderConfig: decoder_layers is"):
            DecoderConfig(decoder_layers=value)


def test_override_takes_what_is_there_and_derives_anew() -> None:
    config = DecoderConfig(decoder_layers=2)
    config.override(types.SimpleNamespace(deepnorm=True, decoder_layers=3, dropout=None, unknown=1))
    assert (config.decoder_layers, config.deepnorm, config.subln) == (3, True, False)
    assert not config.decoder_normalize_before
    with pytest.raises(InputError, match="deepnorm and subln exclude each other"):
        config.override(types.SimpleNamespace(subln=True))


@pytest.mark.parametrize(
    ("config", "flags", "message"),
    [
        (
            DecoderConfig,
            {"decoder_attention_heads": 5},
            "decoder_attention_heads 5 does not divide decoder_embed_dim 24",
        ),
        (DecoderConfig, {"decoder_embed_dim": 27, "xpos_rel_pos": True}, "heads of even width, not .* = 9"),
        (DecoderConfig, {"deepnorm": True, "subln": True}, "exclude each other"),
        (DecoderConfig, {"decoder_layers": 0}, "decoder_layers must be at least 1, not 0"),
        (DecoderConfig, {"dropout": 1.0}, "dropout must be from 0 to below 1"),
        (DecoderConfig, {"drop_path_rate": float("nan")}, "drop_path_rate must be"),
        (DecoderConfig, {"activation_fn": "tanh"}, "activation_fn must be one of"),
        (DecoderConfig, {"decoder_layer": 3}, "no flag decoder_layer; did you mean decoder_layers?"),
        (DecoderConfig, {"moe_freq": 1}, "moe_expert_count must be at least 2, not 0"),
        (DecoderConfig, {"use_xmoe": True}, "use_xmoe needs a moe_freq"),
        (
            DecoderConfig,
            {"moe_freq": 1, "moe_expert_count": 4, "moe_eval_capacity_token_fraction": 0.0},
            "a capacity of 0 leaves experts no token",
        ),
        (DecoderConfig, {"rel_pos_buckets": 7, "max_rel_pos": 20}, "rel_pos_buckets must be even"),
        (DecoderConfig, {"rel_pos_buckets": 32, "max_rel_pos": 8}, "max_rel_pos must be above .* = 8, not 8"),
        (RetNetConfig, {"decoder_retention_heads": 5}, "decoder_retention_heads 5 does not divide"),
        (RetNetConfig, {"recurrent_chunk_size": 0}, "recurrent_chunk_size must be at least 1"),
        (RetNetConfig, {"multiway": True}, "RetNetDecoder has no multiway form"),
        (RetNetConfig, {"retnet_normalizer": "sum"}, "retnet_normalizer must be one of"),
        (EncoderConfig, {"multiway": True, "moe_freq": 1, "moe_expert_count": 4}, "not both"),
        (
            EncoderDecoderConfig,
            {"encoder_embed_dim": 12, "encoder_attention_heads": 3},
            "cross-attention needs one width",
        ),
    ],
)
def test_what_cannot_be_built_is_told_in_one_line(config, flags: dict[str, Any], message: str) -> None:
    known = flag_types(config)
    base = {name: value for name, value in (SMALL | SMALL_ENCODER).items() if name in known}
    if config is RetNetConfig:
        base |= {"decoder_value_embed_dim": 36}
    with pytest.raises(InputError, match=message) as caught:
        config(**base | flags)
    assert "\n" not in str(caught.value)


def test_inputs_that_cannot_be_used_are_told_in_one_line() -> None:
    config = DecoderConfig(**SMALL)
    config.deepnorm = True  # behind the rules' back
    with pytest.raises(InputError, match="exclude each other"):
        Decoder(config)
    encoder = Encoder(EncoderConfig(**SMALL_ENCODER), TextEmbedding(13, 24), PositionalEmbedding(6, 24))
    with pytest.raises(InputError, match="neither src_tokens nor token_embeddings"):
        encoder(None)
    with pytest.raises(InputError, match="needs a configuration with multiway=True"):
        encoder(TOKENS[:, :4], multiway_split_position=1)
    with pytest.raises(InputError, match="9 tokens, and there are positions for 4"):
        encoder(TOKENS)
    with pytest.raises(InputError, match="no output projection: pass features_only=True"):
        decoder(no_output_layer=True)(TOKENS)
    with pytest.raises(InputError, match="shares the embedding needs embed_tokens"):
        Decoder(DecoderConfig(**SMALL, share_decoder_input_output_embed=True))
    with pytest.raises(InputError, match="BEiT3 needs multiway=True"):
        BEiT3(EncoderConfig(**SMALL_ENCODER))
    small = EncoderConfig(**SMALL_ENCODER, multiway=True, img_size=8, patch_size=4)
    with pytest.raises(
        InputError, match=r"pictures have the shape \(1, 1, 8, 8\), the model needs \(B, 3, 8, 8\)"
    ):
        BEiT3(small)(visual_tokens=torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match="needs an embedding with contain_mask_token"):
        VisionEmbedding(8, 4)(torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, dtype=torch.bool))
    with pytest.raises(InputError, match="multiway_split_position must be -1 to 9"):
        Encoder(small, TextEmbedding(13, 24))(TOKENS, multiway_split_position=10)
    seq2seq = EncoderDecoder(EncoderDecoderConfig(**SMALL | SMALL_ENCODER), TextEmbedding(13, 24))
    with pytest.raises(
        InputError, match="decoder_retention_heads 3 does not divide decoder_value_embed_dim 1280"
    ):
        RetNetDecoder(RetNetConfig())
    with pytest.raises(InputError, match="2 rows of src_tokens, 1 of prev_output_tokens"):
        seq2seq(TOKENS, TOKENS[:1])


@pytest.mark.parametrize(
    ("flags", "factor"), [({"deepnorm": True}, 1 / 16**0.25), ({"subln": True}, 1.1774100225154747)], ids=str
)
def test_initialisation_is_scaled(flags: dict[str, Any], factor: float) -> None:
    """sqrt(ln 4) for two layers with sub-LN, 16^(-1/4) with DeepNorm; queries, keys and all else as they were."""
    plain, scaled = decoder(subln=False).state_dict(), decoder(**flags).state_dict()
    for name in plain.keys() & scaled.keys():
        changed = any(part in name for part in ("v_proj", "out_proj", "fc1", "fc2"))
        torch.testing.assert_close(scaled[name], plain[name] * (factor if changed else 1.0))


def test_checkpointed_activations_change_nothing() -> None:
    config = EncoderConfig(**SMALL_ENCODER, multiway=True)
    torch.manual_seed(0)
    plain = Encoder(config, TextEmbedding(13, 24))
    saving = copy.deepcopy(plain)
    saving.args.checkpoint_activations = True
    for model in (plain, saving):
        # Two passes with different splits before the backward pass, which computes layers anew.
        outs = [model(TOKENS, multiway_split_position=split)["encoder_out"] for split in (4, -1)]
        (outs[0].square().sum() + outs[1].sum()).backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_an_encoder_goes_on_behind_its_state() -> None:
    """Generation with a bidirectional encoder: new tokens see all before them."""
    torch.manual_seed(0)
    flags = {"xpos_rel_pos": True, "rel_pos_buckets": 8, "max_rel_pos": 16}
    encoder = Encoder(EncoderConfig(**SMALL_ENCODER, **flags), TextEmbedding(13, 24)).eval()
    seen = torch.ones(9, 9).tril()
    seen[:5, :5] = 1
    with torch.no_grad():
        whole = encoder(TOKENS, attn_mask=1 - seen)["encoder_out"]
        state: dict[int, dict] = {}
        parts = [encoder(TOKENS[:, :5], incremental_state=state)["encoder_out"]]
        parts += [encoder(TOKENS[:, i : i + 1], incremental_state=state)["encoder_out"] for i in range(5, 9)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)


def test_padding_on_the_left_is_finite_and_harmless() -> None:
    model = decoder(xpos_rel_pos=True).eval()
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), TOKENS], dim=1)
    padding = torch.arange(12).expand(2, -1) < 3
    with torch.no_grad():
        out = model(padded, self_attn_padding_mask=padding)[0]
        assert out.isfinite().all()
        torch.testing.assert_close(out[:, 3:], model(TOKENS)[0], atol=1e-5, rtol=1e-5)


def test_retnet_forms_agree_where_eps_does_not_matter() -> None:
    forms = {}
    for name, flags in {
        "abs_sum": {},
        "sum_abs": {"retnet_normalizer": "sum_abs"},
        "chunks": {"chunkwise_recurrent": True, "recurrent_chunk_size": 4},
    }.items():
        torch.manual_seed(0)
        sizes = {
            "decoder_embed_dim": 24,
            "decoder_value_embed_dim": 36,
            "decoder_ffn_embed_dim": 40,
            "vocab_size": 13,
        }
        config = RetNetConfig(**sizes, decoder_layers=2, layernorm_eps=1e-12, **flags)
        model = RetNetDecoder(config, TextEmbedding(13, 24)).double().eval()
        with torch.no_grad():
            forms[name] = model(TOKENS)[0]
            if name == "abs_sum":
                state: dict = {}
                steps = [model(TOKENS[:, : i + 1], incremental_state=state)[0] for i in range(9)]
                forms["recurrent"] = torch.cat(steps, dim=1)
    for name, result in forms.items():
        torch.testing.assert_close(result, forms["abs_sum"], atol=1e-6, rtol=1e-6, msg=name)


@pytest.mark.parametrize("form", ["abs_sum", "sum_abs", "recurrent", "chunkwise"])
def test_retention_golden(form: str) -> None:
    """Two heads, six tokens, width 4: what the norm of each head makes of the last row."""
    i = torch.arange(48, dtype=torch.float64)
    q, k, v = torch.sin(0.7 * i + 0.1), torch.cos(0.3 * i - 0.2) / 2, torch.sin(0.05 * i * i)
    q, k, v = (x.view(1, 2, 6, 4) for x in (q, k, v))
    rotary = RetentionRotary(4).double()
    rotary.inverse_frequency = 10_000.0 ** -torch.linspace(0, 1, 2, dtype=torch.float64)
    q, k = (rotary(x, torch.arange(6)[None]) for x in (q, k))
    log_decay = retnet_log_decays(2)
    if form == "recurrent":
        state: dict = {}
        steps = [
            recurrent_form(q[:, :, n : n + 1], k[:, :, n : n + 1], v[:, :, n : n + 1], log_decay, state)
            for n in range(6)
        ]
        o = torch.cat(steps, dim=2)
    elif form == "chunkwise":
        o = chunkwise_form(q, k, v, log_decay, 4)
    else:
        o = parallel_form(q, k, v, log_decay, form)
    o = o * torch.rsqrt(o.square().mean(-1, keepdim=True) + 1e-12)
    golden = [[0.947896, -0.464559, -1.681934, 0.238273], [-1.215506, 1.196274, -0.887612, 0.551017]]
    torch.testing.assert_close(o[0, :, 5], torch.tensor(golden, dtype=torch.float64), atol=1e-6, rtol=0)


def test_many_heads_whose_decay_rounds_to_one() -> None:
    """Checkpoints of 32 heads hold decays of log(1) = 0."""
    sizes = {
        "decoder_embed_dim": 64,
        "decoder_value_embed_dim": 64,
        "decoder_ffn_embed_dim": 8,
        "vocab_size": 13,
    }
    model = RetNetDecoder(
        RetNetConfig(**sizes, decoder_retention_heads=32, decoder_layers=1), TextEmbedding(13, 64)
    )
    model.retnet_rel_pos.decay[20:] = 0.0
    state: dict = {}
    for length in (1, 2, 3):
        assert model(TOKENS[:, :length], incremental_state=state)[0].isfinite().all()
    assert model(TOKENS)[0].isfinite().all()


def test_drop_path_grows_with_depth_and_dropout_acts_in_training() -> None:
    model = decoder(
        decoder_layers=3, drop_path_rate=0.4, attention_dropout=0.3, activation_dropout=0.2, dropout=0.1
    )
    assert [layer.drop_path.rate for layer in model.layers] == pytest.approx([0, 0.2, 0.4])
    assert not torch.equal(model(TOKENS)[0], model(TOKENS)[0])
    model.eval()
    assert torch.equal(model(TOKENS)[0], model(TOKENS)[0])

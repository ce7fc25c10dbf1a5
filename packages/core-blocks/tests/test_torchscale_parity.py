"""`multiway_blocks.torchscale` against the package it stands in for: names, results, gradients, decoding."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from multiway_blocks import torchscale as ours
from torch import Tensor, nn

pytestmark = pytest.mark.peer

WIDTH, HEADS, INNER, LAYERS, WORDS, LENGTH = 24, 3, 40, 2, 13, 9
close = functools.partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)

SCHEMES: dict[str, dict[str, Any]] = {
    "sub-LN": {},
    "DeepNorm": {"deepnorm": True},
    "pre-norm, ReLU, no last projection": {"subln": False, "activation_fn": "relu", "no_output_layer": True},
    "xPos": {"xpos_rel_pos": True, "xpos_scale_base": 64},
    "relative positions": {"rel_pos_buckets": 8, "max_rel_pos": 16, "deepnorm": True},
    "scaled, normed, swish": {
        "no_scale_embedding": False,
        "layernorm_embedding": True,
        "activation_fn": "swish",
    },
    "BERT's start": {"bert_init": True, "xpos_rel_pos": True},
}
POST_NORM = {"subln": False, "encoder_normalize_before": False, "decoder_normalize_before": False}
EXPERTS: dict[str, dict[str, Any]] = {
    "top 1": {"moe_top1_expert": True},
    "top 1, X-MoE, DeepNorm": {"moe_top1_expert": True, "use_xmoe": True, "deepnorm": True},
    "top 2, random": {},
    "top 2, all, normalised before": {
        "moe_second_expert_policy": "all",
        "moe_normalize_gate_prob_before_dropping": True,
    },
    "top 2, sampling, training's capacity": {
        "moe_second_expert_policy": "sampling",
        "moe_eval_capacity_token_fraction": -1,
    },
    "top 2, X-MoE": {"use_xmoe": True},
}


def sizes(*halves: str) -> dict[str, int]:
    found = {"vocab_size": WORDS}
    for half in halves:
        found |= {
            f"{half}_embed_dim": WIDTH,
            f"{half}_attention_heads": HEADS,
            f"{half}_ffn_embed_dim": INNER,
            f"{half}_layers": LAYERS,
        }
    return found


def twins(build: Callable[[Any], nn.Module], theirs: Any) -> tuple[nn.Module, nn.Module]:
    """The peer's model with random weights, every tensor perturbed, and ours with the same."""
    torch.manual_seed(0)
    peer = build(theirs)
    with torch.no_grad():
        for parameter in peer.parameters():  # norms start at one and hide mistakes
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.ndim == 1) * 0.5)
    own = build(ours)
    assert own.state_dict().keys() == peer.state_dict().keys()
    own.load_state_dict(peer.state_dict(), strict=True)
    for name, value in own.state_dict().items():  # and back
        assert torch.equal(value, peer.state_dict()[name]), name
    peer.load_state_dict(own.state_dict(), strict=True)
    return peer.eval(), own.eval()


def same(own: Any, peer: Any) -> None:
    """Equal dictionaries, lists and tensors."""
    if isinstance(peer, dict):
        assert own.keys() == peer.keys()
        for key in peer:
            same(own[key], peer[key])
    elif isinstance(peer, list | tuple):
        assert len(own) == len(peer)
        for a, b in zip(own, peer, strict=True):
            same(a, b)
    elif isinstance(peer, Tensor):
        close(own, peer)
    else:
        assert own == peer


def same_gradients(own: nn.Module, peer: nn.Module, run: Callable[[nn.Module], Tensor]) -> None:
    """The two networks' gradients of one sum, by name."""
    for model in (own, peer):
        model.zero_grad()
        result = run(model)
        (result * torch.linspace(-1, 1, result.numel()).view_as(result)).sum().backward()
    expected = peer.state_dict(keep_vars=True)
    compared = 0
    for name, value in own.state_dict(keep_vars=True).items():
        if isinstance(value, nn.Parameter) and expected[name].grad is not None:
            scale = expected[name].grad.abs().max().clamp(min=1)
            # An expert without tokens has no gradient in ours and one of zeros in theirs.
            gradient = torch.zeros_like(value) if value.grad is None and ".experts." in name else value.grad
            close(gradient / scale, expected[name].grad / scale)
            compared += 1
    assert compared > 10


def new_decoder(library: Any, *, positions: bool = True, **flags: Any) -> nn.Module:
    config = library.DecoderConfig(**sizes("decoder"), **flags)
    places = library.PositionalEmbedding(LENGTH + 2, WIDTH) if positions else None
    return library.Decoder(config, library.TextEmbedding(WORDS, WIDTH), places)


def tokens(rows: int = 2, length: int = LENGTH) -> Tensor:
    return torch.randint(0, WORDS, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scheme", [*SCHEMES, "post-norm", "multiway"])
def test_decoder(torchscale, scheme: str) -> None:
    flags = SCHEMES.get(scheme, POST_NORM if scheme == "post-norm" else {"multiway": True})
    flags = {name: value for name, value in flags.items() if not name.startswith("encoder")}
    peer, own = twins(
        functools.partial(new_decoder, positions="xpos_rel_pos" not in flags, **flags), torchscale
    )
    padding = torch.zeros(2, LENGTH, dtype=torch.bool)
    padding[1, 6:] = True
    options = {"features_only": bool(flags.get("no_output_layer")), "self_attn_padding_mask": padding}
    with torch.no_grad():
        expected = peer(tokens(), **options)
        same(own(tokens(), **options), expected)
        del options["self_attn_padding_mask"]
        expected = peer(tokens(), **options)[0]
        past: tuple[dict, dict] = ({"is_first_step": True}, {"is_first_step": True})
        for length in (4, 5, 6, 7):
            got = own(tokens()[:, :length], incremental_state=past[0], **options)[0]
            close(got, expected[:, :length] if length == 4 else expected[:, length - 1 : length])
            if "rel_pos_buckets" not in flags:  # the peer's step takes one head's bias for all of them
                close(got, peer(tokens()[:, :length], incremental_state=past[1], **options)[0])
            for state in past:
                state["is_first_step"] = False
    assert past[0][0].keys() == {"prev_key", "prev_value"}
    if scheme in ("sub-LN", "DeepNorm", "relative positions"):
        same_gradients(own, peer, lambda model: model(tokens())[0])


@pytest.mark.parametrize("scheme", [*SCHEMES, "post-norm"])
def test_encoder(torchscale, scheme: str) -> None:
    flags = SCHEMES.get(scheme, {"subln": False, "encoder_normalize_before": False})

    def build(library: Any) -> nn.Module:
        config = library.EncoderConfig(**sizes("encoder"), **flags)
        places = library.PositionalEmbedding(LENGTH + 2, WIDTH)
        return library.Encoder(config, library.TextEmbedding(WORDS, WIDTH, 1), places)

    peer, own = twins(build, torchscale)
    padding = torch.zeros(2, LENGTH, dtype=torch.bool)
    padding[1, 6:] = True
    with torch.no_grad():
        for options in (
            {},
            {"encoder_padding_mask": padding, "return_all_hiddens": True},
            {"attn_mask": torch.ones(LENGTH, LENGTH).triu(1), "features_only": True},
        ):
            same(own(tokens(), **options), peer(tokens(), **options))
        vectors = torch.randn(2, LENGTH, WIDTH)
        close(
            own(None, token_embeddings=vectors)["encoder_out"],
            peer(None, token_embeddings=vectors)["encoder_out"],
        )
    if scheme in ("sub-LN", "xPos"):
        same_gradients(own, peer, lambda model: model(tokens())["encoder_out"])


@pytest.mark.parametrize("scheme", [*SCHEMES, "post-norm", "shared embeddings"])
def test_encoder_decoder(torchscale, scheme: str) -> None:
    flags = SCHEMES.get(scheme, POST_NORM if scheme == "post-norm" else {"share_all_embeddings": True})

    def build(library: Any) -> nn.Module:
        config = library.EncoderDecoderConfig(**sizes("encoder", "decoder") | {"decoder_layers": 3}, **flags)
        embeddings = [library.TextEmbedding(WORDS, WIDTH, 1) for _ in range(2)]
        if scheme == "shared embeddings":
            return library.EncoderDecoder(config, encoder_embed_tokens=embeddings[0])
        return library.EncoderDecoder(config, embeddings[0], None, embeddings[1], None)

    peer, own = twins(build, torchscale)
    source, target = tokens(), tokens(length=7)
    options = {"features_only": bool(flags.get("no_output_layer"))}
    with torch.no_grad():
        expected = peer(source, target, **options)
        same(own(source, target, **options), expected)
        encoded = own.encoder(source)
        state: dict = {}
        for length in range(1, 8):
            step = own.decoder(target[:, :length], encoder_out=encoded, incremental_state=state, **options)[0]
            close(step, expected[0][:, length - 1 : length])
    if scheme in ("sub-LN", "DeepNorm"):
        same_gradients(own, peer, lambda model: model(source, target)[0])


@pytest.mark.parametrize("flags", [{}, {"deepnorm": True}, {"subln": False, "xpos_rel_pos": True}], ids=str)
def test_beit3(torchscale, flags: dict[str, Any]) -> None:
    picture = {"img_size": 8, "patch_size": 4, "in_chans": 3, "max_source_positions": LENGTH + 2}
    extra = sizes("encoder") | picture | flags
    peer, own = twins(
        lambda library: library.BEiT3(library.EncoderConfig(multiway=True, **extra)), torchscale
    )
    pictures = torch.randn(2, 3, 8, 8)
    padding = torch.zeros(2, LENGTH, dtype=torch.bool)
    padding[0, 7:] = True
    hidden = torch.tensor([[True, False, False, True]] * 2)
    with torch.no_grad():
        for inputs in (
            {"textual_tokens": tokens(), "text_padding_position": padding},
            {"visual_tokens": pictures, "vision_masked_position": hidden},
            {"textual_tokens": tokens(), "visual_tokens": pictures, "text_padding_position": padding},
            {"textual_tokens": tokens(), "visual_tokens": pictures},
        ):
            same(own(**inputs), peer(**inputs))
    inputs = {"textual_tokens": tokens(), "visual_tokens": pictures}
    same_gradients(own, peer, lambda model: model(**inputs)["encoder_out"])


@pytest.mark.parametrize("half", ["encoder", "decoder"])
@pytest.mark.parametrize("experts", EXPERTS)
def test_mixtures_of_experts(torchscale, process_group, experts: str, half: str) -> None:
    flags = {"moe_freq": 2, "moe_expert_count": 4} | EXPERTS[experts]

    def build(library: Any) -> nn.Module:
        if half == "decoder":
            return new_decoder(library, **flags)
        config = library.EncoderConfig(**sizes("encoder"), **flags)
        return library.Encoder(config, library.TextEmbedding(WORDS, WIDTH))

    peer, own = twins(build, torchscale)
    for training in (False, True):
        results = []
        for model in (own.train(training), peer.train(training)):
            torch.manual_seed(3)
            with torch.no_grad():
                results.append(model(tokens()))
        same(*results)
        balances = results[0]["l_aux"] if half == "encoder" else results[0][1]["l_aux"]
        assert balances[0] is None
        assert balances[1] is not None

    def run(model: nn.Module) -> Tensor:
        torch.manual_seed(3)
        result = model(tokens())
        out, balances = (
            (result["encoder_out"], result["l_aux"]) if half == "encoder" else (result[0], result[1]["l_aux"])
        )
        return out + balances[1]

    same_gradients(own, peer, run)


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"chunkwise_recurrent": True, "recurrent_chunk_size": 4},
        {
            "deepnorm": True,
            "activation_fn": "swish",
            "layernorm_embedding": True,
            "no_scale_embedding": False,
        },
        {"share_decoder_input_output_embed": True},
    ],
    ids=str,
)
def test_retnet(torchscale, flags: dict[str, Any]) -> None:
    extra = {
        "decoder_embed_dim": 24,
        "decoder_value_embed_dim": 36,
        "decoder_retention_heads": 3,
        "vocab_size": WORDS,
    }
    extra |= {"decoder_ffn_embed_dim": INNER, "decoder_layers": LAYERS} | flags

    def build(library: Any) -> nn.Module:
        return library.RetNetDecoder(library.RetNetConfig(**extra), library.TextEmbedding(WORDS, 24))

    peer, own = twins(build, torchscale)
    with torch.no_grad():
        length = (
            12 if "chunkwise_recurrent" in flags else LENGTH
        )  # the peer's inner states are padded to whole chunks
        same(own(tokens(length=length)), peer(tokens(length=length)))
        close(own(tokens(length=10))[0], peer(tokens(length=10))[0])
        past: tuple[dict, dict] = ({}, {})
        steps = []
        for length in range(1, LENGTH + 1):
            steps.append(own(tokens()[:, :length], incremental_state=past[0])[0])
            if "chunkwise_recurrent" not in flags:  # the peer's would fill even one token up to a chunk
                close(steps[-1], peer(tokens()[:, :length], incremental_state=past[1])[0])
        for name, value in past[1].get(1, {}).items():
            close(past[0][1][name], value)
        state: dict = {"is_first_step": True}  # a prompt at once: the peer has no such step
        close(own(tokens()[:, :6], incremental_state=state)[0], torch.cat(steps[:6], dim=1))
        state["is_first_step"] = False
        close(own(tokens()[:, :7], incremental_state=state)[0], steps[6])
    same_gradients(own, peer, lambda model: model(tokens())[0])


def test_xpos(torchscale) -> None:
    """Golden values through the peer's module and through ours, which counts from another centre."""
    from multiway_blocks.torchscale.attention import XPOS

    q = torch.sin(0.7 * torch.arange(48.0) + 0.1).view(1, 6, 8)
    k = torch.cos(0.3 * torch.arange(48.0) - 0.2).view(1, 6, 8)
    golden = torch.tensor([-2.606922, 1.263435, 0.393585, -1.162926, 1.782605, -1.861698])
    theirs, own = torchscale.XPOS(8, 512), XPOS(8, 512)
    close(own.scale, theirs.scale)
    close((theirs(q) @ theirs(k, downscale=True).transpose(1, 2))[0, 5], golden)
    place = torch.arange(6)[None]
    close((own(q[:, None], place) @ own.keys(k[:, None], place).transpose(-1, -2))[0, 0, 5], golden)

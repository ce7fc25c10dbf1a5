"""LongNet: with a cache, padded, streamed and generated it is one function; TorchScale's names; bad sizes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from multiway_blocks.decoder import Decoder
from multiway_blocks.position import XPos
from multiway_core.errors import CheckpointError, InputError
from multiway_core.generation import GenerationConfig, generate
from multiway_text.decoders.longnet import checkpoint
from multiway_text.decoders.longnet.config import LONGNET_125M, PRESETS, LongNetConfig
from multiway_text.decoders.longnet.model import LongNet
from torch import Tensor, nn

SMALL = LongNetConfig(
    hidden_size=24,
    num_layers=2,
    num_heads=6,
    inner_size=40,
    vocab_size=50,
    max_positions=200,
    segment_lengths=(4, 8, 32),
    dilations=(1, 2, 8),
)


def build(config: LongNetConfig = SMALL, dtype: torch.dtype = torch.float64) -> LongNet:
    torch.manual_seed(0)
    model = LongNet(config).to(dtype).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.3)
    return model


@pytest.fixture(scope="module", params=["xpos", "rotary"])
def model(request) -> LongNet:
    return build(dataclasses.replace(SMALL, position=request.param))


def prompt(rows: int, length: int) -> Tensor:
    return torch.randint(50, (rows, length), generator=torch.Generator().manual_seed(length))


@torch.no_grad()
def test_one_segment_is_the_dense_magneto_decoder() -> None:
    config = dataclasses.replace(SMALL, segment_lengths=(200,), dilations=(1,))
    model = build(config)
    dense = Decoder(
        hidden_size=24,
        num_layers=2,
        num_heads=6,
        inner_size=40,
        sub_norm=True,
        attention_sub_norm=True,
        rotary=XPos(4),
    ).double()
    ours = model.decoder.state_dict()
    dense.load_state_dict({name: ours[name] for name in dense.state_dict()})
    tokens = prompt(2, 30)
    expected = dense(model.embedding(tokens), torch.ones(2, 30, dtype=torch.bool)) @ model.head.weight.T
    torch.testing.assert_close(model(tokens), expected, atol=1e-9, rtol=1e-5)  # angles are float32


@torch.no_grad()
def test_decoding_equals_the_whole_with_padding(model: LongNet) -> None:
    lengths, longest = [19, 8, 1], 19
    tokens, following = prompt(3, longest), prompt(3, 15)
    valid = torch.arange(longest)[None] >= longest - torch.tensor(lengths)[:, None]
    cache = model.new_cache(3, longest + 15)
    steps = [model.prefill(tokens, cache, valid)]
    steps += [model.decode(following[:, t : t + 1], cache) for t in range(15)]
    for row, length in enumerate(lengths):
        whole = model(torch.cat([tokens[row, longest - length :], following[row]])[None])[0]
        got = torch.stack([step[row] for step in steps])
        torch.testing.assert_close(got, whole[length - 1 :].float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chunk", [1000, 32, 13])
@torch.no_grad()
def test_streamed_equals_the_whole(model: LongNet, chunk: int) -> None:
    tokens = prompt(1, 150)
    streamed = torch.cat(list(model.stream(tokens, chunk=chunk)), dim=1)
    torch.testing.assert_close(streamed, model.hidden(tokens), atol=1e-5, rtol=1e-5)


def test_generates_the_arg_max_of_full_forwards(model: LongNet) -> None:
    tokens = prompt(2, 9)
    valid = torch.tensor([[True] * 9, [False] * 4 + [True] * 5])
    cache = model.new_cache(2, 30)
    with torch.no_grad():
        first = model.prefill(tokens, cache, valid)
    options = GenerationConfig(max_new_tokens=12, eos_token_ids=(7,), pad_token_id=0)
    done = generate(model.decode, first, cache, options)
    for row, start in ((0, 0), (1, 4)):
        ids = tokens[row, start:].tolist()
        with torch.no_grad():
            for token in done.tokens[row].tolist():
                assert int(model(torch.tensor([ids]))[0, -1].argmax()) == token
                ids.append(token)


def test_learns_and_every_parameter_has_a_gradient() -> None:
    torch.manual_seed(0)
    model = LongNet(SMALL)
    tokens = prompt(2, 40)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0
        for n, p in model.named_parameters()
        if "key.bias" not in n
    )


@pytest.mark.parametrize("tied", [False, True])
@torch.no_grad()
def test_folders_and_torchscale_names(tied: bool, tmp_path: Path) -> None:
    model = build(dataclasses.replace(SMALL, tied_embeddings=tied), torch.float32)
    checkpoint.save(model, tmp_path / "ours")
    again = checkpoint.load(tmp_path / "ours")
    assert again.config == model.config
    tokens = prompt(1, 20)
    torch.testing.assert_close(again(tokens), model(tokens), atol=0, rtol=0)
    state = {checkpoint.TORCHSCALE.to_published(name): x for name, x in model.state_dict().items()}
    state["layers.0.self_attn.xpos.scale"] = torch.ones(2)
    assert "layers.1.self_attn.inner_attn_ln.bias" in state
    assert "layers.0.ffn.ffn_layernorm.weight" in state
    if tied:
        state["output_projection.weight"] = state["embed_tokens.weight"]
    torch.save(state, tmp_path / "decoder.pt")
    theirs = checkpoint.load_torchscale(tmp_path / "decoder.pt", model.config)
    torch.testing.assert_close(theirs(tokens), model(tokens), atol=0, rtol=0)
    with pytest.raises(CheckpointError, match="missing"):
        checkpoint.load_torchscale(tmp_path / "decoder.pt", dataclasses.replace(model.config, num_layers=3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segment_lengths": (4, 4, 32)}, "must be at least 1 and increase"),
        ({"segment_lengths": (8, 4, 32)}, "must be at least 1 and increase"),
        ({"segment_lengths": (0, 4, 32)}, "must be at least 1 and increase"),
        ({"segment_lengths": ()}, "one dilation a segment length"),
        ({"dilations": (1, 2)}, "2 dilations for 3 lengths"),
        ({"dilations": (2, 2, 4)}, "begin with 1"),
        ({"dilations": (1, 4, 2)}, "not decrease"),
        ({"dilations": (1, 2, 64)}, "larger than its segment length"),
        ({"num_heads": 5}, "num_heads 5 does not divide hidden_size 24"),
        ({"num_heads": 8}, "even width of heads, not 3"),
        ({"num_layers": 0}, "num_layers must be"),
        ({"segment_lengths": (4, 8, 1 << 20), "max_positions": 1 << 20}, "xPos holds"),
    ],
)
def test_impossible_sizes(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        dataclasses.replace(SMALL, **change)
    assert "\n" not in str(caught.value)


def test_prompts_beyond_the_context_and_empty_ones(model: LongNet) -> None:
    for call in (
        lambda: model.new_cache(1, 201),
        lambda: model(prompt(1, 201)),
        lambda: next(model.stream(prompt(1, 201))),
    ):
        with pytest.raises(InputError, match="too long: 201 tokens"):
            call()
    cache = model.new_cache(1, 10)
    with pytest.raises(InputError, match="max_length of 10"):
        model.prefill(prompt(1, 11), cache)
    with pytest.raises(InputError, match="empty prompt"):
        model(prompt(1, 0))


def test_presets() -> None:
    assert LONGNET_125M.branches == ((2048, 1), (4096, 2), (8192, 4), (16_384, 6), (32_768, 12))
    assert all(config.reach == 32_768 for config in PRESETS.values())

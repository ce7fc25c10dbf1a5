"""YOCO: the formulas written out, one cache, prefill without the cross-decoder, the released layout."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from multiway_core.errors import CheckpointError, InputError
from multiway_core.generation import GenerationConfig, generate
from multiway_text.decoders.yoco import checkpoint
from multiway_text.decoders.yoco.config import PRESETS, YocoConfig
from multiway_text.decoders.yoco.model import Yoco
from torch import Tensor, nn

GATED = YocoConfig(
    hidden_size=24,
    num_layers=4,
    num_self_heads=3,
    num_heads=6,
    num_kv_heads=2,
    inner_size=40,
    vocab_size=50,
    max_positions=400,
)
WINDOW = dataclasses.replace(GATED, window=5)


def build(config: YocoConfig, dtype: torch.dtype = torch.float64) -> Yoco:
    torch.manual_seed(0)
    model = Yoco(config).to(dtype).eval()
    for parameter in model.parameters():  # norms too must not be all ones
        nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.3)
    return model


@pytest.fixture(scope="module", params=[GATED, WINDOW], ids=["gated", "window"])
def model(request) -> Yoco:
    return build(request.param)


def prompt(rows: int, length: int) -> Tensor:
    return torch.randint(50, (rows, length), generator=torch.Generator().manual_seed(length))


def written_out(state: dict[str, Tensor], config: YocoConfig, tokens: Tensor) -> Tensor:
    """Logits of one row (T,) by the released names: loops over heads, attention as full matrices."""

    def norm(x: Tensor, weight: Tensor | float) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + config.norm_eps) * weight

    def rotated(x: Tensor) -> Tensor:  # (T, D), interleaved pairs, frequencies from 1 to 1 / theta
        frequencies = config.rope_theta ** -torch.linspace(0, 1, x.shape[1] // 2)
        turn = torch.polar(torch.ones(()), torch.arange(len(x))[:, None].float() * frequencies).to(
            torch.complex128
        )
        return torch.view_as_real(
            torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turn
        ).flatten(-2)

    def heads(x: Tensor, count: int) -> list[Tensor]:
        return list(x.chunk(count, dim=-1))

    def attention(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        scores = q @ k.T / math.sqrt(q.shape[-1])
        seen = torch.ones_like(scores).tril()
        if window is not None:
            seen = seen.triu(1 - window)
        return scores.masked_fill(seen == 0, -math.inf).softmax(-1) @ v

    def feedforward(x: Tensor, name: str) -> Tensor:
        y = norm(x, state[f"{name}.final_layer_norm.weight"])
        inner = nn.functional.silu(y @ state[f"{name}.ffn.fc1.weight"].T) * (
            y @ state[f"{name}.ffn.gate.weight"].T
        )
        return x + inner @ state[f"{name}.ffn.fc2.weight"].T

    def map_of(x: Tensor, name: str, part: str) -> Tensor:
        return x @ state[f"{name}.mixer.{part}.weight"].T

    x = state["embed_tokens.weight"][tokens] * math.sqrt(config.hidden_size)
    for i in range(config.num_layers // 2):
        name, count = f"self_decoder.layers.{i}", config.num_self_heads
        y = norm(x, state[f"{name}.mixer_layer_norm.weight"])
        q, k, v = (heads(map_of(y, name, f"{part}_proj"), count) for part in "qkv")
        outs = []
        for h in range(count):
            if config.window is not None:
                outs.append(attention(rotated(q[h]), rotated(k[h]), v[h], config.window))
                continue
            c = (nn.functional.logsigmoid(map_of(y, name, "gt_proj")[:, h]) / 16).cumsum(0)
            weights = rotated(q[h]) @ rotated(k[h]).T / math.sqrt(q[h].shape[-1])
            weights = weights * (c[:, None] - c[None]).exp().tril()
            outs.append(norm(weights @ v[h], 1.0))
        mixed = torch.cat(outs, -1)
        if config.window is None:
            mixed = nn.functional.silu(map_of(y, name, "g_proj")) * mixed
        x = feedforward(x + map_of(mixed, name, "out_proj"), name)
    y = norm(x, state["cross_decoder.kv_layer_norm.weight"])
    key = [rotated(k) for k in heads(y @ state["cross_decoder.k_proj.weight"].T, config.num_kv_heads)]
    value = heads(y @ state["cross_decoder.v_proj.weight"].T, config.num_kv_heads)
    group = config.num_heads // config.num_kv_heads
    for i in range(config.num_layers // 2):
        name = f"cross_decoder.layers.{i}"
        q = heads(map_of(norm(x, state[f"{name}.mixer_layer_norm.weight"]), name, "q_proj"), config.num_heads)
        outs = [
            attention(rotated(q[h]), key[h // group], value[h // group], None)
            for h in range(config.num_heads)
        ]
        x = feedforward(x + map_of(torch.cat(outs, -1), name, "out_proj"), name)
    return norm(x, state["layer_norm.weight"]) @ state["output_projection.weight"].T


@torch.no_grad()
def test_equals_the_formulas_by_released_names(model: Yoco) -> None:
    tokens = prompt(2, 23)
    state = {checkpoint.RELEASED.to_published(name): x for name, x in model.state_dict().items()}
    expected = torch.stack([written_out(state, model.config, row) for row in tokens])
    torch.testing.assert_close(model(tokens), expected, atol=1e-5, rtol=1e-5)  # float32 angles


@pytest.mark.parametrize("chunk", [1000, 64, 7, 1])
@torch.no_grad()
def test_prefill_without_the_cross_decoder_equals_the_full_forward(
    model: Yoco, chunk: int, monkeypatch
) -> None:
    tokens = prompt(2, 90)
    whole = model(tokens)[:, -1]
    seen = []
    for layer in model.decoder.cross_decoder.layers:
        monkeypatch.setattr(
            layer, "forward", lambda x, *rest, own=layer.forward: seen.append(x.shape[1]) or own(x, *rest)
        )
    cache = model.new_cache(2, 100)
    logits = model.prefill(tokens, cache, chunk=chunk)
    assert seen == [1, 1]  # one token, whatever the prompt's length
    torch.testing.assert_close(logits, whole.float(), atol=1e-5, rtol=1e-5)
    assert cache.length == 90


@pytest.mark.parametrize("length", [300])
@torch.no_grad()
def test_float32_prefill_within_1e_5(length: int) -> None:
    for config in (GATED, WINDOW):
        model = build(config, torch.float32)
        tokens = prompt(1, length)
        logits = model.prefill(tokens, model.new_cache(1, length), chunk=128)
        whole = model(tokens)[:, -1]
        assert float((logits - whole).abs().max() / whole.abs().max()) <= 1e-5


@torch.no_grad()
def test_decoding_equals_the_whole_with_padding(model: Yoco) -> None:
    lengths, longest = [9, 4, 1], 9
    tokens, following = prompt(3, longest), prompt(3, 6)
    valid = torch.arange(longest)[None] >= longest - torch.tensor(lengths)[:, None]
    cache = model.new_cache(3, longest + 6)
    steps = [model.prefill(tokens, cache, valid, chunk=5)]
    steps += [model.decode(following[:, t : t + 1], cache) for t in range(6)]
    padded = model(
        torch.cat([tokens, following], 1), torch.cat([valid, torch.ones(3, 6, dtype=torch.bool)], 1)
    )
    for row, length in enumerate(lengths):
        alone = torch.cat([tokens[row, longest - length :], following[row]])[None]
        whole = model(alone)[0]
        torch.testing.assert_close(padded[row, longest - length :], whole, atol=1e-6, rtol=1e-6)
        got = torch.stack([step[row] for step in steps])
        torch.testing.assert_close(got, whole[length - 1 :].float(), atol=1e-5, rtol=1e-5)


def test_generates_the_arg_max_of_full_forwards_in_any_batch(model: Yoco) -> None:
    tokens = prompt(2, 8)
    valid = torch.tensor([[True] * 8, [False] * 3 + [True] * 5])
    cache = model.new_cache(2, 20)
    with torch.no_grad():
        first = model.prefill(tokens, cache, valid)
    done = generate(
        model.decode, first, cache, GenerationConfig(max_new_tokens=12, eos_token_ids=(7,), pad_token_id=0)
    )
    for row, start in ((0, 0), (1, 3)):
        ids = tokens[row, start:].tolist()
        with torch.no_grad():
            for token in done.tokens[row].tolist():
                assert int(model(torch.tensor([ids]))[0, -1].argmax()) == token
                ids.append(token)
    beams = model.new_cache(1, 20)
    with torch.no_grad():
        first = model.prefill(tokens[:1], beams)
    best = generate(
        model.decode,
        first,
        beams,
        GenerationConfig(max_new_tokens=6, num_beams=3, eos_token_ids=(7,), pad_token_id=0),
    )
    greedy = done.log_probs[0][:6].sum()
    assert best.log_probs[0].sum() >= greedy - 1e-6


@torch.no_grad()
def test_a_prefix_read_once_is_continued_twice(model: Yoco) -> None:
    first, second = prompt(1, 11), prompt(2, 3)
    prefix = model.new_cache(1, 11)
    model.read(first, prefix)
    cache = model.new_cache(2, 20)
    cache.copy_from(prefix, torch.zeros(2, dtype=torch.long))
    got = model.decode(second, cache)
    torch.testing.assert_close(
        got, model(torch.cat([first.expand(2, -1), second], 1))[:, -1].float(), atol=1e-5, rtol=1e-5
    )
    with pytest.raises(InputError, match="cannot forget"):
        cache.truncate(5)
    with pytest.raises(InputError, match="cannot forget"):
        cache.invalidate(torch.ones(2, 1, dtype=torch.bool))
    cache.truncate(0)
    torch.testing.assert_close(
        model.prefill(first.expand(2, -1), cache), model(first)[:, -1].float().expand(2, -1)
    )


@torch.no_grad()
def test_one_cache_whatever_the_number_of_layers() -> None:
    sizes = {}
    for layers in (4, 8):
        for length in (100, 300):
            config = dataclasses.replace(GATED, num_layers=layers)
            model = build(config, torch.float32)
            cache = model.new_cache(1, 300)
            model.read(prompt(1, length), cache)
            sizes[layers, length] = cache.num_bytes()
    per_token = 2 * GATED.num_kv_heads * GATED.head_dim * 4
    assert sizes[4, 300] - sizes[4, 100] == sizes[8, 300] - sizes[8, 100] == 200 * per_token
    state = 3 * 8 * 8 * 4 + 8  # matrices of 3 heads in float32 and one count
    assert sizes[8, 100] - sizes[4, 100] == 2 * state


def test_gradients_reach_every_parameter(model: Yoco) -> None:
    model.zero_grad()
    model(prompt(2, 12)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("config", [GATED, WINDOW, dataclasses.replace(GATED, tied_embeddings=True)])
@torch.no_grad()
def test_released_layout_there_and_back(config: YocoConfig, tmp_path: Path) -> None:
    model = build(config, torch.float32)
    checkpoint.save(model, tmp_path)
    params = json.loads((tmp_path / "params.json").read_text())
    assert params["dim"] == 24
    assert params["n_attn_kv_heads"] == 2
    names = set(torch.load(tmp_path / "checkpoint.pth", weights_only=True))
    mixers = {"q_proj", "k_proj", "v_proj", "out_proj"} | (set() if config.window else {"g_proj", "gt_proj"})
    assert {
        name.split(".")[-2] for name in names if name.startswith("self_decoder.layers.0.mixer.")
    } == mixers
    assert {"embed_tokens.weight", "output_projection.weight", "layer_norm.weight"} <= names
    again = checkpoint.load(tmp_path)
    assert again.config == config
    torch.testing.assert_close(again(prompt(1, 9)), model(prompt(1, 9)), atol=0, rtol=0)
    assert checkpoint.load(tmp_path, max_positions=9).config.max_positions == 9


def test_bad_folders(tmp_path: Path) -> None:
    checkpoint.save(build(GATED, torch.float32), tmp_path)
    good = json.loads((tmp_path / "params.json").read_text())
    for change, message in (
        ({"n_layers": 200}, "200 layers are asked for"),
        ({"n_layers": 3}, "even num_layers"),
        ({"dim": 26}, "does not divide"),
        ({"colour": 1}, "colour"),
        ({"hidden_dim": "x"}, "expected an integer"),
        ({"hidden_dim": 41}, "mis-shaped"),
    ):
        (tmp_path / "params.json").write_text(json.dumps(good | change))
        with pytest.raises(Exception, match=message) as caught:
            checkpoint.load(tmp_path)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2
    (tmp_path / "params.json").write_text(json.dumps(good))
    (tmp_path / "checkpoint.pth").write_bytes(b"no")
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": 3}, "even num_layers"),
        ({"num_heads": 5}, "num_heads 5 does not divide hidden_size 24"),
        ({"num_self_heads": 8}, "even width of heads, not 3"),
        ({"num_kv_heads": 4}, "num_kv_heads 4 does not divide num_heads 6"),
        ({"window": 0}, "window must be"),
        ({"vocab_size": 0}, "vocab_size must be"),
    ],
)
def test_impossible_sizes(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(GATED, **change)


def test_prompts_beyond_the_context_and_empty_ones(model: Yoco) -> None:
    with pytest.raises(InputError, match="401 tokens are asked for and the model's context has 400"):
        model.new_cache(1, 401)
    with pytest.raises(InputError, match="sequence too long: 401"):
        model(torch.zeros(1, 401, dtype=torch.long))
    cache = model.new_cache(1, 10)
    with pytest.raises(InputError, match="max_length of 10"):
        model.prefill(prompt(1, 11), cache, chunk=4)
    assert cache.length == 0
    assert cache.states == [None, None]
    with pytest.raises(InputError, match="empty prompt"):
        model.prefill(prompt(1, 0), cache)


def test_presets_have_the_papers_sizes() -> None:
    from multiway_core.checkpoint import on_meta

    with on_meta():
        model = Yoco(PRESETS["yoco-3b"])
    count = sum(p.numel() for p in model.parameters())
    assert 2.9e9 < count < 3.6e9
    assert all(
        config.num_self_heads * 256 == config.hidden_size
        for name, config in PRESETS.items()
        if "3b" not in name or "13b" in name
    )

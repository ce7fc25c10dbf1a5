"""MetaLM: the semi-causal objective, what sees what, and the parts that learn."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest
import torch
from multiway_core.checkpoint import on_meta
from multiway_core.errors import ConfigError, InputError
from multiway_core.generation import GenerationConfig, generate
from multiway_vision_language.metalm import objective
from multiway_vision_language.metalm.config import (
    METALM_LANGUAGE,
    METALM_VISION_LANGUAGE,
    DecoderConfig,
    EncoderConfig,
    MetaLMConfig,
)
from multiway_vision_language.metalm.model import MetaLM, span_mask

SMALL = MetaLMConfig(
    vocab_size=31,
    decoder=DecoderConfig(hidden_size=24, num_layers=2, num_heads=3, inner_size=40, max_positions=64),
    encoder=EncoderConfig(
        hidden_size=16, num_layers=3, num_heads=2, inner_size=20, max_text=40, image_size=8, patch_size=4
    ),
)
PATCHES = SMALL.encoder.num_patches


@pytest.fixture(scope="module")
def model() -> MetaLM:
    torch.manual_seed(0)
    model = MetaLM(SMALL)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


def tokens(rows: int, length: int) -> torch.Tensor:
    return torch.randint(0, 31, (rows, length), generator=torch.Generator().manual_seed(length))


@pytest.mark.peer
@torch.no_grad()
def test_without_spans_it_is_a_causal_language_model_like_gpt2(model: MetaLM) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=31, n_positions=64, n_embd=24, n_layer=2, n_head=3, n_inner=40, activation_function="gelu"
    )
    peer = GPT2LMHeadModel(config).double().eval()
    state = {
        "transformer.wte.weight": model.embedding.weight,
        "transformer.wpe.weight": model.positions.table[:64],
    }
    parts = {"transformer.ln_f": model.decoder.norm}
    for index, layer in enumerate(model.decoder.layers):
        name = f"transformer.h.{index}"
        attention, feedforward = layer.attention, layer.feedforward
        for part in ("weight", "bias"):
            joined = [getattr(m, part) for m in (attention.query, attention.key, attention.value)]
            matrix = torch.cat(joined)
            state[f"{name}.attn.c_attn.{part}"] = matrix.T if part == "weight" else matrix
        for their, ours in {
            "attn.c_proj": attention.output,
            "mlp.c_fc": feedforward.up,
            "mlp.c_proj": feedforward.down,
        }.items():
            state[f"{name}.{their}.weight"], state[f"{name}.{their}.bias"] = ours.weight.T, ours.bias
        parts |= {f"{name}.ln_1": layer.attention_norm, f"{name}.ln_2": layer.feedforward_norm}
    for name, module in parts.items():
        state |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    missing, unexpected = peer.load_state_dict(state, strict=False)
    assert missing == ["lm_head.weight"]  # tied to the embeddings
    assert not unexpected
    ids = tokens(2, 12)
    expected = peer(ids).logits
    for spans in (None, [[], []]):
        torch.testing.assert_close(model(ids, spans=spans), expected, atol=1e-10, rtol=0)


@torch.no_grad()
def test_a_span_is_seen_whole_from_its_start_and_by_nothing_before(model: MetaLM) -> None:
    ids = tokens(1, 12)
    spans = [[(3, 6), (8, 10)]]
    before = model(ids, spans=spans)
    for place in range(12):
        changed = ids.clone()
        changed[0, place] = (changed[0, place] + 1) % 31
        after = model(changed, spans=spans)
        first = next((start for start, stop in spans[0] if start <= place < stop), place)
        assert torch.equal(after[:, :first], before[:, :first])
        assert (after[:, first:] != before[:, first:]).any(dim=-1).all()


@torch.no_grad()
def test_span_tokens_are_replaced_not_added(model: MetaLM) -> None:
    # If a token's own embedding stayed in a span, scaling the decoder's embeddings would show.
    ids = tokens(1, 6)
    spans = [[(0, 5)]]
    hidden = model.encode_spans(ids, spans)
    x = torch.cat([hidden[None], model.embedding(ids[:, 5:])], dim=1)
    x = x + model.positions(torch.arange(6)[None])
    direct = model.decoder(x, torch.ones(1, 6, dtype=torch.bool)) @ model.embedding.weight.T
    torch.testing.assert_close(model(ids, spans=spans), direct, atol=1e-12, rtol=0)


@torch.no_grad()
def test_a_batch_with_spans_of_any_length_equals_rows_alone(model: MetaLM) -> None:
    ids = tokens(3, 14)
    pixels = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    spans = [[(1, 3), (5, 13)], [], [(4, 4 + PATCHES)]]
    pictures = [[False, True], [], [True]]
    valid = torch.ones(3, 14, dtype=torch.bool)
    valid[2, :4] = False
    together = model(ids, valid, spans, pixels_PCHW=pixels, picture_spans=pictures)
    first = model(ids[:1], spans=spans[:1], pixels_PCHW=pixels[:1], picture_spans=pictures[:1])
    torch.testing.assert_close(together[:1], first, atol=1e-12, rtol=0)
    torch.testing.assert_close(together[1:2], model(ids[1:2]), atol=1e-12, rtol=0)
    last = model(ids[2:, 4:], spans=[[(0, PATCHES)]], pixels_PCHW=pixels[1:], picture_spans=[[True]])
    torch.testing.assert_close(together[2:, 4:], last, atol=1e-12, rtol=0)


@torch.no_grad()
def test_pictures_and_their_text_see_each_other(model: MetaLM) -> None:
    ids = tokens(1, PATCHES + 5)
    spans, marks = [[(0, PATCHES + 3)]], [[True]]
    pixels = torch.randn(1, 3, 8, 8, dtype=torch.float64)

    def encode(ids, pixels):
        return model.encode_spans(ids, spans, pixels, marks)

    before = encode(ids, pixels)
    other_word = ids.clone()
    other_word[0, PATCHES + 2] += 1
    brighter = pixels.clone()
    brighter[..., 7, 7] += 1
    for after in (encode(other_word, pixels), encode(ids, brighter)):
        assert (after != before).any(dim=-1).all()
    other_placeholder = ids.clone()
    other_placeholder[0, 1] += 1
    assert torch.equal(encode(other_placeholder, pixels), before)


@torch.no_grad()
def test_a_cache_continues_behind_spans(model: MetaLM) -> None:
    ids = tokens(2, 12)
    spans = [[(0, 4), (5, 8)], [(2, 7)]]
    whole = model(ids, spans=spans)
    cache = model.new_cache(2, 12)
    parts = [model(ids[:, :9], spans=spans, cache=cache)]
    parts += [model(ids[:, t : t + 1], cache=cache) for t in range(9, 12)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-12, rtol=0)
    cache = model.new_cache(2, 14)
    first = model(ids[:, :9], spans=spans, cache=cache)[:, -1]
    config = GenerationConfig(max_new_tokens=4, eos_token_ids=(), pad_token_id=0)
    assert [len(row) for row in generate(model.decode, first, cache, config).tokens] == [4, 4]


@pytest.mark.parametrize(
    "spans", [[[], []], [[(3, 6), (8, 10)], [(0, 5)]], [[(0, 12)], [(11, 12)]], [[(2, 4), (4, 7)], []]]
)
def test_loss_equals_a_loop_over_tokens(model: MetaLM, spans) -> None:
    ids = tokens(2, 12)
    valid = torch.ones(2, 12, dtype=torch.bool)
    valid[1, : 0 if spans[1] else 3] = False
    logits = model(ids, valid, spans).detach()
    total, count = objective.semi_causal_loss(logits, objective.semi_causal_targets(ids, valid, spans))

    expected, number = 0.0, 0
    for row in range(2):
        in_span = {t for start, stop in spans[row] for t in range(start, stop)}
        real = [t for t in range(12) if valid[row, t]]
        for before, t in itertools.pairwise(real):
            if t not in in_span:
                expected -= float(logits[row, before].log_softmax(-1)[ids[row, t]])
                number += 1
    assert count == number
    assert float(total) == pytest.approx(expected, abs=1e-4)


def test_only_causal_tokens_are_targets_and_the_one_behind_a_span_is() -> None:
    ids = torch.arange(10)[None]
    valid = torch.ones(1, 10, dtype=torch.bool)
    targets = objective.semi_causal_targets(ids, valid, [[(3, 6)]])
    none = objective.IGNORED
    assert targets.tolist() == [[1, 2, none, none, none, 6, 7, 8, 9, none]]


def test_sampled_spans_cover_a_quarter_within_documents() -> None:
    documents = [(0, 300), (300, 340), (340, 1000)]
    rng = random.Random(0)
    shares = []
    for _ in range(200):
        spans = objective.sample_spans(documents, rng)
        shares.append(sum(stop - start for start, stop in spans) / 1000)
        assert all(64 <= stop - start <= 128 for start, stop in spans)
        assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))
        assert all(any(a <= start and stop < b for a, b in documents) for start, stop in spans)
    assert 0.18 < sum(shares) / len(shares) <= 0.25
    assert objective.sample_spans([(0, 20)], rng) == []
    tight = objective.sample_spans([(0, 9)], rng, min_length=4, max_length=4, share=1.0)
    assert len(tight) in (1, 2)
    prefixes = [objective.sample_prefix(PATCHES, 5, rng)[1] for _ in range(300)]
    assert set(prefixes) == {PATCHES + i for i in range(5)}  # at least one token is left to predict


def test_tuning_encoder_and_connector_leaves_the_decoder_as_it_is(model: MetaLM) -> None:
    fresh = MetaLM(SMALL)
    objective.reset_parameters(fresh, seed=1)
    objective.train_encoder_and_connector(fresh)
    trained = {name.split(".")[0] for name, p in fresh.named_parameters() if p.requires_grad}
    assert trained == {"encoder", "connector"}
    ids = tokens(2, 10)
    before = fresh.eval()(ids).detach()
    optimizer = torch.optim.SGD([p for p in fresh.parameters() if p.requires_grad], lr=1.0)
    spans = [[(0, 5)], [(1, 4)]]
    valid = torch.ones_like(ids, dtype=torch.bool)
    total, _ = objective.semi_causal_loss(
        fresh(ids, valid, spans), objective.semi_causal_targets(ids, valid, spans)
    )
    total.backward()
    optimizer.step()
    assert torch.equal(fresh(ids), before)
    objective.freeze_encoder(fresh, except_last=2)
    trained_encoder = {n for n, p in fresh.encoder.named_parameters() if p.requires_grad}
    assert {".".join(n.split(".")[:2]) for n in trained_encoder if n.startswith("layers")} == {
        "layers.1",
        "layers.2",
    }
    assert all(p.requires_grad for p in fresh.decoder.parameters())


def test_the_connector_starts_with_the_size_of_embeddings() -> None:
    config = dataclasses.replace(
        SMALL, decoder=DecoderConfig(hidden_size=96, num_layers=1, num_heads=2, inner_size=96)
    )
    deep = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, deep_norm=True))
    for chosen in (config, dataclasses.replace(config, connector="linear"), deep):
        model = MetaLM(chosen).eval()
        objective.reset_parameters(model, seed=0)
        again = MetaLM(model.config)
        objective.reset_parameters(again, seed=0)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
        spread = float(model.encode_spans(tokens(2, 12), [[(0, 9)], [(2, 9)]]).detach().std())
        assert 0.3 < spread / float(model.embedding.weight.detach().std()) < 3


@torch.no_grad()
def test_relative_bias_follows_the_bucket_formula(model: MetaLM) -> None:
    import math

    bias = model.encoder.relative_bias
    buckets, side = bias.bias_embedding.num_embeddings, bias.bias_embedding.num_embeddings // 2
    for distance in (0, -1, 1, 7, -8, 9, 30, -127, 500):
        far, exact = abs(distance), side // 2
        bucket = far
        if far >= exact:
            bucket = min(
                side - 1, exact + int(math.log(far / exact) / math.log(128 / exact) * (side - exact))
            )
        expected = bias.bias_embedding.weight[bucket + side * (distance > 0)]
        assert torch.equal(bias(torch.tensor(distance)), expected)
        assert bucket + side * (distance > 0) < buckets


@pytest.mark.parametrize(
    ("spans", "marks", "pictures", "message"),
    [
        ([[]], None, 0, "1 lists of spans for 2 rows"),
        ([[(3, 3)], []], None, 0, r"span \(3, 3\) of row 0"),
        ([[(3, 6), (5, 8)], []], None, 0, r"span \(5, 8\) of row 0"),
        ([[], [(3, 13)]], None, 0, r"span \(3, 13\) of row 1"),
        ([[(0, 5)], []], [[True], []], 0, "0 pictures for 1 spans"),
        ([[(0, 5)], []], [[], []], 0, "0 picture marks for 1 spans"),
        ([[(0, PATCHES - 1)], []], [[True], []], 1, "at least 4 tokens"),
    ],
)
def test_bad_spans_are_one_clear_line(model: MetaLM, spans, marks, pictures, message: str) -> None:
    pixels = torch.zeros(pictures, 3, 8, 8, dtype=torch.float64) if pictures else None
    with pytest.raises(InputError, match=message):
        model(tokens(2, 12), spans=spans, pixels_PCHW=pixels, picture_spans=marks)


def test_presets_have_the_published_sizes() -> None:
    with on_meta():
        language, vision = MetaLM(METALM_LANGUAGE), MetaLM(METALM_VISION_LANGUAGE)

    def millions(*modules) -> float:
        return sum(p.numel() for module in modules for p in module.parameters()) / 1e6

    assert millions(language.decoder, language.embedding) == pytest.approx(1300, rel=0.02)
    assert millions(language.encoder) == pytest.approx(366, rel=0.05)
    assert millions(vision.decoder, vision.embedding) == pytest.approx(353, rel=0.01)
    with pytest.raises(ConfigError, match="multiple of patch_size"):
        EncoderConfig(image_size=100, patch_size=16)


def test_span_mask_marks_spans() -> None:
    assert span_mask([[(1, 3)]], torch.zeros(1, 4)).tolist() == [[False, True, True, False]]

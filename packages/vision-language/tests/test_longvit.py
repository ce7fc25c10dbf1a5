"""LongViT: dilated attention, the bounded pass, files, positions, survival, DINO."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from multiway_core.errors import CheckpointError, InputError
from multiway_vision_language.longvit import bounded
from multiway_vision_language.longvit.bounded import attend_bounded, embed_bands, encode_bounded, normalised
from multiway_vision_language.longvit.checkpoint import RELEASED, from_pretrained, load, load_released, save
from multiway_vision_language.longvit.config import DILATIONS, LONGVIT_SMALL, SEGMENTS, LongViTConfig
from multiway_vision_language.longvit.dino import Dino, DinoBatch, DinoConfig, dino_loss
from multiway_vision_language.longvit.model import LongViT
from multiway_vision_language.longvit.pipeline import ImageRaster, LongVitPipeline, background_share
from multiway_vision_language.longvit.survival import (
    concordance_index,
    interval_of,
    risk,
    survival_loss,
    time_bins,
)
from PIL import Image

TINY = LongViTConfig(
    hidden_size=24, num_layers=2, num_heads=4, inner_size=40, patch_size=4, image_size=32, input_size=32,
    task="classify", labels=("a", "b", "c"), norm_eps=1e-3,
)  # fmt: skip


def perturbed(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def naive_row(query, key, value, branches, head: int, row: int, *, strict: bool) -> np.ndarray:
    """One row of one head, float64, from the definition: (H, N, D) arrays."""
    heads, tokens, width = query.shape
    outputs, sums = [], []
    for length, dilation in branches:
        length = min(length, tokens)
        offset = head // -(-heads // dilation)
        start = row - row % length
        if (row - start) % dilation != offset:
            continue
        places = range(start + offset, start + length, dilation)
        scores, values = [], []
        for place in places:
            if place < tokens:
                scores.append(float(query[head, row] @ key[head, place]) / math.sqrt(width))
                values.append(value[head, place])
            elif strict:
                scores.append(0.0)
                values.append(np.zeros(width))
        if strict:  # the last stride of a segment is filled up too
            for _ in range(-(-length // dilation) - len(places)):
                scores.append(0.0)
                values.append(np.zeros(width))
        weights = np.exp(scores)
        outputs.append(weights @ np.array(values) / weights.sum())
        sums.append(np.log(weights.sum()))
    shares = np.exp(np.array(sums) - max(sums))
    return shares @ np.array(outputs) / shares.sum()


@pytest.mark.parametrize("tokens", [*SEGMENTS, 900, 1300, 17_000])
def test_dilated_attention_equals_the_definition_at_every_size_of_the_table(tokens):
    """All sizes of the released table, and sizes whose last segment is not full, where zeros take part as keys."""
    generator = torch.Generator().manual_seed(tokens)
    heads = 16 if tokens < 20_000 else 2  # of two heads, the offsets are 0 and 1
    query, key, value = (torch.randn(heads, tokens, 4, generator=generator) for _ in range(3))
    key += 0.3
    pattern = LONGVIT_SMALL.pattern(tokens)
    if tokens in SEGMENTS:
        assert pattern.branches == tuple(zip(SEGMENTS[tokens], DILATIONS, strict=True))
    rows = np.random.default_rng(tokens).integers(0, tokens, 6).tolist() + [0, tokens - 1]
    if tokens > 300_000:  # a whole pass of a million tokens is a benchmark; here the longest segments alone
        pattern = type(pattern)(((1024, 1), pattern.branches[-2][:1] + (64,)), mask_padding=False)
    found = attend_bounded(query, key, value, pattern)
    arrays = [x.double().numpy() for x in (query, key, value)]
    for row in rows:
        for head in {0, 1, heads - 1}:
            expected = naive_row(*arrays, pattern.branches, head, row, strict=True)
            np.testing.assert_allclose(found[head, row].numpy(), expected, atol=2e-5)
    if tokens <= 17_000:
        torch.testing.assert_close(
            found[None], pattern.attend(query[None], key[None], value[None]), atol=2e-5, rtol=1e-4
        )


def test_padding_is_seen_in_strict_mode_alone():
    query, key, value = torch.randn(3, 4, 100, 6, generator=torch.Generator().manual_seed(1)).unbind()
    pattern = LONGVIT_SMALL.pattern(100)
    strict = attend_bounded(query, key, value, pattern)
    masked = attend_bounded(query, key, value, type(pattern)(pattern.branches, mask_padding=True))
    assert (strict - masked).abs().max() > 1e-3


def test_bands_and_chunks_give_what_one_pass_gives(monkeypatch):
    model = perturbed(LongViT(TINY))
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    with torch.no_grad():
        expected = model.encode(normalised(pixels))[0]
    monkeypatch.setattr(bounded, "CHUNK", 37)
    monkeypatch.setattr(bounded, "BAND_PIXELS", 1024)
    read_rows = []

    def read(first, last):
        read_rows.append(last - first)
        return pixels[first:last]

    found = encode_bounded(model, embed_bands(model, read, 64))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    assert max(read_rows) == 16, "the picture was read in bands"


def test_positions_are_grown_with_the_guard():
    model = perturbed(LongViT(TINY))
    grid = model.positions.detach().reshape(1, 8, 8, -1).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(grid, scale_factor=(12.1 / 8, 12.1 / 8), mode="bicubic")
    torch.testing.assert_close(model.positions_of(12, 12)[0], expected[0].flatten(1).T)
    assert model.positions_of(8, 8) is model.positions


def test_gradients_are_those_without_checkpointing():
    model = perturbed(LongViT(TINY)).train()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    grads = []
    for flag in (False, True):
        model.encoder.checkpoint_activations = flag
        grads.append(torch.autograd.grad(model(x).square().sum(), list(model.parameters())))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_released_file_of_dino_is_read(tmp_path):
    """The published layout: under `teacher`, `backbone.` before the names, a projection head beside."""
    model = perturbed(LongViT(TINY))
    tensors = {
        RELEASED.to_published(name).replace("model.", "backbone.", 1): value
        for name, value in model.state_dict().items()
        if not name.startswith(("norm.", "head."))
    }
    tensors["backbone.norm.weight"] = torch.ones(24)
    tensors["head.mlp.0.weight"] = torch.zeros(3, 3)
    path = tmp_path / "longvit.pth"
    torch.save({"teacher": tensors, "epoch": 3}, path)
    found = load_released(path, TINY)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found.encode(x), model.encode(x))
    del tensors["backbone.encoder.layers.1.ffn.fc1.weight"]
    torch.save({"teacher": tensors}, path)
    with pytest.raises(CheckpointError, match="missing"):
        load_released(path, TINY)


def test_published_names_of_longvit_s():
    with torch.device("meta"):
        model = LongViT(LONGVIT_SMALL)
    published = {RELEASED.to_published(name): tuple(t.shape) for name, t in model.state_dict().items()}
    assert published["model.pos_embed"] == (1, 1024, 384)
    assert published["model.patch_embed.proj.weight"] == (384, 3, 32, 32)
    assert published["model.encoder.layers.11.self_attn.inner_attn_ln.weight"] == (384,)
    assert published["model.encoder.layers.0.ffn.ffn_layernorm.bias"] == (1536,)
    assert sum(math.prod(shape) for shape in published.values()) == pytest.approx(22.9e6, rel=0.02)


def test_folder_round_trip_and_a_new_head(tmp_path):
    model = perturbed(LongViT(TINY))
    save(model, tmp_path / "model")
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path / "model")(x), model(x))
    other = LongViTConfig(task="classify", labels=("x", "y"))
    renewed = from_pretrained(str(tmp_path / "model"), other)
    assert renewed.head.weight.shape == (2, 24)
    torch.testing.assert_close(renewed.positions, model.positions)
    again = from_pretrained(str(tmp_path / "model"), LongViTConfig(task="classify", labels=("x", "y", "z")))
    torch.testing.assert_close(again.head.weight, model.head.weight)  # a head of the same shape goes on


def test_survival_loss_equals_a_loop_in_float64():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    interval = torch.randint(0, 4, (12,), generator=generator)
    event = torch.rand(12, generator=generator) < 0.5
    for row, loss in enumerate(survival_loss(logits, interval, event).tolist()):
        lived, expected = 1.0, 0.0
        y = int(interval[row])
        for k in range(4):
            hazard = 1 / (1 + math.exp(-float(logits[row, k])))
            if event[row] and k == y:
                expected = -math.log(lived) - math.log(hazard)
            lived *= 1 - hazard
            if not event[row] and k == y:
                expected = -math.log(lived)
        assert loss == pytest.approx(expected, rel=1e-12)


def test_hazards_learn_who_dies_first():
    times, events = [1.0, 2, 3, 4, 5, 6, 7, 8], [True] * 8
    bins = time_bins(times, events)
    assert interval_of(torch.tensor(times), bins).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    logits = torch.zeros(8, 4, requires_grad=True)
    for _ in range(200):
        loss = survival_loss(logits, interval_of(torch.tensor(times), bins), torch.tensor(events)).sum()
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - gradient).detach().requires_grad_()
    assert concordance_index(times, events, risk(logits).tolist()) > 0.9


def test_concordance_of_pairs_counted_by_hand():
    generator = np.random.default_rng(0)
    times = generator.integers(1, 12, 40).astype(float)
    events, risks = generator.random(40) < 0.6, generator.integers(0, 8, 40).astype(float)
    good = comparable = 0.0
    for i in range(40):
        for j in range(40):
            if i != j and events[i] and (times[i] < times[j] or (times[i] == times[j] and not events[j])):
                comparable += 1
                good += 1.0 if risks[i] > risks[j] else 0.5 if risks[i] == risks[j] else 0.0
    assert concordance_index(times, events, risks) == pytest.approx(good / comparable)


def test_times_that_cannot_be():
    with pytest.raises(InputError, match="the time of slide 2 is -1"):
        time_bins([1, -1], [True, True])
    with pytest.raises(InputError, match="at 4 different times"):
        time_bins([1, 2, 3, 4], [True, True, True, False])


def test_dino_loss_is_the_published_formula():
    generator = torch.Generator().manual_seed(0)
    student = [torch.randn(3, 5, generator=generator, dtype=torch.float32) for _ in range(4)]
    teacher = [torch.randn(3, 5, generator=generator) for _ in range(2)]
    center = torch.randn(5, generator=generator)
    total, terms = 0.0, 0
    for t in range(2):
        for s in range(4):
            if s == t:
                continue
            p = np.exp((teacher[t] - center).double().numpy() / 0.04)
            p /= p.sum(axis=1, keepdims=True)
            q = np.exp(student[s].double().numpy() / 0.1)
            q /= q.sum(axis=1, keepdims=True)
            total += -(p * np.log(q)).sum(axis=1).mean()
            terms += 1
    assert float(dino_loss(student, teacher, center, 0.1, 0.04)) == pytest.approx(total / terms, rel=1e-5)


def test_dino_moves_teacher_and_centre_only_while_training():
    model = Dino(LongViT(TINY), DinoConfig(outputs=8, inner_size=16, bottleneck=4))
    views = tuple(torch.randn(2, 3, 32, 32) for _ in range(3))
    before = model.teacher.backbone.positions.clone()
    with torch.no_grad():
        model.student.backbone.positions += 1
    model.eval()(DinoBatch(views, 0.9))
    assert torch.equal(model.teacher.backbone.positions, before)
    assert not model.center.any()
    model.train()(DinoBatch(views, 0.9)).backward()
    torch.testing.assert_close(model.teacher.backbone.positions, before + 0.1)
    assert model.center.any()
    assert all(parameter.grad is None for parameter in model.teacher.parameters())


def test_pipeline_classifies_maps_and_refuses_background():
    model = perturbed(LongViT(TINY))
    pixels = np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)
    pipeline, raster = LongVitPipeline(model, "tiny"), ImageRaster(Image.fromarray(pixels))
    result = pipeline(raster)
    assert sum(result.probabilities.values()) == pytest.approx(1)
    assert result.label in TINY.labels
    states = pipeline.states(raster)
    heat = pipeline.heatmap(states)
    assert heat.shape == (8, 8)
    assert abs(heat.sum()) < 1e-3 * np.abs(heat).sum(), "shares are against the mean"
    assert pipeline.embed(raster).shape == (24,)
    assert pipeline.occlusion(raster, cells=2).shape == (2, 2)
    with pytest.raises(InputError, match="background"):
        pipeline(ImageRaster(Image.new("RGB", (64, 64), (245, 243, 244))))
    with pytest.raises(InputError, match="does not lie in 56 x 40"):
        pipeline(raster, roi=(50, 0, 10, 10))
    with pytest.raises(InputError, match="multiple of 4"):
        pipeline(raster, size=33)
    assert background_share(pixels) < 0.1

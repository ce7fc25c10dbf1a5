"""VLMo: the image path against `BeitModel`, text and fusion against naive loops, tables, stages, losses, files."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from multiway_core import checkpoint
from multiway_core.errors import CheckpointError, InputError
from multiway_vision_language.multiway.fusion import FusionClassifier
from multiway_vision_language.multiway.masking import mask_words
from multiway_vision_language.multiway.text_first import (
    TextFirstConfig,
    TextFirstTransformer,
    position_index,
    resize_biases,
    spline_weights,
)
from multiway_vision_language.vlmo.checkpoint import canonical, load_published, read_config, rules
from multiway_vision_language.vlmo.config import BASE, PRESETS
from multiway_vision_language.vlmo.model import VLMo, train_stage
from multiway_vision_language.vlmo.objective import PairBatch, matching_loss, pretraining_loss
from torch import Tensor, nn

SMALL = dataclasses.replace(
    BASE, vocab_size=23, hidden_size=24, num_layers=4, num_heads=3, inner_size=40, image_size=12, patch_size=4,
    norm_eps=1e-3,
)  # fmt: skip
ABSOLUTE = dataclasses.replace(SMALL, relative_bias=False, layer_scale=0.0, max_text=11)
VALID = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])


def perturbed(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * 0.3 + (parameter.ndim == 1) * 0.5)
    return module.eval()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(3, 23, (2, 5), generator=generator), torch.randn(2, 3, 12, 12, generator=generator)


@pytest.mark.peer
@pytest.mark.requires("transformers.models.beit")
def test_the_image_path_equals_beit(tmp_path: Path) -> None:
    from transformers import BeitConfig, BeitModel

    peer = perturbed(
        BeitModel(
            BeitConfig(
                hidden_size=24, num_hidden_layers=4, num_attention_heads=3, intermediate_size=40, image_size=12,
                patch_size=4, layer_norm_eps=1e-3, use_relative_position_bias=True, layer_scale_init_value=0.1,
                use_mean_pooling=False, use_absolute_position_embeddings=False, use_mask_token=False,
            ),
            add_pooling_layer=False,
        )
    )  # fmt: skip
    peer.save_pretrained(tmp_path)
    tensors = checkpoint.read(tmp_path)
    own = perturbed(TextFirstTransformer(SMALL), 1)
    with torch.no_grad():
        own.type_embedding.weight.zero_()  # folded into patches and class token by VLMo; BEiT has none
        own.image_embedding.class_token.copy_(tensors["embeddings.cls_token"])
        for kind in ("weight", "bias"):
            name = f"embeddings.patch_embeddings.projection.{kind}"
            getattr(own.image_embedding.projection, kind).copy_(tensors[name])
            getattr(own.stack.norm, kind).copy_(tensors[f"layernorm.{kind}"])
        for index, layer in enumerate(own.stack.layers):
            stem = f"encoder.layer.{index}."
            attention, experts = layer.attention.part, layer.feedforward.part.experts["image"]
            places = {
                "layernorm_before": layer.attention_norm,
                "attention.attention.query": attention.query,
                "attention.attention.key": attention.key,
                "attention.attention.value": attention.value,
                "attention.output.dense": attention.output,
                "layernorm_after": layer.feedforward_norm.experts["image"],
                "intermediate.dense": experts.up,
                "output.dense": experts.down,
            }
            for name, module in places.items():
                for kind, parameter in module.named_parameters():
                    parameter.copy_(tensors[f"{stem}{name}.{kind}"])
            layer.attention.scale.copy_(tensors[stem + "lambda_1"])
            layer.feedforward.scale.copy_(tensors[stem + "lambda_2"])
            table = tensors[stem + "attention.attention.relative_position_bias.relative_position_bias_table"]
            own.bias_table[: len(table), 3 * index : 3 * index + 3] = table
        _, pixels = batch()
        expected = peer(pixels).last_hidden_state
        torch.testing.assert_close(own(pixels_BCHW=pixels).hidden_BSE, expected, atol=1e-5, rtol=1e-5)
        own.bias_table[:10] += 1.0
        assert (own(pixels_BCHW=pixels).hidden_BSE - expected).abs().max() > 1e-3


def naive(model: TextFirstTransformer, tokens: Tensor | None, pixels: Tensor | None, valid: Tensor) -> Tensor:
    """Row by row and head by head, as the paper writes it; padding is left out instead of masked."""
    config, rows = model.config, []
    count = 0 if tokens is None else tokens.shape[1]
    for b in range(2):
        parts, kinds = [], []
        if tokens is not None:
            parts.append(model.embed_text(tokens[b : b + 1])[0])
            kinds += ["text"] * count
        if pixels is not None:
            parts.append(model.embed_image(pixels[b : b + 1])[0])
            kinds += ["image"] * 10
        x = torch.cat(parts)
        keep = [i for i, kind in enumerate(kinds) if kind == "image" or bool(valid[b, i])]
        fused = tokens is not None and pixels is not None
        for index, layer in enumerate(model.stack.layers):
            attention = layer.attention.part if config.layer_scale else layer.attention
            pair = fused and index >= config.num_layers - config.pair_layers
            normed = layer.attention_norm(x)
            q, k, v = (part(normed) for part in (attention.query, attention.key, attention.value))
            mixed = torch.zeros_like(x)
            for head in range(3):
                part = slice(8 * head, 8 * head + 8)
                for i in range(len(x)):
                    scores = []
                    for j in keep:
                        score = q[i, part] @ k[j, part] / 8**0.5
                        if model.bias_table is not None:
                            score = (
                                score
                                + model.bias_table[bias_row(config, kinds, count, i, j), 3 * index + head]
                            )
                        scores.append(score)
                    weights = torch.stack(scores).softmax(0)
                    mixed[i, part] = sum(w * v[j, part] for w, j in zip(weights, keep, strict=True))
            scale = layer.attention.scale if config.layer_scale else 1.0
            x = x + scale * attention.output(mixed)
            feedforward = layer.feedforward.part if config.layer_scale else layer.feedforward
            scale = layer.feedforward.scale if config.layer_scale else 1.0
            new = []
            for i, kind in enumerate(kinds):
                expert = "pair" if pair else kind
                new.append(feedforward.experts[expert](layer.feedforward_norm.experts[expert](x[i])))
            x = x + scale * torch.stack(new)
        rows.append(model.stack.norm(x))
    return torch.stack(rows)


def bias_row(config: TextFirstConfig, kinds: list[str], text: int, i: int, j: int) -> int:
    """The row of a query's and a key's relative position, by the description of the released code."""
    grid, side = config.grid, 2 * config.grid - 1
    images = side * side + 3
    total = images + 2 + 2 * config.bias_text
    if kinds[i] != kinds[j]:
        return images if kinds[i] == "text" else images + 1
    if kinds[i] == "text":
        if i == 0 or j == 0:
            return total - 1 if i == j else (total - 3 if i == 0 else total - 2)
        return (j - i) + 194 + images + 2
    i, j = i - text, j - text
    if i == 0 or j == 0:
        return images - 1 if i == j else (images - 3 if i == 0 else images - 2)
    (y, x), (other_y, other_x) = divmod(i - 1, grid), divmod(j - 1, grid)
    return (y - other_y + grid - 1) * side + (x - other_x + grid - 1)


@pytest.mark.parametrize("config", [SMALL, ABSOLUTE], ids=["relative", "absolute"])
@torch.no_grad()
def test_text_image_and_fusion_equal_naive_loops(config: TextFirstConfig) -> None:
    model = perturbed(TextFirstTransformer(config))
    tokens, pixels = batch()
    for text, image in ((tokens, None), (None, pixels), (tokens, pixels)):
        found = model(text, image, valid_BT=None if text is None else VALID).hidden_BSE
        expected = naive(model, text, image, VALID)
        real = torch.ones(found.shape[:2], dtype=torch.bool)
        if text is not None:
            real[:, :5] = VALID
        torch.testing.assert_close(found[real], expected[real], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("pixels", "rows"), [(224, 1126), (384, 2606), (480, 3878)])
def test_tables_have_the_published_rows(pixels: int, rows: int) -> None:
    config = dataclasses.replace(BASE, image_size=pixels)
    assert config.bias_rows == rows
    index = position_index(config, 40, config.image_tokens)
    assert int(index.max()) == rows - 1
    kinds = ["text"] * 40 + ["image"] * config.image_tokens
    generator = torch.Generator().manual_seed(pixels)
    for i, j in torch.randint(0, len(kinds), (300, 2), generator=generator).tolist():
        assert int(index[i, j]) == bias_row(config, kinds, 40, i, j)


def test_longer_padding_changes_nothing() -> None:
    model = perturbed(VLMo(SMALL))
    tokens, pixels = batch()
    more = torch.cat([tokens, tokens], dim=1)
    valid = torch.cat([VALID, torch.zeros_like(VALID)], dim=1)
    with torch.no_grad():
        short = model.match(pixels, tokens, VALID)
        torch.testing.assert_close(model.match(pixels, more, valid), short, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            model.encode_texts(more, valid), model.encode_texts(tokens, VALID), atol=1e-5, rtol=1e-4
        )


@torch.no_grad()
def test_pair_contrast_runs_the_last_layers_with_the_experts_of_pairs() -> None:
    model = perturbed(VLMo(SMALL))
    tokens, pixels = batch()
    own, pair = model.both_of_texts(tokens, VALID)
    images, pair_images = model.both_of_images(pixels)
    torch.testing.assert_close(own.norm(dim=1), torch.ones(2))
    moved = copy.deepcopy(model)
    for layer in moved.backbone.stack.layers[2:]:
        for expert in ("text", "image"):
            layer.feedforward.part.experts[expert].down.weight.add_(1.0)
    again, pair_again = moved.both_of_texts(tokens, VALID)
    assert torch.equal(pair_again, pair)
    assert not torch.allclose(again, own)
    assert torch.equal(moved.both_of_images(pixels)[1], pair_images)
    assert not torch.allclose(moved.both_of_images(pixels)[0], images)


def test_stages_freeze_what_the_paper_freezes() -> None:
    model = VLMo(SMALL)

    def learning(stage: str) -> set[str]:
        train_stage(model, stage)
        return {name for name, parameter in model.named_parameters() if parameter.requires_grad}

    text = learning("text")
    assert not any(
        ".attention." in name or "experts.image" in name or "experts.pair" in name for name in text
    )
    assert any("experts.text" in name for name in text)
    assert {"backbone.bias_table", "backbone.stack.norm.weight", "words.bias"} <= text
    image = learning("image")
    assert any(".attention." in name for name in image)
    assert not any(
        "experts.text" in name or "text_embedding" in name or name.startswith("words") for name in image
    )
    assert learning("pair") == {name for name, _ in model.named_parameters()}


def test_the_loss_is_finite_and_teaches_pairs() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, norm_eps=1e-6)
    model = VLMo(config)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.arange(3, 11)[:, None].expand(8, 5).clone()
    pixels = torch.randn(8, 3, 12, 12, generator=generator)
    valid = torch.ones_like(tokens, dtype=torch.bool)
    masked = mask_words(tokens, valid, 0.15, 1, 23, (0, 1, 2), generator)
    data = PairBatch(pixels, tokens, valid, masked)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = pretraining_loss(model, data)
        losses.append(float(loss.metrics["contrast"]))
        (loss.total / loss.weight).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert set(loss.metrics) == {"contrast", "pair_contrast", "matching", "words"}
    assert 1.5 < losses[0] < 4  # ln 8 is 2.1; the scale of 14 makes chance worse
    assert losses[-1] < 0.3 * losses[0]
    alone = PairBatch(pixels[:1], tokens[:1], valid[:1])
    with pytest.raises(InputError, match="two items"):
        matching_loss(model, alone, torch.ones(2, 1, 1))


def test_a_released_file_comes_back_whole(tmp_path: Path) -> None:
    model = perturbed(VLMo(SMALL))
    table = rules(SMALL)
    tensors: dict[str, Tensor] = {}
    own = model.state_dict()
    for name, tensor in own.items():
        if ".attention.part." in name and ".output." not in name:
            continue
        tensors["module." + table.to_published(name)] = tensor
    for index in range(4):
        stem, theirs = (
            f"backbone.stack.layers.{index}.attention.part.",
            f"module.transformer.blocks.{index}.attn.",
        )
        tensors[theirs + "qkv.weight"] = torch.cat(
            [own[stem + f"{n}.weight"] for n in ("query", "key", "value")]
        )
        tensors[theirs + "q_bias"], tensors[theirs + "v_bias"] = (
            own[stem + "query.bias"],
            own[stem + "value.bias"],
        )
    tensors["module.relative_position_index"] = torch.zeros(2)
    path = tmp_path / "vlmo_tiny.pt"
    torch.save({"module": tensors}, path)
    found = canonical(checkpoint.read(path))
    config = read_config(found, path)
    assert dataclasses.replace(config, norm_eps=1e-3) == SMALL
    again = load_published(VLMo(SMALL), path)
    assert all(torch.equal(tensor, own[name]) for name, tensor in again.state_dict().items())
    larger = load_published(FusionClassifier(dataclasses.replace(SMALL, image_size=20), 2, pictures=2), path)
    assert torch.equal(larger.backbone.type_embedding.weight[2], own["backbone.type_embedding.weight"][1])
    with pytest.raises(CheckpointError, match="no VLMo"):
        read_config({}, path)


def test_biases_are_interpolated_over_geometric_places() -> None:
    ratio = (13**0.5 - 1) / 2  # 1 + r + r^2 = 4
    places = torch.tensor([-4, -1 - ratio, -1, 0, 1, 1 + ratio, 4])
    rows = places[:, None].expand(7, 7).flatten()
    table = torch.cat([torch.stack([rows, -rows], 1), torch.ones(6, 2)])
    assert torch.equal(resize_biases(table, 4, 4), table)
    grown = resize_biases(table, 4, 5)
    assert torch.equal(grown[81:], table[49:])
    expected = torch.arange(-4.0, 5)[:, None].expand(9, 9)
    torch.testing.assert_close(grown[:81, 0].view(9, 9), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(grown[:81, 1], -grown[:81, 0])
    with pytest.raises(InputError, match="2 x 2 patches are too few"):
        resize_biases(table, 2, 5)


@pytest.mark.peer
@pytest.mark.requires("scipy")
def test_splines_equal_scipys() -> None:
    from scipy.interpolate import RectBivariateSpline

    generator = torch.Generator().manual_seed(0)
    places = torch.rand(9, generator=generator, dtype=torch.float64).cumsum(0)
    wanted = torch.linspace(float(places[0]), float(places[-1]), 21, dtype=torch.float64)
    values = torch.randn(9, 9, generator=generator, dtype=torch.float64)
    weights = spline_weights(places, wanted)
    expected = RectBivariateSpline(places.numpy(), places.numpy(), values.numpy(), s=0)(wanted, wanted)
    torch.testing.assert_close(weights @ values @ weights.T, torch.from_numpy(expected))


@pytest.mark.parametrize(("name", "millions"), [("base", 175), ("base_plus", 167), ("large", 562)])
def test_sizes_are_near_the_published_ones(name: str, millions: int) -> None:
    with checkpoint.on_meta():
        model = TextFirstTransformer(PRESETS[name])
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)

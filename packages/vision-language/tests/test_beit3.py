"""BEiT-3 against torchscale: the trunk in its three modes, the five heads, released files, positions, layer decay."""

from __future__ import annotations

import copy
import dataclasses
import importlib
from pathlib import Path

import pytest
import torch
from multiway_core import checkpoint
from multiway_core.errors import CheckpointError, InputError
from multiway_core.tensor_names import RuleTable
from multiway_vision_language.beit3.checkpoint import (
    BACKBONE,
    find_task,
    load_published,
    new_model,
    read_config,
    wrong_task,
)
from multiway_vision_language.beit3.config import PRESETS, TINY
from multiway_vision_language.multiway.embeddings import resize_grid
from multiway_vision_language.multiway.experts import layer_decay
from multiway_vision_language.multiway.model import MultiwayTransformer
from torch import Tensor

released = importlib.import_module("packages.vision-language.tests.released_beit3")
LABELS, TEXT = 7, 6
TASKS = ("retrieval", "vqa", "nlvr2", "caption", "imagenet")


@pytest.fixture(scope="module")
def classes():
    with released.torchscale() as found:
        yield found


def inputs(pictures: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(2, pictures, 3, released.SIZE, released.SIZE, generator=generator)
    tokens = torch.randint(0, released.WORDS, (2, TEXT), generator=generator)
    padding = torch.zeros(2, TEXT, dtype=torch.bool)
    padding[0, 4:] = True
    return pixels, tokens, padding


def eps_of(model, eps: float):
    """The released files do not hold it; the trunk's is set here so that a default would be noticed."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.LayerNorm) and name.startswith("backbone."):
            module.eps = eps
    return model


@pytest.fixture(scope="module")
def pair(classes) -> tuple[torch.nn.Module, MultiwayTransformer]:
    """The peer's trunk and ours, with equal weights."""
    torch.manual_seed(0)
    peer = released.trunk(classes)
    tensors = {f"beit3.{name}": tensor for name, tensor in peer.state_dict().items()}
    config = read_config(tensors, Path("x.pth"), num_heads=released.HEADS)
    own = MultiwayTransformer(dataclasses.replace(config, norm_eps=released.EPS))
    holder = torch.nn.ModuleDict({"backbone": own})
    checkpoint.load(holder, Path("x.pth"), rules=RuleTable(BACKBONE), tensors=tensors)
    return peer, own.eval()


MODES = ("image", "text", "pair", "masked image")


def differences(peer, own) -> dict[str, float]:
    """The largest difference in every mode."""
    pixels, tokens, padding = inputs()
    picture, hidden = pixels[:, 0], torch.arange(9).expand(2, 9) % 3 == 1
    found = {}
    with torch.no_grad():
        for mode in MODES:
            text = tokens if mode in ("text", "pair") else None
            seen = picture if mode != "text" else None
            masked = hidden if mode == "masked image" else None
            expected = peer(
                text,
                seen,
                text_padding_position=None if text is None else padding,
                vision_masked_position=masked,
            )
            read = own(text, seen, valid_BT=~padding, hidden_patches_BN=masked)
            assert read.split == (0 if seen is None else 10)
            found[mode] = float((read.hidden_BSE - expected["encoder_out"]).abs().max())
    return found


@pytest.mark.peer
def test_the_trunk_equals_torchscale_in_all_modes(pair) -> None:
    assert max(differences(*pair).values()) < 1e-5


@pytest.mark.peer
@pytest.mark.parametrize(
    ("mistake", "modes"),
    [
        ("positions count from 0", {"image", "text", "pair", "masked image"}),
        ("experts exchanged", {"image", "text", "pair", "masked image"}),
        ("eps", {"image", "text", "pair", "masked image"}),
        ("no inner norm", {"image", "text", "pair", "masked image"}),
        ("mask token", {"masked image"}),
    ],
)
def test_planted_mistakes_are_seen(pair, mistake: str, modes: set[str]) -> None:
    peer, own = pair[0], copy.deepcopy(pair[1])
    layer = own.stack.layers[1]
    with torch.no_grad():
        if mistake == "positions count from 0":
            for table in (own.image_positions, own.text_positions):
                table.weight.copy_(table.weight.roll(1, 0))
        elif mistake == "experts exchanged":
            experts = layer.attention.value.experts
            experts["image"], experts["text"] = experts["text"], experts["image"]
        elif mistake == "eps":
            eps_of(torch.nn.ModuleDict({"backbone": own}), 1e-5)
        elif mistake == "no inner norm":
            layer.attention.norm.experts["image"] = layer.attention.norm.experts["text"] = torch.nn.Identity()
        else:
            own.image_embedding.mask_token.mul_(2.0)
    assert {mode for mode, worst in differences(peer, own).items() if worst > 1e-4} == modes


@pytest.mark.peer
@pytest.mark.parametrize("task", TASKS)
def test_released_files_of_every_task(classes, tmp_path: Path, task: str) -> None:
    torch.manual_seed(2)
    peer = released.trunk(classes, final_norm=task not in ("vqa", "imagenet"))
    top = released.head(task, LABELS if task != "nlvr2" else 2)
    tensors = {f"beit3.{name}": tensor for name, tensor in peer.state_dict().items()} | top.state_dict()
    path = tmp_path / f"beit3_{task}.pth"
    torch.save({"model": tensors}, path)
    model = eps_of(load_published(path, num_heads=released.HEADS), released.EPS)
    assert find_task(tensors) == task
    pixels, tokens, padding = inputs()
    with torch.no_grad():
        expected = released.scores(task, peer, top, pixels, tokens, padding)
        if task == "imagenet":
            found = model(pixels[:, 0])
        else:
            found = model(pixels if task in ("vqa", "nlvr2") else pixels[:, 0], tokens, ~padding)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.peer
def test_a_trunk_takes_a_new_head_and_another_resolution(classes, tmp_path: Path) -> None:
    peer = released.trunk(classes)
    path = tmp_path / "beit3_base_patch16_224.pth"
    torch.save({"model": {f"beit3.{n}": t for n, t in peer.state_dict().items()}}, path)
    with pytest.raises(CheckpointError, match=r"no head for any task.*pre-trained.*480_vqa\.pth \(vqa\)"):
        load_published(path, num_heads=3)
    model = load_published(path, "vqa", labels=5, image_size=20, num_heads=3)
    assert model.config.image_tokens == 26
    assert model(torch.zeros(1, 1, 3, 20, 20), torch.tensor([[1, 2]])).shape == (1, 5)
    kept = model.state_dict()["backbone.image_positions.weight"]
    torch.testing.assert_close(kept[:3], peer.state_dict()["encoder.embed_positions.A.weight"][:3])
    with pytest.raises(InputError, match=r"this model takes \(B, 3, 20, 20\)"):
        model(torch.zeros(1, 1, 3, 12, 12), torch.tensor([[1, 2]]))


def test_positions_are_interpolated_as_a_picture() -> None:
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    table = torch.cat([torch.full((3, 2), 9.0), torch.stack([rows, columns], -1).flatten(0, 1)])
    assert torch.equal(resize_grid(table, 3, 4), table)
    grown = resize_grid(table, 3, 8)[3:].unflatten(0, (8, 8))
    assert resize_grid(table, 3, 8)[:3].eq(9).all()
    torch.testing.assert_close(grown[3:5, :, 0].mean(), torch.tensor(1.5))
    assert (grown[:, :, 1].diff(dim=1) > 0).all()  # columns stay columns
    torch.testing.assert_close(grown[:, :, 0], grown[:, :, 1].T)
    with pytest.raises(InputError, match="no square"):
        resize_grid(table[:-1], 3, 8)


def test_layer_decay_reaches_every_parameter_once() -> None:
    model = new_model(TINY, "vqa", 3)
    ratios = layer_decay(TINY, 0.5, backbone="backbone")
    from multiway_core.training import TrainConfig
    from multiway_core.training.config import learning_rate_ratio

    config = TrainConfig(steps=1, learning_rate=1, learning_rate_ratios=ratios)
    found = {name: learning_rate_ratio(name, config) for name, _ in model.named_parameters()}
    assert found["backbone.text_embedding.weight"] == found["backbone.image_positions.weight"] == 0.125
    assert found["backbone.image_embedding.class_token"] == 0.125
    assert {r for n, r in found.items() if "layers.0." in n} == {0.25}
    assert {r for n, r in found.items() if "layers.1." in n} == {0.5}
    assert {r for n, r in found.items() if not n.startswith("backbone")} == {1.0}


@pytest.mark.parametrize(("name", "millions"), [("base", 220.99), ("large", 672.70)], ids=["base", "large"])
def test_sizes_are_the_published_ones(name: str, millions: float) -> None:
    with checkpoint.on_meta():
        model = MultiwayTransformer(PRESETS[name])
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_giant_has_experts_for_pairs_on_top() -> None:
    with checkpoint.on_meta():
        model = MultiwayTransformer(PRESETS["giant"])
    names = model.state_dict()
    assert "stack.layers.37.feedforward.experts.pair.up.weight" in names
    assert "stack.layers.36.feedforward.experts.pair.up.weight" not in names
    assert "stack.layers.0.attention.query.weight" in names  # shared
    assert 1.8e9 < sum(p.numel() for p in model.parameters()) < 1.95e9


def test_errors_say_which_file_is_for_what(tmp_path: Path) -> None:
    assert wrong_task("my.pth", "vqa", "caption") == (
        "my.pth is a model for vqa, not for caption; released for caption: "
        "beit3_base_patch16_480_coco_captioning.pth (CIDEr 133.6 on COCO), "
        "beit3_large_patch16_480_coco_captioning.pth (CIDEr 143.2 on COCO), "
        "beit3_base_patch16_480_nocaps.pth (CIDEr 104.4 on NoCaps), "
        "beit3_large_patch16_480_nocaps.pth (CIDEr 120.2 on NoCaps)"
    )
    path = tmp_path / "other.pth"
    torch.save({"model": {"a": torch.zeros(1)}}, path)
    with pytest.raises(CheckpointError, match="no BEiT-3"):
        load_published(path, "vqa", labels=2)
    torch.save({"model": torch.nn.Linear(1, 1)}, path)  # a pickle with code
    with pytest.raises(CheckpointError):
        load_published(path)
    backbone = MultiwayTransformer(TINY)
    with pytest.raises(InputError, match="neither"):
        backbone()
    with pytest.raises(InputError, match="63 text tokens; this model has positions for 62"):
        backbone(torch.zeros(1, 63, dtype=torch.long))

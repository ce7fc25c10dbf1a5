"""Our folders and the released layout: names, shapes, both ways to the last byte, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from multiway_core import config
from multiway_core.errors import CheckpointError, ConfigError
from multiway_event_vision.ssla_det import checkpoint
from multiway_event_vision.ssla_det.config import PRESETS, SslaDetConfig
from multiway_event_vision.ssla_det.model import build
from torch import Tensor

PARAMETERS = {"ssla-s": 0.508, "ssla-b": 0.903, "ssla-m": 2.03, "ssla-l": 3.61}


def released_shapes(widths: tuple[int, ...], classes: int) -> dict[str, tuple[int, ...]]:
    """Every tensor of the released layout but its index tables."""
    shapes: dict[str, tuple[int, ...]] = {}
    before = 2
    for level, d in enumerate(widths):
        for layer, c in enumerate((before, d)):
            k = 1 if (level, layer) == (0, 0) else 9
            name = f"backbone.{4 * level + layer}."
            shapes |= {
                f"{name}scatter_conv_weights": (k, d * c),
                f"{name}gather_conv_weights": (k, d * d),
                **{f"{name}{p}_proj.weight": (d, d) for p in "qvgo"},
                f"{name}norm.weight": (d,),
                f"{name}norm.bias": (d,),
            }
            if c != d:
                shapes[f"{name}input_proj.weight"] = (d, c)
        before = d
    d = widths[-1]
    for branch in ("cls", "reg"):
        shapes |= {f"head.{branch}_convs.0.0.weight": (d, d, 1, 1), f"head.{branch}_convs.0.0.bias": (d,)}
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"head.{branch}_convs.0.1.{name}"] = (d,)
        shapes[f"head.{branch}_convs.0.1.num_batches_tracked"] = ()
    for name, size in (("cls", classes), ("reg", 4), ("obj", 1)):
        shapes |= {f"head.{name}_preds.0.weight": (size, d, 1, 1), f"head.{name}_preds.0.bias": (size,)}
    return shapes


def released_state(widths: tuple[int, ...] = (12, 24, 48, 96), classes: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator) if shape else torch.tensor(7)
        for name, shape in released_shapes(widths, classes).items()
    }


def assert_same_bytes(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert tensor.dtype == b[name].dtype
        assert torch.equal(tensor, b[name]), name


@pytest.mark.parametrize("preset", PARAMETERS)
def test_published_sizes(preset: str) -> None:
    model = build(PRESETS[preset])
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters / 1e6 == pytest.approx(PARAMETERS[preset], rel=0.003)
    shapes = {name: tuple(tensor.shape) for name, tensor in checkpoint.published_state(model).items()}
    assert shapes == released_shapes(PRESETS[preset].widths, 2)


def test_released_file_both_ways(tmp_path: Path) -> None:
    state = released_state(classes=101)
    tables = {
        "backbone.0.patch2pixel_lut": torch.zeros(12, 1, dtype=torch.int64),
        "backbone.0.patch_outcoord": torch.zeros(12, 2, dtype=torch.int32),
        "backbone.2.rf2pixel_lut": torch.zeros(3, 4, dtype=torch.int64),
        "backbone.3.max_events_per_rf": torch.tensor(4),
    }
    path = tmp_path / "small.ckpt"
    torch.save({"epoch": 3, "state_dict": state | tables, "ema_state_dict": state}, path)
    model = checkpoint.load_published(path)
    assert model.config.widths == (12, 24, 48, 96)
    assert (model.config.num_classes, model.config.readout) == (101, "end-anchored")
    assert_same_bytes(checkpoint.published_state(model), state)
    assert_same_bytes(
        checkpoint.published_state(checkpoint.load_published(path, key="ema_state_dict")), state
    )
    # Position 1 of the first layer of level 1 that has nine: row 1, seen as (D, C).
    scatter = state["backbone.4.scatter_conv_weights"].view(9, 24, 12)
    assert torch.equal(model.levels[1][0].scatter[24:48], scatter[1])

    checkpoint.save_published(model, tmp_path / "again.ckpt", sensor=(7, 9))
    again = torch.load(tmp_path / "again.ckpt", weights_only=True)["state_dict"]
    assert again["backbone.4.patch2pixel_lut"].shape == (4 * 5, 9)
    assert_same_bytes(checkpoint.published_state(checkpoint.load_published(tmp_path / "again.ckpt")), state)


def test_index_table_of_a_layer() -> None:
    # A frame of 2 x 3; the space of pixel 0 lies at a corner. Positions run row by row inside the space.
    table = checkpoint.pixels_of_spaces(2, 3, 3)
    assert table[0].tolist() == [-1, -1, -1, -1, 0, 1, -1, 3, 4]
    assert table[4].tolist() == [0, 1, 2, 3, 4, 5, -1, -1, -1]


def test_our_folder(tmp_path: Path) -> None:
    model = build(SslaDetConfig((6, 8), num_classes=3, class_names=("car", "bus", "tram")), seed=5)
    checkpoint.save(model, tmp_path / "model")
    again = checkpoint.load(tmp_path / "model")
    assert again.config.names == ("car", "bus", "tram")
    assert again.config == model.config
    assert_same_bytes(again.state_dict(), model.state_dict())
    assert not again.training


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widths": []}, "widths must be positive"),
        ({"space_size": 4}, "space_size must be odd, not 4"),
        ({"thinning": 0}, "at least 1"),
        ({"merge_ties": True}, 'needs readout "end-anchored"'),
        ({"readout": "newest"}, "readout"),
        ({"class_names": ["car"]}, "1 class_names for 2 classes"),
    ],
)
def test_config_that_cannot_work(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.from_dict(SslaDetConfig, values, where="config.json")


def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    state = released_state()
    del state["backbone.5.q_proj.weight"]
    state["backbone.5.k_proj.weight"] = torch.zeros(24, 24)
    state["backbone.8.norm.bias"] = torch.zeros(5)
    state["backbone.9.scatter_conv_weights"] = torch.zeros(9, 5)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.from_published(state, where="file.ckpt")
    assert caught.value.missing == ("backbone.5.q_proj.weight",)
    assert caught.value.unexpected == ("backbone.5.k_proj.weight",)
    assert [line.split(":")[0] for line in caught.value.misshaped] == [
        "backbone.8.norm.bias",
        "backbone.9.scatter_conv_weights",
    ]
    with pytest.raises(CheckpointError, match=r"file.ckpt: lacks backbone.0.norm.weight"):
        checkpoint.from_published({}, where="file.ckpt")
    with pytest.raises(CheckpointError, match="spaces of 3x3"):
        checkpoint.published_state(build(SslaDetConfig((4, 6), space_size=5)))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("executed",)

    path = tmp_path / "bomb.ckpt"
    torch.save({"state_dict": released_state(), "callbacks": Bomb()}, path)
    with pytest.raises(CheckpointError):
        checkpoint.load_published(path)

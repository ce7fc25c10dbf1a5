"""Our model folders, and the checkpoints of the released code (PyTorch Lightning ``.ckpt`` with ``state_dict``).

The released names count backbone modules: 0, 1 layers; 2 pool; 3 thinning; 4, 5 layers; 6 pool; 7 thinning; ... Index
tables of the released code (`patch2pixel_lut` and the like) say nothing that a frame's size does not: they are dropped
when read, and those of the layers written again. Files are never unpickled beyond tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from multiway_core import checkpoint, model_folder
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError
from multiway_core.files import atomic_write
from torch import Tensor

from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.layer import SslaLayer
from multiway_event_vision.ssla_det.model import SslaDet, build
from multiway_event_vision.ssla_det.spaces import Place, touched

PUBLISHED_KEY = "state_dict"
MODULES_PER_LEVEL = 4
"""Two layers, a pool, a thinning."""

_LAYER = {
    "scatter_conv_weights": "scatter",
    "gather_conv_weights": "gather",
    "q_proj.weight": "query.weight",
    "v_proj.weight": "value.weight",
    "g_proj.weight": "gate.weight",
    "o_proj.weight": "output.weight",
    "input_proj.weight": "residual.weight",
    "norm.weight": "norm.weight",
    "norm.bias": "norm.bias",
}
_HEAD = {
    "cls_convs.0.0.{kind}": "class_branch.convolution.{kind}",
    "cls_convs.0.1.{kind}": "class_branch.norm.{kind}",
    "reg_convs.0.0.{kind}": "box_branch.convolution.{kind}",
    "reg_convs.0.1.{kind}": "box_branch.norm.{kind}",
    "cls_preds.0.{kind}": "classes.{kind}",
    "reg_preds.0.{kind}": "boxes.{kind}",
    "obj_preds.0.{kind}": "objectness.{kind}",
}
_INDEX_TABLES = ("patch2pixel_lut", "patch_outcoord", "max_events_per_rf", "rf2pixel_lut", "rf_outcoord")


def save(model: SslaDet, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors``. Raises OutputError."""
    model_folder.save(model, model.config, folder, dtype=dtype)


def load(folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> SslaDet:
    """The model in a folder that :func:`save` wrote, in evaluation mode. Raises ConfigError, CheckpointError."""
    return model_folder.load(SslaDet, SslaDetConfig, folder, dtype=dtype, device=device)


def published_rules(levels: int) -> RuleTable:
    """From the released names to ours, for a backbone of so many levels; also the way back."""
    rules = [
        Rule(f"backbone.{MODULES_PER_LEVEL * level + layer}.{theirs}", f"levels.{level}.{layer}.{ours}")
        for level in range(levels)
        for layer in range(2)
        for theirs, ours in _LAYER.items()
    ]
    rules += [Rule(f"head.{theirs}", f"head.{ours}") for theirs, ours in _HEAD.items()]
    return RuleTable(rules, dropped=[f"backbone.{{module}}.{name}" for name in _INDEX_TABLES])


def config_of_published(tensors: Mapping[str, Tensor], *, where: str) -> SslaDetConfig:
    """The config that the shapes tell. Raises CheckpointError.

    Released weights were trained with thinning from a window's end and ties merged; with readout "commit-peek" (see
    `dataclasses.replace`) they run in a stream, as an approximation.
    """
    widths: list[int] = []
    while (norm := tensors.get(f"backbone.{MODULES_PER_LEVEL * len(widths)}.norm.weight")) is not None:
        widths.append(len(norm))
    classes = tensors.get("head.cls_preds.0.weight")
    if not widths or classes is None:
        lacks = "head.cls_preds.0.weight" if widths else "backbone.0.norm.weight"
        raise CheckpointError(f"{where}: lacks {lacks}, which every SSLA-Det checkpoint has")
    return SslaDetConfig(tuple(widths), num_classes=len(classes), readout="end-anchored", merge_ties=True)


def load_published(path: Path, *, key: str = PUBLISHED_KEY) -> SslaDet:
    """The model of a released checkpoint, in evaluation mode.

    key: "state_dict", or "ema_state_dict" where the averaged weights were saved.

    Raises CheckpointError; one that lists all missing, unexpected and mis-shaped tensors if they do not fit.
    """
    return from_published(checkpoint.read(path, key), where=str(path))


def from_published(tensors: Mapping[str, Tensor], *, where: str = "state_dict") -> SslaDet:
    """As :func:`load_published`, from tensors by released names."""
    model = build(config_of_published(tensors, where=where))
    rules = published_rules(model.config.num_levels)
    targets = model.state_dict()
    ours: dict[str, Tensor] = {}
    unexpected = []
    for published, tensor in tensors.items():
        try:
            name = rules.to_ours(published)
        except CheckpointError:
            unexpected.append(published)
            continue
        if name is None:
            continue
        if (
            name.endswith((".scatter", ".gather"))
            and name in targets
            and tensor.numel() == targets[name].numel()
        ):
            tensor = tensor.reshape(targets[name].shape)  # (K, D · C) there, (K · D, C) here
        ours[name] = tensor
    unexpected += [rules.to_published(name) for name in ours if name not in targets]
    missing = [rules.to_published(name) for name in targets if name not in ours]
    misshaped = [
        f"{rules.to_published(name)}: file has {list(ours[name].shape)}, model needs {list(target.shape)}"
        for name, target in targets.items()
        if name in ours and ours[name].shape != target.shape
    ]
    if missing or unexpected or misshaped:
        raise CheckpointError(
            f"{where} does not fit SSLA-Det", missing=missing, unexpected=unexpected, misshaped=misshaped
        )
    model.load_state_dict(ours)
    return model.eval()


def published_state(model: SslaDet, *, sensor: tuple[int, int] | None = None) -> dict[str, Tensor]:
    """The model's tensors by released names and shapes.

    sensor: (height, width) in pixels: the layers' index tables for this sensor are added then. Those of pools and
    thinnings are not; the released code has to be told to do without (``strict=False``).

    Raises CheckpointError: the released code knows no such layers.
    """
    if model.config.space_size != 3:
        raise CheckpointError(f"the released code has spaces of 3x3 pixels, not {model.config.space_size}")
    rules = published_rules(model.config.num_levels)
    state = model.state_dict()
    for prefix, layer in model.named_modules():
        if isinstance(layer, SslaLayer):
            for name in (f"{prefix}.scatter", f"{prefix}.gather"):
                state[name] = state[name].reshape(layer.size**2, -1)
    state = {rules.to_published(name): tensor for name, tensor in state.items()}
    if sensor is not None:
        for level in range(model.config.num_levels):
            height, width = model.config.frame(level, *sensor)
            for layer, (_, _, size) in enumerate(model.config.layers(level)):
                prefix = f"backbone.{MODULES_PER_LEVEL * level + layer}"
                state[f"{prefix}.patch2pixel_lut"] = pixels_of_spaces(height, width, size)
                state[f"{prefix}.patch_outcoord"] = torch.zeros(height * width, 2, dtype=torch.int32)
    return state


def save_published(model: SslaDet, path: Path, *, sensor: tuple[int, int] | None = None) -> None:
    """Write a ``.ckpt`` in the released layout. Raises CheckpointError, OutputError."""
    state = published_state(model, sensor=sensor)
    with atomic_write(path) as file:
        torch.save({PUBLISHED_KEY: state}, file)


def pixels_of_spaces(height: int, width: int, size: int) -> Tensor:
    """(height · width, K) int64: the pixel at each position of each space, -1 outside of the frame."""
    cell = torch.arange(height * width)
    place = Place(torch.zeros_like(cell), cell // width, cell % width, height, width)
    # Pixel p has position π in space s; seen from s, position π mirrored through the centre holds p.
    return touched(place, size).flip(1)

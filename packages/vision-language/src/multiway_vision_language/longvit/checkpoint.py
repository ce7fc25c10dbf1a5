"""LongViT's files: folders of ours, and the released checkpoints by their names there.

`longvit_small_patch32_1024.pth` is what DINO's training wrote: the weights lie under ``teacher``, with ``backbone.``
before the names, beside a projection head. Fine-tuned models have ``model.`` there, and ``fc_norm`` and ``head``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from multiway_blocks.transformer.torchscale_names import torchscale_layers
from multiway_core import checkpoint, hub, model_folder
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError
from torch import Tensor

from multiway_vision_language.longvit.config import LONGVIT_SMALL, LongViTConfig
from multiway_vision_language.longvit.model import LongViT

RELEASED = RuleTable(
    [
        Rule("model.patch_embed.proj.{kind}", "patch_embedding.{kind}"),
        Rule("model.pos_embed", "positions"),
        *torchscale_layers("model.encoder.", "encoder."),
        Rule("fc_norm.{kind}", "norm.{kind}"),
        Rule("head.{kind}", "head.{kind}"),
    ],
    dropped=(
        "model.norm.{kind}",
    ),  # of the teacher: the mean's norm in pre-training, which fine-tuning makes anew
)
"""Names of the released models for fine-tuning."""
NEW_HEAD = ("norm.{kind}", "head.{kind}")


def save(model: LongViT, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors``. Raises OutputError."""
    model_folder.save(model, model.config, folder, dtype=dtype)


def load(folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> LongViT:
    """The model in a folder that :func:`save` wrote, in evaluation mode. Raises ConfigError, CheckpointError."""
    return model_folder.load(LongViT, LongViTConfig, folder, dtype=dtype, device=device)


def load_released(path: Path, config: LongViTConfig = LONGVIT_SMALL) -> LongViT:
    """The model whose weights a released file holds (DINO's, or a fine-tuned one's), in float32, evaluation mode.

    A head that the file lacks is new. Raises CheckpointError.
    """
    tensors = _released_names(path)
    model = LongViT(config)
    table = tensors.get("model.pos_embed")
    if table is not None and table.ndim == 3 and table.shape != model.positions.shape:
        side = round(table.shape[1] ** 0.5)
        if side * side == table.shape[1]:  # a model of another size has a larger table of its own
            model = LongViT(dataclasses.replace(config, image_size=side * config.patch_size))
    checkpoint.load(model, path, rules=RELEASED, dtype=torch.float32, tensors=tensors, optional=NEW_HEAD)
    return model.eval()


def from_pretrained(name: str, config: LongViTConfig | None = None) -> LongViT:
    """The model of a bundled or other folder, or of a released file; ``config``: with this head instead of its own.

    As in ``timm``, a norm and a head whose shapes stay the same go on from their weights; others are new. Raises
    ModelNotFoundError, ConfigError, CheckpointError.
    """
    path = hub.resolve(name)
    if path.is_file():
        return load_released(path, LONGVIT_SMALL if config is None else _with_head(LONGVIT_SMALL, config))
    model = load(path)
    if config is None:
        return model
    renewed = LongViT(_with_head(model.config, config))
    wanted = renewed.state_dict()
    own = {key: value for key, value in model.state_dict().items() if key in wanted}
    if any(own[key].shape != wanted[key].shape for key in own if key.startswith(("norm.", "head."))):
        own = {key: value for key, value in own.items() if not key.startswith(("norm.", "head."))}
    checkpoint.load(renewed, path, tensors=own, optional=NEW_HEAD)
    return renewed


def _with_head(base: LongViTConfig, wanted: LongViTConfig) -> LongViTConfig:
    return dataclasses.replace(
        base,
        task=wanted.task,
        labels=wanted.labels,
        time_bins=wanted.time_bins,
        input_size=wanted.input_size,
        drop_path=wanted.drop_path,
    )


def _released_names(path: Path) -> Mapping[str, Tensor]:
    """The file's tensors under the names of the models for fine-tuning, without DINO's projection head."""
    for key in ("teacher", "model", None):
        try:
            tensors = checkpoint.read(path, key)
            break
        except CheckpointError:
            if key is None:
                raise
    names = {name.removeprefix("module."): value for name, value in tensors.items()}
    if not any(name.startswith("backbone.") for name in names):
        return names
    return {
        "model." + name.removeprefix("backbone."): value
        for name, value in names.items()
        if name.startswith("backbone.")
    }

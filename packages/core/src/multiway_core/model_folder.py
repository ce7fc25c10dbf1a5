"""A model of ours as a folder: `config.json` and `model.safetensors`.

Systems with a published layout of their own read and write that in their `checkpoint.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from multiway_core import checkpoint, config

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"

Model = TypeVar("Model", bound=nn.Module)
Config = TypeVar("Config")


def save(
    model: nn.Module,
    model_config: Any,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    rules: checkpoint.RuleTable | None = None,
) -> None:
    """Write the tensors of `model`, all floating-point ones as `dtype`, and the dataclass that it was built from.

    rules: between the file's names and the model's. Raises OutputError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model, folder, dtype=dtype, rules=rules)
    config.save(model_config, folder / CONFIG_FILE)


def load(
    build: Callable[[Config], Model],
    config_class: type[Config],
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    rules: checkpoint.RuleTable | None = None,
) -> Model:
    """The model in a folder that `save` wrote, in evaluation mode. Raises ConfigError, CheckpointError."""
    with checkpoint.on_meta():
        model = build(config.load(config_class, folder / CONFIG_FILE))
    checkpoint.load(model, folder / WEIGHTS_FILE, rules=rules, dtype=dtype, device=device)
    return model.to(device).eval()

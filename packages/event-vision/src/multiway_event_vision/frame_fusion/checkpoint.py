"""Our model folders."""

from __future__ import annotations

from pathlib import Path

import torch
from multiway_core import model_folder

from multiway_event_vision.frame_fusion.config import FusionConfig
from multiway_event_vision.frame_fusion.model import FrameFusion


def save(model: FrameFusion, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write `config.json` and `model.safetensors`. Raises OutputError."""
    model_folder.save(model, model.config, folder, dtype=dtype)


def load(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> FrameFusion:
    """The model in a folder that `save` wrote, in evaluation mode. Raises ConfigError, CheckpointError."""
    return model_folder.load(FrameFusion, FusionConfig, folder, dtype=dtype, device=device)

"""Our model folders. The authors published neither code nor weights."""

from __future__ import annotations

from pathlib import Path

import torch
from multiway_core import model_folder

from multiway_event_vision.time_replayer.config import TimeReplayerConfig
from multiway_event_vision.time_replayer.model import TimeReplayer


def save(model: TimeReplayer, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write `config.json` and `model.safetensors`. Raises OutputError."""
    model_folder.save(model, model.config, folder, dtype=dtype)


def load(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> TimeReplayer:
    """The model in a folder that `save` wrote, in evaluation mode. Raises ConfigError, CheckpointError."""
    return model_folder.load(TimeReplayer, TimeReplayerConfig, folder, dtype=dtype, device=device)

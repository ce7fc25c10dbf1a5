"""A model as a folder: ``config.json`` and ``model.safetensors``. The authors published no weights to read."""

from __future__ import annotations

from pathlib import Path

import torch
from multiway_core import checkpoint, model_folder

from multiway_text.checkpoint_files import OWN_NAMES, check_layers, read_config, require_finite
from multiway_text.decoders.mh_moe.config import MHMoEConfig
from multiway_text.decoders.mh_moe.model import MHMoE


def save(model: MHMoE, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write both files. Raises OutputError."""
    model_folder.save(model, model.config, Path(folder), dtype=dtype, rules=OWN_NAMES)


def load(folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> MHMoE:
    """The model in evaluation mode.

    Raises ConfigError, CheckpointError, and InputError for sizes that do not fit or weights that are not finite.
    """
    weights = Path(folder) / model_folder.WEIGHTS_FILE
    own = read_config(MHMoEConfig, Path(folder) / model_folder.CONFIG_FILE)
    check_layers(weights, own.num_layers, checkpoint.read(weights))
    with checkpoint.on_meta():
        model = MHMoE(own)
    checkpoint.load(model, weights, rules=OWN_NAMES, dtype=dtype, device=device)
    require_finite(weights, model)
    return model.to(device).eval()

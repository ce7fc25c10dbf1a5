"""A photo encoder's folder: ``config.json`` and int8 weights with a scale for each output."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from multiway_blocks.kernels.int8_encoder.layout import dequantize, quantize
from multiway_core import checkpoint, config, files, hub
from multiway_core.errors import CheckpointError
from torch import Tensor

from multiway_vision_language.photo_search.config import PhotoConfig
from multiway_vision_language.photo_search.model import PhotoEncoder

MODEL_TYPE = "photo-search"
_SCALE = ".scale"
_FILE_BYTES = 15_900_000
_FILES = ("config.json", "*.safetensors")


def save(model: PhotoEncoder, folder: Path) -> None:
    """Write the folder; matrices and filters become int8, the rest stays float32. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if tensor.ndim < 2:
            tensors[name] = tensor.float().contiguous()
            continue
        codes, tensors[name + _SCALE] = quantize(tensor.float().flatten(1))
        tensors[name] = codes.reshape(tensor.shape).contiguous()
    checkpoint.save(tensors, folder, max_shard_bytes=_FILE_BYTES)
    written = {"model_type": MODEL_TYPE, **config.to_dict(model.config)}
    files.write_text(folder / "config.json", json.dumps(written, indent=1) + "\n")


def load_pretrained(name: str, *, device: torch.device | str = "cpu") -> PhotoEncoder:
    """By ``bundled:NAME``, folder or hub id, in evaluation mode; weights are widened to float32.

    Raises ModelNotFoundError, ConfigError, CheckpointError.
    """
    folder = hub.resolve(name, allow_patterns=_FILES)
    path = folder / "config.json"
    written = config.read_json(path)
    if written.pop("model_type", None) != MODEL_TYPE:
        raise CheckpointError(f"{path}: not of a {MODEL_TYPE} model")
    with checkpoint.on_meta():
        model = PhotoEncoder(config.from_dict(PhotoConfig, written, where=str(path)))
    stored = checkpoint.read(folder)
    wide = {
        key: dequantize(stored[key].flatten(1), stored[key + _SCALE]).reshape(stored[key].shape)
        if key + _SCALE in stored
        else stored[key]
        for key in stored
        if not key.endswith(_SCALE)
    }
    checkpoint.load(model, folder, tensors=wide, device=device)
    model.classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device).eval()

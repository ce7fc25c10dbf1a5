"""Whisper's encoder out of a CTranslate2 model file (``model.bin``, any of the published float types).

The format: a version, the name of the model's kind, its revision, and the number of tensors; then for each its name,
rank, dimensions, data type, bytes and data. Numbers are little-endian, names end with a zero byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from multiway_core.errors import CheckpointError
from torch import Tensor

from multiway_speech.vibevoice_asr.whisper_encoder import WhisperEncoder, WhisperEncoderConfig

_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_LAYER = {
    "self_attention/layer_norm/gamma": "attention_norm.weight",
    "self_attention/layer_norm/beta": "attention_norm.bias",
    "self_attention/linear_0/weight": "qkv.weight",
    "self_attention/linear_0/bias": "qkv.bias",
    "self_attention/linear_1/weight": "output.weight",
    "self_attention/linear_1/bias": "output.bias",
    "ffn/layer_norm/gamma": "feedforward_norm.weight",
    "ffn/layer_norm/beta": "feedforward_norm.bias",
    "ffn/linear_0/weight": "up.weight",
    "ffn/linear_0/bias": "up.bias",
    "ffn/linear_1/weight": "down.weight",
    "ffn/linear_1/bias": "down.bias",
}
_REST = {
    "conv1/weight": "conv1.weight",
    "conv1/bias": "conv1.bias",
    "conv2/weight": "conv2.weight",
    "conv2/bias": "conv2.bias",
    "position_encodings/encodings": "positions",
    "layer_norm/gamma": "norm.weight",
    "layer_norm/beta": "norm.bias",
}


def load_whisper_encoder(path: Path, config: WhisperEncoderConfig | None = None) -> WhisperEncoder:
    """The encoder of the model at ``path``, float32, in evaluation mode. Raises CheckpointError."""
    encoder = WhisperEncoder(config or WhisperEncoderConfig())
    names = dict(_REST)
    for layer in range(encoder.config.num_layers):
        names |= {f"layer_{layer}/{theirs}": f"layers.{layer}.{ours}" for theirs, ours in _LAYER.items()}
    found = {
        names[name.removeprefix("encoder/")]: tensor.float()
        for name, tensor in read_tensors(path)
        if name.startswith("encoder/") and name.removeprefix("encoder/") in names
    }
    try:
        encoder.load_state_dict(found)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: not a Whisper encoder of these sizes: {error}") from None
    return encoder.eval()


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a CTranslate2 ``model.bin``. Raises CheckpointError."""
    try:
        with path.open("rb") as file:
            (version,) = _read(file, "<I")
            kind = _name(file)
            _, count = _read(file, "<II")
            if kind != "WhisperSpec":
                raise CheckpointError(f"{path}: format {version} of {kind!r}, expected 'WhisperSpec'")
            for _ in range(count):
                name = _name(file)
                (rank,) = _read(file, "<B")
                shape = _read(file, f"<{rank}I")
                dtype, size = _read(file, "<BI")
                data = file.read(size)
                if dtype in _TYPES:
                    array = np.frombuffer(data, dtype=_TYPES[dtype]).reshape(shape)
                    yield name, torch.from_numpy(array.copy())
    except (OSError, struct.error, ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not a CTranslate2 model file: {error}") from None


def _read(file: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _name(file: BinaryIO) -> str:
    (length,) = _read(file, "<H")
    return file.read(length).rstrip(b"\0").decode()

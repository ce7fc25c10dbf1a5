"""Voices of VibeVoice-Realtime: keys and values of the language model's layers.

The makers publish voices and not the way to make them; ``published_voices`` reads theirs. A voice file here is
safetensors: ``lower.N.key``, ``lower.N.value``, ``upper.N.key``, ``upper.N.value``, (heads, positions, head size) each,
the same for ``negative.N`` (the second context's), and ``negative_state`` (hidden size): what guidance starts from.

Shape suffixes: H key-value heads, P positions, D head size, E hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from multiway_core import checkpoint
from multiway_core.errors import CheckpointError
from multiway_core.generation import StaticKVCache
from torch import Tensor

from multiway_speech.vibevoice_realtime.config import VibeVoiceRealtimeConfig

_Layers = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class RealtimeVoice:
    """Keys and values (H, P, D) of every layer, of the lower and upper part and of the second context."""

    name: str
    lower: _Layers
    upper: _Layers
    negative: _Layers
    negative_1E: Tensor

    def save(self, path: Path) -> None:
        """Write a voice file. Raises :class:`OutputError`."""
        tensors: dict[str, Tensor] = {"negative_state": self.negative_1E[0]}
        for part in ("lower", "upper", "negative"):
            for layer, (keys, values) in enumerate(getattr(self, part)):
                tensors[f"{part}.{layer}.key"], tensors[f"{part}.{layer}.value"] = keys, values
        checkpoint.save(tensors, path.parent, filename=path.name)

    @classmethod
    def load(cls, path: Path, config: VibeVoiceRealtimeConfig) -> RealtimeVoice:
        """Read a voice file, or a published one (``.pt``).

        Raises :class:`CheckpointError` if it is not one of this model.
        """
        if path.suffix == ".pt":
            from multiway_speech.vibevoice_realtime import published_voices

            return published_voices.read(path, config)
        tensors = checkpoint.read(path)
        counts = {
            "lower": config.text.num_layers - config.num_upper_layers,
            "upper": config.num_upper_layers,
            "negative": config.num_upper_layers,
        }
        parts = {part: [_pair(tensors, f"{part}.{i}", path) for i in range(n)] for part, n in counts.items()}
        state = tensors.get("negative_state")
        if state is None:
            raise CheckpointError(f"{path}: not a voice of this model: negative_state is missing")
        voice = cls(path.stem, parts["lower"], parts["upper"], parts["negative"], state.reshape(1, -1))
        check(voice, config, path)
        return voice

    def fill(self, lower: StaticKVCache, upper: StaticKVCache) -> None:
        """Put the voice into empty caches of 1 and 2 rows; row 1 of the upper one is the second context."""
        for layer, (keys, values) in enumerate(self.lower):
            lower.update(layer, keys[None].to(lower.dtype), values[None].to(lower.dtype))
        lower.advance(torch.ones(1, self.lower[0][0].shape[1], dtype=torch.bool, device=lower.device))
        length = max(self.upper[0][0].shape[1], self.negative[0][0].shape[1])
        valid = torch.zeros(2, length, dtype=torch.bool, device=upper.device)
        for layer, pairs in enumerate(zip(self.upper, self.negative, strict=True)):
            keys = torch.stack([_left_padded(pair[0], length) for pair in pairs])
            values = torch.stack([_left_padded(pair[1], length) for pair in pairs])
            upper.update(layer, keys.to(upper.dtype), values.to(upper.dtype))
        for row, part in enumerate((self.upper, self.negative)):
            valid[row, length - part[0][0].shape[1] :] = True
        upper.advance(valid)


def check(voice: RealtimeVoice, config: VibeVoiceRealtimeConfig, path: Path) -> None:
    """Raises :class:`CheckpointError` unless ``voice``, read from ``path``, is one of a model of ``config``."""
    text = config.text
    head_dim = text.head_dim or text.hidden_size // text.num_heads
    counts = {
        "lower": text.num_layers - config.num_upper_layers,
        "upper": config.num_upper_layers,
        "negative": config.num_upper_layers,
    }
    problem = f"{path}: not a voice of this model"
    for part, count in counts.items():
        layers = getattr(voice, part)
        if len(layers) != count:
            raise CheckpointError(f"{problem}: {len(layers)} layers in {part}, expected {count}")
        shape = layers[0][0].shape
        for index, (keys, values) in enumerate(layers):
            good = keys.ndim == 3 and keys.shape[::2] == (text.num_kv_heads, head_dim) and keys.shape[1] > 0
            if not good or keys.shape != values.shape or keys.shape != shape:
                raise CheckpointError(f"{problem}: {part}.{index} has the shape {tuple(keys.shape)}")
    if voice.negative_1E.shape != (1, text.hidden_size):
        size = voice.negative_1E.numel()
        raise CheckpointError(f"{problem}: negative_state is of the size {size}, expected {text.hidden_size}")


def _pair(tensors: Mapping[str, Tensor], name: str, path: Path) -> tuple[Tensor, Tensor]:
    keys, values = (tensors.get(f"{name}.{kind}") for kind in ("key", "value"))
    if keys is None or values is None:
        raise CheckpointError(f"{path}: not a voice of this model: {name} is missing")
    return keys, values


def _left_padded(x_HPD: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(x_HPD, (0, 0, length - x_HPD.shape[1], 0))

"""Model folder of a tokenizer of ours: ``config.json`` and safetensors in small files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from multiway_core import checkpoint, config, hub
from multiway_core.model_folder import CONFIG_FILE
from torch import Tensor, nn

from multiway_speech.speech_tokenizer.config import SpeechTokenizerConfig
from multiway_speech.speech_tokenizer.model import AcousticTokenizer

MAX_FILE_BYTES = 15_000_000


def save(tokenizer: AcousticTokenizer, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write config and tensors, as ``dtype`` if given. Raises OutputError."""
    write(tokenizer, tokenizer.config, folder, dtype)


def write(
    tensors: nn.Module | Mapping[str, Tensor],
    model_config: Any,
    folder: Path,
    dtype: torch.dtype | None,
    rules: checkpoint.RuleTable | None = None,
) -> None:
    """Write the files that every model folder of ours has. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(tensors, folder, rules=rules, dtype=dtype, max_shard_bytes=MAX_FILE_BYTES)
    config.save(model_config, folder / CONFIG_FILE)


def load(
    name: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> AcousticTokenizer:
    """The tokenizer ``bundled:NAME`` or in a folder, in evaluation mode.

    Raises :class:`ModelNotFoundError`, :class:`ConfigError` or :class:`CheckpointError`.
    """
    folder = Path(hub.resolve(str(name)))
    with checkpoint.on_meta():
        tokenizer = AcousticTokenizer(config.load(SpeechTokenizerConfig, folder / CONFIG_FILE))
    checkpoint.load(tokenizer, folder, dtype=dtype, device=device)
    return tokenizer.to(device).eval()

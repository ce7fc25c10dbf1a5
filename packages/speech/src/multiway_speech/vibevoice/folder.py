"""Model folder of a model of ours: ``config.json``, safetensors in small files, tokenizer, voices.

Published models have layouts of their own, which ``checkpoint`` reads and writes.
"""

from __future__ import annotations

from pathlib import Path

import torch
from multiway_core import checkpoint, config, files
from multiway_core.errors import ConfigError
from multiway_core.model_folder import CONFIG_FILE
from multiway_core.tokenization import TOKENIZER_FILE

from multiway_speech.speech_tokenizer import folder as tokenizer_folder
from multiway_speech.vibevoice.config import VibeVoiceConfig
from multiway_speech.vibevoice.model import VibeVoice
from multiway_speech.vibevoice.phone_tokenizer import new_tokenizer

_CODEC = ("acoustic.{rest*}",)


def is_ours(folder: Path) -> bool:
    """Whether the folder's config is that of a :class:`VibeVoiceConfig` and not a published one."""
    return "model_type" not in config.read_json(folder / CONFIG_FILE)


def save(model: VibeVoice, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write config, tensors (as ``dtype`` if given) and tokenizer, without the codec if that has a name of its own.

    Raises OutputError.
    """
    tensors = model.state_dict()
    if model.config.codec:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("acoustic.")}
    tokenizer_folder.write(tensors, model.config, folder, dtype)
    files.write_text(folder / TOKENIZER_FILE, new_tokenizer().to_str(pretty=True) + "\n")


def load(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> VibeVoice:
    """The model in a folder that :func:`save` wrote, in evaluation mode. Raises ConfigError, CheckpointError."""
    own = config.load(VibeVoiceConfig, folder / CONFIG_FILE)
    if not own.reads_along:
        raise ConfigError(
            f"{folder / CONFIG_FILE}: reads_along is false; such models have a published layout"
        )
    with checkpoint.on_meta():
        model = VibeVoice(own)
    if own.codec:
        model.acoustic = tokenizer_folder.load(own.codec, dtype=dtype, device=device)
        if model.acoustic.config != own.acoustic:
            raise ConfigError(
                f"{folder / CONFIG_FILE}: {own.codec} has other sizes than the model's acoustic tokenizer"
            )
    checkpoint.load(model, folder, dtype=dtype, device=device, optional=_CODEC if own.codec else ())
    return model.to(device).eval()

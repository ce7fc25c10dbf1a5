"""A LatentLM and its tokenizer as one folder: ``config.json``, ``model.safetensors``, ``tokenizer.safetensors``.

The authors published no weights, so there is no other layout to read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from multiway_core import checkpoint, config

from multiway_text.checkpoint_files import OWN_NAMES, read_config, require_finite
from multiway_text.decoders.latent_lm.config import LatentLMConfig, TokenizerConfig
from multiway_text.decoders.latent_lm.model import LatentLM
from multiway_text.decoders.latent_lm.tokenizer import PictureTokenizer

_TOKENIZER_FILE = "tokenizer.safetensors"


@dataclass(frozen=True)
class _Folder:
    model: LatentLMConfig
    tokenizer: TokenizerConfig


def save(
    model: LatentLM, tokenizer: PictureTokenizer, folder: Path, *, dtype: torch.dtype | None = None
) -> None:
    """Write both. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model, folder, rules=OWN_NAMES, dtype=dtype)
    checkpoint.save(tokenizer, folder, dtype=dtype, filename=_TOKENIZER_FILE)
    config.save(_Folder(model.config, tokenizer.config), folder / "config.json")


def load(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[LatentLM, PictureTokenizer]:
    """Both, in evaluation mode. Raises ConfigError, CheckpointError, and InputError for weights that are not finite."""
    folder = Path(folder)
    own = read_config(_Folder, folder / "config.json")
    with checkpoint.on_meta():
        model, tokenizer = LatentLM(own.model), PictureTokenizer(own.tokenizer)
    for module, name, rules in ((model, "model.safetensors", OWN_NAMES), (tokenizer, _TOKENIZER_FILE, None)):
        checkpoint.load(module, folder / name, rules=rules, dtype=dtype, device=device)
        require_finite(folder / name, module)
    return model.to(device).eval(), tokenizer.to(device).eval()

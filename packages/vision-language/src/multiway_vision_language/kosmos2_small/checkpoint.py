"""The small network's model folder: ``config.json``, ``model.safetensors``, the SentencePiece file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from multiway_core import checkpoint, config, files, hub
from multiway_core.tensor_names import Rule, RuleTable
from multiway_core.tokenization import TextTokenizer

from multiway_vision_language.kosmos2.checkpoint import TOKENIZER_FILE
from multiway_vision_language.kosmos2_small.config import SmallConfig
from multiway_vision_language.kosmos2_small.model import Kosmos2Small
from multiway_vision_language.kosmos2_small.processor import SmallProcessor

MODEL_TYPE = "kosmos-2-small"
NAMES = RuleTable(
    [
        Rule("names.{rest*}", "efficientnet.{rest*}"),
        Rule("text.token_embedding.weight", "text.embedding.weight"),
        Rule("places.{rest*}", "centernet.{rest*}"),
        Rule("cells.from_places.{x}", "cells.from_centernet.{x}"),
        Rule("{rest*}", "{rest*}"),
    ]
)
"""Tensor names of the model file, and ours."""
LARGEST_FILE = 16_000_000
"""Bytes; a larger model is written in several files."""
_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", TOKENIZER_FILE)


def load_pretrained(
    name: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[Kosmos2Small, SmallProcessor]:
    """Model and processor by name, folder or hub id, in evaluation mode. Raises what hub and core raise."""
    folder = hub.resolve(name, revision=revision, allow_patterns=_FILES)
    path = folder / "config.json"
    written = config.read_json(path)
    written.pop("model_type", None)
    own = config.from_dict(SmallConfig, written, where=str(path))
    with checkpoint.on_meta():
        model = Kosmos2Small(own)
    checkpoint.load(model, folder, rules=NAMES, dtype=dtype, device=device)
    return model.to(device).eval(), SmallProcessor(own, TextTokenizer.from_folder(folder / TOKENIZER_FILE))


def save(model: Kosmos2Small, tokens: Path, folder: Path, *, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write the model folder; ``tokens`` is the SentencePiece file."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model, folder, rules=NAMES, dtype=dtype, max_shard_bytes=LARGEST_FILE)
    text = json.dumps({"model_type": MODEL_TYPE, **config.to_dict(model.config)}, indent=2)
    files.write_text(folder / "config.json", text + "\n")
    shutil.copyfile(tokens, folder / TOKENIZER_FILE)

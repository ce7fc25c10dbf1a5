"""Published checkpoints <-> :class:`~multiway_document.kosmos2_5.model.Kosmos25`.

Two layouts are read: the Hugging Face one (safetensors, also what we write, so that `transformers` loads our models)
and the original fairseq ``ckpt.pt``. Both differ from ours in names only.
"""

from __future__ import annotations

from pathlib import Path

import torch
from multiway_blocks.multimodal_checkpoint import (
    TEXT_KEYS,
    PublishedLayout,
    fairseq_rules,
    has_safetensors,
    hugging_face_rules,
)
from multiway_blocks.vision import VisionEncoder
from multiway_core import checkpoint
from multiway_core.checkpoint import Rule, RuleTable

from multiway_document.kosmos2_5.config import KOSMOS_2_5
from multiway_document.kosmos2_5.model import Kosmos25, new_vision_encoder

_VISION_NAMES = (
    ("embeddings.patch_projection.{kind}", "vision.patch_projection.{kind}"),
    ("embeddings.row_embedder.weight", "vision.positions.row.weight"),
    ("embeddings.column_embedder.weight", "vision.positions.column.weight"),
    ("encoder.layer.{layer}.pre_attention_layer_norm.weight", "vision.layers.{layer}.attention_norm.weight"),
    ("encoder.layer.{layer}.attention.query.weight", "vision.layers.{layer}.attention.query.weight"),
    ("encoder.layer.{layer}.attention.key.weight", "vision.layers.{layer}.attention.key.weight"),
    ("encoder.layer.{layer}.attention.value.weight", "vision.layers.{layer}.attention.value.weight"),
    ("encoder.layer.{layer}.attention.output.weight", "vision.layers.{layer}.attention.output.weight"),
    ("encoder.layer.{layer}.pre_mlp_layer_norm.weight", "vision.layers.{layer}.feedforward_norm.weight"),
    ("encoder.layer.{layer}.mlp.wi_0.weight", "vision.layers.{layer}.feedforward.gate.weight"),
    ("encoder.layer.{layer}.mlp.wi_1.weight", "vision.layers.{layer}.feedforward.up.weight"),
    ("encoder.layer.{layer}.mlp.wo.weight", "vision.layers.{layer}.feedforward.down.weight"),
    ("layernorm.weight", "vision.norm.weight"),
)

HUGGING_FACE = hugging_face_rules("vision_model.", _VISION_NAMES)
"""``model.safetensors`` of the hub."""

FAIRSEQ = fairseq_rules("img_model.", _VISION_NAMES)
"""The original ``ckpt.pt``."""

VISION_ONLY = RuleTable(
    [Rule("vision_model." + name, ours.removeprefix("vision.")) for name, ours in _VISION_NAMES],
    dropped=("text_model.{rest*}", "image_to_text_projection.{rest*}"),
)
"""The vision encoder of the hub's layout, by the names it has as a module of its own."""

ORIGINAL_FILE = "ckpt.pt"

# Pix2Struct's older spellings, which old hub files carry, stand behind the current ones.
_VISION_KEYS = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "head_dim": "head_dim",
    "d_kv": "head_dim",
    "intermediate_size": "inner_size",
    "d_ff": "inner_size",
    "max_num_patches": "max_patches",
    "seq_len": "max_patches",
    "layer_norm_eps": "norm_eps",
}
_TEXT_KEYS = {
    **TEXT_KEYS,
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
}
LAYOUT = PublishedLayout(
    "kosmos-2.5",
    "Kosmos2_5ForConditionalGeneration",
    Kosmos25,
    KOSMOS_2_5,
    ORIGINAL_FILE,
    HUGGING_FACE,
    FAIRSEQ,
    _VISION_KEYS,
    _TEXT_KEYS,
    derived={"patch_embed_hidden_size": "patch_dim"},
)
config_from_published, config_to_published = LAYOUT.config_from_published, LAYOUT.config_to_published
read_config, load, save = LAYOUT.read_config, LAYOUT.load, LAYOUT.save


def load_vision(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> VisionEncoder:
    """Only the vision encoder, from a folder as :func:`load` takes or one that holds nothing else."""
    own = read_config(folder)
    with checkpoint.on_meta():
        vision = new_vision_encoder(own.vision)
    checkpoint.load(vision, folder, rules=VISION_ONLY, dtype=dtype, device=device)
    return vision.to(device).eval()


def has_decoder(folder: Path) -> bool:
    """Whether a model folder holds the whole network, not only the vision encoder."""
    if not has_safetensors(folder):
        return (folder / ORIGINAL_FILE).is_file() or (folder / "config.json").is_file()
    return any(name.startswith("text_model.") for name in checkpoint.read(folder))


def save_vision(model: Kosmos25, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write ``config.json`` and a ``model.safetensors`` with the vision encoder alone, by its published names."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model.vision, folder, rules=VISION_ONLY, dtype=dtype)
    LAYOUT.save_config(model.config, folder)

"""Published checkpoints <-> :class:`~multiway_document.kosmos2_5.model.Kosmos25`.

Two layouts are read: the Hugging Face one (safetensors, also what we write, so that `transformers` loads our models)
and the original fairseq ``ckpt.pt``. Both differ from ours in names only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from multiway_blocks.multimodal_checkpoint import TEXT_KEYS, fairseq_rules, hugging_face_rules
from multiway_blocks.vision import VisionEncoder
from multiway_core import checkpoint, config, files
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError

from multiway_document.kosmos2_5.config import KOSMOS_2_5, Kosmos25Config
from multiway_document.kosmos2_5.model import Kosmos25, new_vision_encoder

MODEL_TYPE = "kosmos-2.5"

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

# Published key -> ours; Pix2Struct's older spellings, which old hub files carry, stand beside the current ones.
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


_PARTS = ("vision_config", "text_config", "token_layout")


def config_from_published(published: Mapping[str, Any], *, where: str) -> Kosmos25Config:
    """The sizes in a published ``config.json``; keys that do not concern the network are ignored.

    ``token_layout`` is our own key: where a model with another vocabulary than the published one has its tokens.
    Raises :class:`CheckpointError` naming ``where`` for a foreign model type or an ill-typed size.
    """
    if not isinstance(published, Mapping):
        raise CheckpointError(f"{where}: not a JSON object")
    for key in _PARTS:
        if not isinstance(published.get(key) or {}, Mapping):
            raise CheckpointError(f"{where}: {key} is not a JSON object")
    if published.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f"{where}: model_type is {published.get('model_type')!r}, expected {MODEL_TYPE!r}"
        )
    vision = _pick(published.get("vision_config") or {}, _VISION_KEYS)
    text = _pick(published.get("text_config") or {}, _TEXT_KEYS)
    own = {"vision": vision, "text": text, "tokens": published.get("token_layout") or {}}
    if "latent_query_num" in published:
        own["num_queries"] = published["latent_query_num"]
    result = config.from_dict(Kosmos25Config, own, where=where)
    if result.tokens.vocab_size != result.text.vocab_size:
        raise CheckpointError(
            f"{where}: the vocabulary has {result.text.vocab_size} tokens, "
            f"but the token layout {result.tokens.vocab_size}"
        )
    return result


def config_to_published(own: Kosmos25Config) -> dict[str, Any]:
    """The ``config.json`` that `transformers` and :func:`config_from_published` read."""
    vision, text = own.vision, own.text
    return {
        "architectures": ["Kosmos2_5ForConditionalGeneration"],
        "model_type": MODEL_TYPE,
        "latent_query_num": own.num_queries,
        "token_layout": config.to_dict(own.tokens),
        "text_config": {
            "model_type": "kosmos_2_5_text_model",
            **{key: getattr(text, name) for key, name in TEXT_KEYS.items()},
            "bos_token_id": own.tokens.bos,
            "pad_token_id": own.tokens.pad,
            "eos_token_id": own.tokens.eos,
        },
        "vision_config": {
            "model_type": "kosmos_2_5_vision_model",
            "hidden_size": vision.hidden_size,
            "patch_embed_hidden_size": vision.patch_dim,
            "num_hidden_layers": vision.num_layers,
            "num_attention_heads": vision.num_heads,
            "head_dim": vision.head_dim,
            "intermediate_size": vision.inner_size,
            "max_num_patches": vision.max_patches,
            "layer_norm_eps": vision.norm_eps,
        },
    }


def load(folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Kosmos25:
    """The model in a folder with ``config.json`` and safetensors, or the original ``ckpt.pt``; in evaluation mode.

    Weights are mapped into memory, not copied, where dtype and device allow. Raises :class:`CheckpointError`.
    """
    own = read_config(folder)
    with checkpoint.on_meta():
        model = Kosmos25(own)
    if _has_safetensors(folder):
        checkpoint.load(model, folder, rules=HUGGING_FACE, dtype=dtype, device=device)
    else:
        checkpoint.load(model, folder / ORIGINAL_FILE, rules=FAIRSEQ, dtype=dtype, device=device)
    return model.to(device).eval()


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
    if not _has_safetensors(folder):
        return (folder / ORIGINAL_FILE).is_file() or (folder / "config.json").is_file()
    return any(name.startswith("text_model.") for name in checkpoint.read(folder))


def read_config(folder: Path) -> Kosmos25Config:
    """The sizes of the model in a folder. Raises :class:`CheckpointError`."""
    path = folder / "config.json"
    if path.is_file():
        return config_from_published(config.read_json(path), where=str(path))
    if (folder / ORIGINAL_FILE).is_file():
        return KOSMOS_2_5  # the original file carries no sizes that we trust: it is the published model
    raise CheckpointError(f"{folder}: no config.json, so this is not a KOSMOS-2.5 model folder")


def _has_safetensors(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json"))


def save_vision(model: Kosmos25, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write ``config.json`` and a ``model.safetensors`` with the vision encoder alone, by its published names."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model.vision, folder, rules=VISION_ONLY, dtype=dtype)
    files.write_text(folder / "config.json", json.dumps(config_to_published(model.config), indent=2) + "\n")


def save(
    model: Kosmos25, folder: Path, *, dtype: torch.dtype | None = None, max_shard_bytes: int = 5_000_000_000
) -> None:
    """Write ``config.json`` and ``model.safetensors`` (or shards with an index) in the Hugging Face layout."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model, folder, rules=HUGGING_FACE, dtype=dtype, max_shard_bytes=max_shard_bytes)
    files.write_text(folder / "config.json", json.dumps(config_to_published(model.config), indent=2) + "\n")


def _pick(published: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    # Current spellings stand first in the tables and win over older ones.
    picked: dict[str, Any] = {}
    for key, own in keys.items():
        if key in published and published[key] is not None:
            picked.setdefault(own, published[key])
    return picked

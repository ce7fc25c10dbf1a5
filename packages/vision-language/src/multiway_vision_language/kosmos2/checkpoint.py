"""Published checkpoints <-> :class:`~multiway_vision_language.kosmos2.model.Kosmos2`.

Two layouts are read: the Hugging Face one (safetensors, also what we write, so that `transformers` loads our models)
and the original fairseq ``kosmos-2.pt``. Both differ from ours in names only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from multiway_blocks.multimodal_checkpoint import TEXT_KEYS, fairseq_rules, hugging_face_rules
from multiway_core import checkpoint, config, files, hub
from multiway_core.errors import CheckpointError
from multiway_core.tokenization import TextTokenizer

from multiway_vision_language.kosmos2.config import KOSMOS_2, Kosmos2Config
from multiway_vision_language.kosmos2.model import Kosmos2
from multiway_vision_language.kosmos2.processor import Kosmos2Processor

MODEL_TYPE = "kosmos-2"
ORIGINAL_FILE = "kosmos-2.pt"
TOKENIZER_FILE = "sentencepiece.bpe.model"
_HUB_FILES = ("*.json", "*.safetensors", TOKENIZER_FILE)

# (name behind the prefix, ours)
_VISION_NAMES = (
    ("embeddings.class_embedding", "vision.class_embedding"),
    ("embeddings.patch_embedding.weight", "vision.patch_embedding.weight"),
    ("embeddings.position_embedding.weight", "vision.positions.weight"),
    ("pre_layrnorm.{kind}", "vision.input_norm.{kind}"),
    ("encoder.layers.{layer}.self_attn.q_proj.{kind}", "vision.layers.{layer}.attention.query.{kind}"),
    ("encoder.layers.{layer}.self_attn.k_proj.{kind}", "vision.layers.{layer}.attention.key.{kind}"),
    ("encoder.layers.{layer}.self_attn.v_proj.{kind}", "vision.layers.{layer}.attention.value.{kind}"),
    ("encoder.layers.{layer}.self_attn.out_proj.{kind}", "vision.layers.{layer}.attention.output.{kind}"),
    ("encoder.layers.{layer}.layer_norm1.{kind}", "vision.layers.{layer}.attention_norm.{kind}"),
    ("encoder.layers.{layer}.layer_norm2.{kind}", "vision.layers.{layer}.feedforward_norm.{kind}"),
    ("encoder.layers.{layer}.mlp.fc1.{kind}", "vision.layers.{layer}.feedforward.up.{kind}"),
    ("encoder.layers.{layer}.mlp.fc2.{kind}", "vision.layers.{layer}.feedforward.down.{kind}"),
    ("post_layernorm.{kind}", "vision.norm.{kind}"),
)
_ORIGINAL_VISION_NAMES = (
    ("class_embedding", "vision.class_embedding"),
    ("conv1.weight", "vision.patch_embedding.weight"),
    ("positional_embedding", "vision.positions.weight"),
    ("ln_pre.{kind}", "vision.input_norm.{kind}"),
    ("transformer.resblocks.{layer}.ts_attn.q_proj.{kind}", "vision.layers.{layer}.attention.query.{kind}"),
    ("transformer.resblocks.{layer}.ts_attn.k_proj.{kind}", "vision.layers.{layer}.attention.key.{kind}"),
    ("transformer.resblocks.{layer}.ts_attn.v_proj.{kind}", "vision.layers.{layer}.attention.value.{kind}"),
    (
        "transformer.resblocks.{layer}.ts_attn.out_proj.{kind}",
        "vision.layers.{layer}.attention.output.{kind}",
    ),
    ("transformer.resblocks.{layer}.ln_1.{kind}", "vision.layers.{layer}.attention_norm.{kind}"),
    ("transformer.resblocks.{layer}.ln_2.{kind}", "vision.layers.{layer}.feedforward_norm.{kind}"),
    ("transformer.resblocks.{layer}.mlp.c_fc.{kind}", "vision.layers.{layer}.feedforward.up.{kind}"),
    ("transformer.resblocks.{layer}.mlp.c_proj.{kind}", "vision.layers.{layer}.feedforward.down.{kind}"),
    ("ln_post.{kind}", "vision.norm.{kind}"),
)


HUGGING_FACE = hugging_face_rules("vision_model.model.", _VISION_NAMES)
"""``model.safetensors`` of the hub."""

FAIRSEQ = fairseq_rules("img_model.visual.", _ORIGINAL_VISION_NAMES)
"""The original ``kosmos-2.pt``."""

_VISION_KEYS = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "inner_size",
    "patch_size": "patch_size",
    "image_size": "image_size",
    "num_channels": "num_channels",
    "layer_norm_eps": "norm_eps",
}
_REQUIRED = {
    ("vision_config", "hidden_act"): "quick_gelu",
    ("text_config", "activation_function"): "gelu",
}


def config_from_published(published: Mapping[str, Any], *, where: str) -> Kosmos2Config:
    """The sizes in a published ``config.json``; keys that do not concern the network are ignored.

    ``token_layout`` and ``trained_absence`` are our own keys: where a model with another vocabulary than the published
    one has its tokens, and whether it was taught to say that a phrase is absent.
    Raises :class:`CheckpointError` naming ``where`` for a foreign model type or an ill-typed size.
    """
    for key in ("vision_config", "text_config", "token_layout"):
        if not isinstance(published.get(key) or {}, Mapping):
            raise CheckpointError(f"{where}: {key} is not a JSON object")
    if published.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f"{where}: model_type is {published.get('model_type')!r}, expected {MODEL_TYPE!r}"
        )
    vision, text = published.get("vision_config") or {}, published.get("text_config") or {}
    for (part, key), wanted in _REQUIRED.items():
        given = (published.get(part) or {}).get(key, wanted)
        if given != wanted:
            raise CheckpointError(f"{where}: {part}.{key} is {given!r}, expected {wanted!r}")
    own: dict[str, Any] = {
        "vision": _pick(vision, _VISION_KEYS),
        "text": _pick(text, TEXT_KEYS),
        "tokens": published.get("token_layout") or {},
    }
    for key, name in (("latent_query_num", "num_queries"), ("trained_absence", "trained_absence")):
        if key in published:
            own[name] = published[key]
    result = config.from_dict(Kosmos2Config, own, where=where)
    if result.tokens.vocab_size != result.text.vocab_size:
        raise CheckpointError(
            f"{where}: the vocabulary has {result.text.vocab_size} tokens, "
            f"but the token layout {result.tokens.vocab_size}"
        )
    return result


def config_to_published(own: Kosmos2Config) -> dict[str, Any]:
    """The ``config.json`` that `transformers` and :func:`config_from_published` read."""
    vision, text = config.to_dict(own.vision), config.to_dict(own.text)
    return {
        "architectures": ["Kosmos2ForConditionalGeneration"],
        "model_type": MODEL_TYPE,
        "latent_query_num": own.num_queries,
        "token_layout": config.to_dict(own.tokens),
        "trained_absence": own.trained_absence,
        "text_config": {
            "model_type": "kosmos_2_text_model",
            "bos_token_id": own.tokens.bos,
            "pad_token_id": own.tokens.pad,
            "eos_token_id": own.tokens.eos,
            **{key: text[name] for key, name in TEXT_KEYS.items()},
        },
        "vision_config": {
            "model_type": "kosmos_2_vision_model",
            **{key: vision[name] for key, name in _VISION_KEYS.items()},
        },
    }


def load(folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Kosmos2:
    """The model in a folder with ``config.json`` and safetensors, or the original ``kosmos-2.pt``; in evaluation mode.

    Weights are mapped into memory, not copied, where dtype and device allow. Raises :class:`CheckpointError`.
    """
    own = read_config(folder)
    with checkpoint.on_meta():
        model = Kosmos2(own)
    if _has_safetensors(folder):
        checkpoint.load(model, folder, rules=HUGGING_FACE, dtype=dtype, device=device)
    else:
        checkpoint.load(model, folder / ORIGINAL_FILE, rules=FAIRSEQ, dtype=dtype, device=device)
    return model.to(device).eval()


def load_pretrained(
    name: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[Kosmos2, Kosmos2Processor]:
    """Model and processor by hub id (``microsoft/kosmos-2-patch14-224``), folder or path of ``kosmos-2.pt``.

    Raises what `multiway_core.hub.resolve` raises, and :class:`CheckpointError`.
    """
    folder = find(name, revision=revision)
    tokenizer = TextTokenizer.from_folder(folder / TOKENIZER_FILE)
    own = read_config(folder)
    num_text_tokens = tokenizer.vocab_size - len(tokenizer.special)
    if num_text_tokens > own.tokens.num_text_tokens:
        raise CheckpointError(
            f"{folder}: {TOKENIZER_FILE} has {num_text_tokens} pieces, "
            f"but the model has room for {own.tokens.num_text_tokens}"
        )
    model = load(folder, dtype=dtype, device=device)
    return model, Kosmos2Processor(own, tokenizer)


def find(name: str, *, revision: str | None = None) -> Path:
    """The folder of a hub id, a folder or the path of a checkpoint in one. Raises what `hub.resolve` raises."""
    path = hub.resolve(name, revision=revision, allow_patterns=_HUB_FILES)
    return path.parent if path.is_file() else path


def read_config(folder: Path) -> Kosmos2Config:
    """The sizes of the model in a folder. Raises :class:`CheckpointError`."""
    path = folder / "config.json"
    if path.is_file():
        return config_from_published(config.read_json(path), where=str(path))
    if (folder / ORIGINAL_FILE).is_file():
        return KOSMOS_2  # the original file carries no sizes that we trust: it is the published model
    raise CheckpointError(f"{folder}: no config.json, so this is not a Kosmos-2 model folder")


def save(
    model: Kosmos2, folder: Path, *, dtype: torch.dtype | None = None, max_shard_bytes: int = 5_000_000_000
) -> None:
    """Write ``config.json`` and ``model.safetensors`` (or shards with an index) in the Hugging Face layout."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model, folder, rules=HUGGING_FACE, dtype=dtype, max_shard_bytes=max_shard_bytes)
    files.write_text(folder / "config.json", json.dumps(config_to_published(model.config), indent=2) + "\n")


def _has_safetensors(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json"))


def _pick(published: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    return {own: published[key] for key, own in keys.items() if published.get(key) is not None}

"""Published checkpoints of the BERT family <-> `TextEncoder`.

One table of rules a layout: BERT's (also RoBERTa's, XLM-R's, MiniLM's and UniLM v1's), and UniLMv2's, which joins the
three projections. A head's tensors are left out. What config.json does not say is taken from the tensors (token types,
pooler, vocabulary) or from the family (eps, padding token, first position), and never from a default of BERT's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from multiway_core import checkpoint, config, files, hub
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError, ConfigError
from torch import Tensor

from multiway_blocks.kernels.int8_encoder import layout
from multiway_blocks.text_encoder.config import Family, TextEncoderConfig
from multiway_blocks.text_encoder.model import TextEncoder

_OURS = "stack.layers.{i}."
_THEIRS = "encoder.layer.{i}."
BERT = RuleTable(
    [
        Rule("embeddings.word_embeddings.weight", "token_embedding.weight"),
        Rule("embeddings.position_embeddings.weight", "position_embedding.weight"),
        Rule("embeddings.token_type_embeddings.weight", "type_embedding.weight"),
        Rule("embeddings.LayerNorm.{x}", "embedding_norm.{x}"),
        Rule(_THEIRS + "attention.output.dense.{x}", _OURS + "attention.output.{x}"),
        Rule(_THEIRS + "attention.self.{part}.{x}", _OURS + "attention.{part}.{x}"),
        Rule(_THEIRS + "attention.output.LayerNorm.{x}", _OURS + "attention_norm.{x}"),
        Rule(_THEIRS + "intermediate.dense.{x}", _OURS + "feedforward.up.{x}"),
        Rule(_THEIRS + "output.dense.{x}", _OURS + "feedforward.down.{x}"),
        Rule(_THEIRS + "output.LayerNorm.{x}", _OURS + "feedforward_norm.{x}"),
        Rule("pooler.dense.{x}", "pooler.{x}"),
        Rule("rel_pos_bias.weight", "relative_bias.bias.weight"),
    ],
    dropped=["embeddings.position_ids", "encoder.layer.{i}.attention.self.distance_embedding.weight"],
)
"""Names inside the encoder; a file may put ``bert.`` or ``roberta.`` before all of them."""

SCALE = "_scale"
_PART = ".part"
_PREFIXES = ("bert.", "roberta.", "model.")
_HEADS = ("cls.", "lm_head.", "classifier.", "qa_outputs.", "crit_mask_lm")
_FUSED = "attention.self.qkv_linear.weight"
_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
_FAMILIES: dict[str, Family] = {
    "bert": "bert", "minilm": "bert", "unilm": "bert", "roberta": "roberta", "camembert": "roberta",
    "xlm-roberta": "xlm-roberta", "unilm2": "unilm2",
}  # fmt: skip
_ARCHITECTURES = {
    "bert": "BertModel", "roberta": "RobertaModel", "xlm-roberta": "XLMRobertaModel", "unilm2": "UniLMv2Model",
}  # fmt: skip
_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "inner_size",
    "max_position_embeddings": "num_positions",
    "type_vocab_size": "num_types",
    "layer_norm_eps": "norm_eps",
    "pad_token_id": "pad_id",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "initializer_range": "initializer_range",
}


def load(
    name: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> TextEncoder:
    """The encoder in a folder or under a hub id, in evaluation mode.

    Raises ModelNotFoundError, ConfigError (not of this family, or a setting that is not supported), CheckpointError.
    """
    folder = hub.resolve(str(name))
    tensors = _canonical(_dequantized(joined(checkpoint.read(folder))))
    settings = config.read_json(folder / "config.json")
    with checkpoint.on_meta():
        model = TextEncoder(_config(settings, tensors, folder))
    checkpoint.load(model, folder, rules=BERT, dtype=dtype, device=device, tensors=tensors)
    return model.to(device).eval()


def save(model: TextEncoder, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors`` in the family's published layout. Raises OutputError."""
    tensors, settings = published(model)
    write(tensors, settings, folder, dtype=dtype)


def write(
    tensors: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """The two files of a model folder, from what :func:`published` gives and a head adds. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save({name: tensor.contiguous() for name, tensor in tensors.items()}, folder, dtype=dtype)
    files.write_text(folder / "config.json", json.dumps(settings, indent=2) + "\n")


def published(model: TextEncoder) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors by their published names, without a prefix, and the content of ``config.json``."""
    own = model.config
    tensors = {BERT.to_published(name): tensor for name, tensor in model.state_dict().items()}
    if own.family == "unilm2":
        tensors = _fused(tensors)
    values = config.to_dict(own)
    activation = next(name for name, ours in _ACTIVATIONS.items() if ours == own.activation)
    content: dict[str, Any] = {"architectures": [_ARCHITECTURES[own.family]], "model_type": own.family}
    content |= {key: values[name] for key, name in _KEYS.items()} | {"hidden_act": activation}
    if own.num_buckets:
        content |= {"rel_pos_bins": own.num_buckets, "max_rel_pos": own.max_distance}
    return tensors, content


def quantized(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8, with the scale of every row beside them (``NAME_scale``); vectors as they are."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim == 2:
            found[name], found[name + SCALE] = layout.quantize(tensor)
        else:
            found[name] = tensor.float()
    return found


def split(tensors: Mapping[str, Tensor], max_bytes: int) -> dict[str, Tensor]:
    """A matrix of over ``max_bytes`` as parts of its rows, ``NAME.part0`` and so on, so that files can be smaller."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        rows = max(1, max_bytes // max(1, tensor[:1].nbytes))
        if tensor.nbytes <= max_bytes:
            found[name] = tensor
        else:
            found |= {f"{name}{_PART}{i}": part for i, part in enumerate(tensor.split(rows))}
    return found


def joined(source: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """What :func:`split` was given; other files as they are. Raises CheckpointError: a part is missing."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name in source:
        stem, part, number = name.rpartition(_PART)
        if part:
            parts.setdefault(stem, {})[number] = source[name]
    if not parts:
        return source
    found = {name: source[name] for name in source if not name.rpartition(_PART)[1]}
    for stem, of in parts.items():
        missing = [f"{stem}{_PART}{i}" for i in range(len(of)) if str(i) not in of]
        if missing:
            raise CheckpointError(f"{stem} is in {len(of)} parts", missing=missing)
        found[stem] = torch.cat([of[str(i)] for i in range(len(of))])
    return found


def _dequantized(source: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """What :func:`quantized` was made of, as far as int8 can tell; other files as they are."""
    if not any(name.endswith(SCALE) for name in source):
        return source
    found: dict[str, Tensor] = {}
    for name in source:
        if name.endswith(SCALE):
            continue
        tensor = source[name]
        if tensor.dtype == torch.int8:
            if name + SCALE not in source or source[name + SCALE].shape != tensor.shape[:1]:
                raise CheckpointError(f"{name} is int8 without one scale a row, {name + SCALE}")
            tensor = layout.dequantize(tensor, source[name + SCALE])
        found[name] = tensor
    return found


def _canonical(source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors under BERT's names: no prefix, no heads, split projections, today's names of norms."""
    prefix = next((p for p in _PREFIXES if any(name.startswith(f"{p}embeddings.") for name in source)), "")
    found: dict[str, Tensor] = {}
    for name in source:
        if not name.startswith(prefix) or name.startswith(_HEADS):
            continue
        short = name.removeprefix(prefix).replace("LayerNorm.gamma", "LayerNorm.weight")
        short = short.replace("LayerNorm.beta", "LayerNorm.bias").replace(
            "encoder.rel_pos_bias", "rel_pos_bias"
        )
        stem = short.rpartition("attention.self.")[0]
        if short.endswith(_FUSED):
            parts = source[name].chunk(3)
            for part, tensor in zip(("query", "key", "value"), parts, strict=True):
                found[f"{stem}attention.self.{part}.weight"] = tensor
        elif short.endswith(("attention.self.q_bias", "attention.self.v_bias")):
            part = "query" if short.endswith("q_bias") else "value"
            found[f"{stem}attention.self.{part}.bias"] = source[name].flatten()
        elif short == "rel_pos_bias.weight":
            found[short] = source[name].t()
        else:
            found[short] = source[name]
    return found


def _fused(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse for UniLMv2: joined projections, (1, 1, E) biases, the bias table as heads x buckets."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stem, _, part = name.rpartition("attention.self.")
        if not stem:
            found[name] = tensor.t() if name == "rel_pos_bias.weight" else tensor
        elif part == "query.weight":
            others = (tensors[f"{stem}attention.self.{other}.weight"] for other in ("key", "value"))
            found[stem + _FUSED] = torch.cat([tensor, *others])
        elif part.endswith(".bias"):
            found[f"{stem}attention.self.{part[0]}_bias"] = tensor[None, None]
    return found


def _config(settings: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path) -> TextEncoderConfig:
    path = folder / "config.json"
    family = _family(settings, tensors, path)
    if settings.get("position_embedding_type", "absolute") != "absolute":
        raise ConfigError(
            f"{path}: position_embedding_type {settings['position_embedding_type']!r} is not supported"
        )
    if settings.get("is_decoder") or settings.get("add_cross_attention"):
        raise ConfigError(f"{path}: this is a decoder, not a text encoder")
    activation = settings.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        raise ConfigError(
            f"{path}: hidden_act {activation!r} is not supported; known: {', '.join(_ACTIVATIONS)}"
        )
    types = tensors.get("embeddings.token_type_embeddings.weight")
    num_types = 0 if types is None else len(types)
    roberta = family in ("roberta", "xlm-roberta")
    settings = dict(settings)
    # UniLM v1 spells the key in another way; BERT_LARGE and MiniLM files may lack it.
    eps = settings.get("layer_norm_eps", settings.get("layer_norm_epsilon"))
    settings["layer_norm_eps"] = (1e-5 if roberta or num_types == 6 else 1e-12) if eps is None else eps
    if settings.get("pad_token_id") is None:
        settings["pad_token_id"] = 1 if roberta else 0
    values = {ours: settings[key] for key, ours in _KEYS.items() if key in settings}
    for key, name in (("vocab_size", "word"), ("max_position_embeddings", "position")):
        table = tensors.get(f"embeddings.{name}_embeddings.weight")
        if table is None:
            raise CheckpointError(
                f"{folder} does not fit TextEncoder", missing=[f"embeddings.{name}_embeddings.weight"]
            )
        values[_KEYS[key]] = len(table)
    bias = tensors.get("rel_pos_bias.weight")
    values |= {
        "family": family,
        "num_types": num_types,
        "first_position": values["pad_id"] + 1 if roberta else 0,
        "key_bias": any(name.endswith("attention.self.key.bias") for name in tensors),
        "num_buckets": 0 if bias is None else len(bias),
        "max_distance": settings.get("max_rel_pos", 128),
        "pooler": "pooler.dense.weight" in tensors,
        "head_size": _head_size(values, tensors),
        "activation": _ACTIVATIONS[activation],
    }
    return config.from_dict(TextEncoderConfig, values, where=str(path))


def _head_size(values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> int:
    """By the queries' rows; 0 where a head is as wide as width and number say."""
    rows = tensors.get("encoder.layer.0.attention.self.query.weight")
    width, heads = values.get("hidden_size"), values.get("num_heads")
    if (
        rows is None
        or not isinstance(heads, int)
        or heads < 1
        or len(rows) in (width, 0)
        or len(rows) % heads
    ):
        return 0
    return len(rows) // heads


def _family(settings: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> Family:
    """By the tensors where they are unmistakable, else by ``model_type``, which UniLM v1's files lack."""
    if (
        any(name.endswith("attention.self.query.bias") for name in tensors)
        and "rel_pos_bias.weight" in tensors
    ):
        return "unilm2"
    model_type = settings.get("model_type", "bert" if "type_vocab_size" in settings else None)
    if model_type not in _FAMILIES:
        raise ConfigError(f"{path}: model_type is {model_type!r}, expected one of {', '.join(_FAMILIES)}")
    return _FAMILIES[model_type]

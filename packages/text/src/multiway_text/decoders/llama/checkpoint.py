"""Published checkpoints <-> :class:`~.model.Llama`: the hub's safetensors, and GGUF (read only)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from multiway_blocks.bitlinear import TernaryLinear
from multiway_blocks.block_linear import BlockLinear
from multiway_blocks.int8 import Int8Linear
from multiway_core import checkpoint, config, files
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError
from torch import Tensor, nn

from multiway_text import gguf, gguf_blocks
from multiway_text.checkpoint_files import check_layers
from multiway_text.decoders.llama import ternary
from multiway_text.decoders.llama.config import LlamaConfig
from multiway_text.decoders.llama.model import Llama

MODEL_TYPE = "llama"

_LAYER_NAMES = (
    # (ours, the hub's, GGUF's)
    ("attention_norm", "input_layernorm", "attn_norm"),
    ("attention.query", "self_attn.q_proj", "attn_q"),
    ("attention.key", "self_attn.k_proj", "attn_k"),
    ("attention.value", "self_attn.v_proj", "attn_v"),
    ("attention.output", "self_attn.o_proj", "attn_output"),
    ("feedforward_norm", "post_attention_layernorm", "ffn_norm"),
    ("feedforward.gate", "mlp.gate_proj", "ffn_gate"),
    ("feedforward.up", "mlp.up_proj", "ffn_up"),
    ("feedforward.down", "mlp.down_proj", "ffn_down"),
)
_OTHER_NAMES = (
    ("embedding", "model.embed_tokens", "token_embd"),
    ("decoder.norm", "model.norm", "output_norm"),
    ("head", "lm_head", "output"),
)


def _table(layer: str, column: int) -> RuleTable:
    rules = [Rule(f"{names[column]}.weight", f"{names[0]}.weight") for names in _OTHER_NAMES]
    rules += [
        Rule(f"{layer}{names[column]}.weight", f"decoder.layers.{{i}}.{names[0]}.weight")
        for names in _LAYER_NAMES
    ]
    return RuleTable(rules)


HUGGING_FACE = _table("model.layers.{i}.", 1)
GGUF = _table("blk.{i}.", 2)

_KEYS = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "head_dim": "head_dim",
    "intermediate_size": "inner_size",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_positions",
    "rms_norm_eps": "norm_eps",
    "rope_theta": "rope_theta",
    "tie_word_embeddings": "tied_embeddings",
}


def load(
    path: Path, *, dtype: torch.dtype | None = torch.float32, device: torch.device | str = "cpu"
) -> Llama:
    """The model in a hub folder or a GGUF file, in evaluation mode. Raises CheckpointError.

    ``dtype``: None is float32, and to run only: matrices that a GGUF file holds in blocks of 32 integers (Q4_0, Q4_1,
    Q5_0, Q5_1, Q8_0, Q4_K, Q5_K) stay as they are stored (`BlockLinear`); those of other types take a byte a weight
    (`Int8Linear`).
    """
    path = Path(path)
    if path.suffix == ".gguf":
        return _load_gguf(gguf.read(path), dtype).to(device).eval()
    dtype = dtype or torch.float32
    own = _read_config(path)
    check_layers(path, own.num_layers, checkpoint.read(path))
    if ternary.is_ternary(config.read_json(path / "config.json")):
        return _load_ternary(path, own, dtype).to(device).eval()
    with checkpoint.on_meta():
        model = Llama(own)
    checkpoint.load(model, path, rules=HUGGING_FACE, dtype=dtype, device=device)
    return model.to(device).eval()


def save(model: Llama, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors`` in the hub's layout, packed where maps are ternary.

    Raises OutputError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = config.to_dict(model.config)
    content = {"architectures": ["LlamaForCausalLM"], "model_type": MODEL_TYPE}
    content |= {key: values[name] for key, name in _KEYS.items()}
    if any(isinstance(module, TernaryLinear) for module in model.modules()):
        ternary.save(model, folder, content, _hub_names(model), dtype or model.embedding.weight.dtype)
        return
    checkpoint.save(model, folder, rules=HUGGING_FACE, dtype=dtype)
    files.write_text(folder / "config.json", json.dumps(content, indent=2) + "\n")


def _hub_names(model: Llama) -> dict[str, str]:
    """Our names -> the hub's, both without the parameter's own; of every module that has a weight."""
    bare = {name.rpartition(".")[0] for name in model.state_dict()}
    return {name: HUGGING_FACE.to_published(f"{name}.weight").removesuffix(".weight") for name in bare}


def _load_ternary(path: Path, own: LlamaConfig, dtype: torch.dtype) -> Llama:
    source = checkpoint.read(path)
    with checkpoint.on_meta():
        model = Llama(own)
    names = _hub_names(model)
    quantization = config.read_json(path / "config.json")["quantization_config"]
    ternary.fill(model, source, names, quantization.get("linear_class") == "bitlinear")
    for ours, parameter in list(model.named_parameters()):
        module = model.get_submodule(ours.removesuffix(".weight"))
        name = f"{names[ours.removesuffix('.weight')]}.weight"
        if name not in source:
            raise CheckpointError(f"{path} does not fit Llama", missing=[name])
        value = source[name]
        if value.shape != parameter.shape or not value.is_floating_point():
            raise CheckpointError(
                f"{path}: {name} has {list(value.shape)}, the model needs {list(parameter.shape)} of floats"
            )
        module.weight = nn.Parameter(value.to(dtype).contiguous())
    return model


def _load_gguf(file: gguf.GGUFFile, dtype: torch.dtype | None) -> Llama:
    own = _gguf_config(file)
    check_layers(file.path, own.num_layers, file.tensors)
    with checkpoint.on_meta():
        model = Llama(own)
    targets = {GGUF.to_published(name): name for name in model.state_dict()}
    missing = sorted(targets.keys() - file.tensors.keys())
    unexpected = sorted(file.tensors.keys() - targets.keys() - {"rope_freqs.weight"})
    if missing or unexpected:
        raise CheckpointError(f"{file.path} does not fit Llama", missing=missing, unexpected=unexpected)
    if "rope_freqs.weight" in file.tensors:
        raise CheckpointError(
            f"{file.path}: scaled rotary frequencies (LLaMA 3.1 and later) are not supported"
        )
    for published, name in targets.items():
        bare, shape = name.removesuffix(".weight"), tuple(model.get_parameter(name).shape)
        file.require(published, shape)
        reorder = partial(_halves, head_dim=own.head_dim) if bare.endswith(("query", "key")) else _same
        stored = gguf_blocks.read(file.tensors[published]) if dtype is None else None
        if stored is not None:
            model.set_submodule(bare, BlockLinear(*map(reorder, stored)))
            continue
        value = reorder(file.floats(published, shape))
        if dtype is None and value.ndim == 2 and file.tensors[published].kind not in gguf.FLOATS:
            model.set_submodule(bare, Int8Linear.of(value))
        else:
            module = model.get_submodule(bare)
            module.weight = nn.Parameter(value.to(dtype or torch.float32).contiguous())
    return model


def _same(value: Tensor) -> Tensor:
    return value


def _halves(weight_OI: Tensor, head_dim: int) -> Tensor:
    """GGUF's order of a head's outputs, rotated in neighbouring pairs -> ours, rotated in halves."""
    return weight_OI.unflatten(0, (-1, head_dim // 2, 2)).transpose(1, 2).flatten(0, 2)


def _read_config(folder: Path) -> LlamaConfig:
    where = folder / "config.json"
    published = config.read_json(where)
    if published.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f"{where}: model_type is {published.get('model_type')!r}, expected {MODEL_TYPE!r}"
        )
    rope: Mapping[str, Any] = published.get("rope_parameters") or published.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, Mapping) else None
    if kind != "default":
        raise CheckpointError(
            f"{where}: rotary positions of the kind {kind!r} are not supported, only 'default'"
        )
    for key, only in (("attention_bias", False), ("mlp_bias", False), ("hidden_act", "silu")):
        if published.get(key, only) != only:
            raise CheckpointError(f"{where}: {key} is {published[key]!r}, and only {only!r} is supported")
    own = {name: published[key] for key, name in _KEYS.items() if published.get(key) is not None}
    if "rope_theta" in rope:
        own["rope_theta"] = rope["rope_theta"]
    own.setdefault("rope_theta", 10_000.0)
    own.setdefault("tied_embeddings", False)  # as `transformers` understands silence
    if "num_heads" in own:
        own.setdefault("num_kv_heads", own["num_heads"])
        if (
            isinstance(own.get("hidden_size"), int)
            and isinstance(own["num_heads"], int)
            and own["num_heads"] > 0
        ):
            own.setdefault("head_dim", own["hidden_size"] // own["num_heads"])
    return config.from_dict(LlamaConfig, own, where=str(where))


def _gguf_config(file: gguf.GGUFFile) -> LlamaConfig:
    architecture = file.get("general.architecture", str)
    if architecture != MODEL_TYPE:
        raise CheckpointError(f"{file.path}: its architecture is {architecture!r}, expected {MODEL_TYPE!r}")
    heads = file.get("llama.attention.head_count", int)
    hidden = file.get("llama.embedding_length", int)
    embedding = file.tensors.get("token_embd.weight")
    own = {
        "hidden_size": hidden,
        "num_layers": file.get("llama.block_count", int),
        "num_heads": heads,
        "num_kv_heads": file.get("llama.attention.head_count_kv", int, heads),
        "head_dim": file.get("llama.attention.key_length", int, hidden // max(heads, 1)),
        "inner_size": file.get("llama.feed_forward_length", int),
        "vocab_size": embedding.shape[0] if embedding and embedding.shape else 0,
        "max_positions": file.get("llama.context_length", int),
        "norm_eps": file.decimal("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": file.decimal("llama.rope.freq_base", 10_000.0),
        "tied_embeddings": "output.weight" not in file.tensors,
    }
    return config.from_dict(LlamaConfig, own, where=str(file.path))

"""LLaMA-like models as GGUF files, in floating point or in one of GGML's block types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from multiway_blocks.bitlinear import TernaryLinear
from multiway_core.errors import InputError
from torch import Tensor

from multiway_text import gguf
from multiway_text.decoders.llama import checkpoint
from multiway_text.decoders.llama.model import Llama

KINDS = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
"""What matrices are written as; norms stay in float32. The numbers are bits a weight, without those of the scales."""
_FLOATS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_BLOCK = 32


def save(model: Llama, path: Path, kind: str, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a file. ``metadata``: further keys, such as the tokenizer's.

    A matrix whose rows are no whole blocks is written in float16. Raises InputError for an unknown kind or a model
    with packed maps, OutputError.
    """
    if kind not in KINDS:
        raise InputError(f"GGUF type {kind!r} is not written; known are {', '.join(KINDS)}")
    if any(isinstance(module, TernaryLinear) for module in model.modules()):
        raise InputError("packed ternary LLaMA maps have no GGUF layout here; write --format packed")
    own = model.config
    head: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.embedding_length": own.hidden_size,
        "llama.block_count": own.num_layers,
        "llama.attention.head_count": own.num_heads,
        "llama.attention.head_count_kv": own.num_kv_heads,
        "llama.attention.key_length": own.head_dim,
        "llama.attention.value_length": own.head_dim,
        "llama.rope.dimension_count": own.head_dim,
        "llama.feed_forward_length": own.inner_size,
        "llama.context_length": own.max_positions,
        "llama.vocab_size": own.vocab_size,
        "llama.attention.layer_norm_rms_epsilon": own.norm_eps,
        "llama.rope.freq_base": own.rope_theta,
    }
    tensors = {}
    for ours, value in model.state_dict().items():
        if ours.endswith(("query.weight", "key.weight")):
            value = _pairs(value, own.head_dim)
        tensors[checkpoint.GGUF.to_published(ours)] = _tensor(value, kind)
    gguf.write(path, head | dict(metadata or {}), tensors)


def _pairs(weight_OI: Tensor, head_dim: int) -> Tensor:
    """Our order of a head's outputs, rotated in halves -> GGUF's, rotated in neighbouring pairs."""
    return weight_OI.unflatten(0, (-1, 2, head_dim // 2)).transpose(1, 2).flatten(0, 2)


def _tensor(value: Tensor, kind: str) -> gguf.GGUFTensor:
    value = value.detach().float().cpu()
    if value.ndim == 1:
        return gguf.floating(value)
    if kind in _FLOATS or value.shape[1] % _BLOCK:
        return gguf.floating(value.to(_FLOATS.get(kind, torch.float16)))
    from gguf import GGMLQuantizationType, quantize  # seldom needed, and takes a while

    number = GGMLQuantizationType[kind.upper()]
    data = np.ascontiguousarray(quantize(value.numpy(), number))
    return gguf.GGUFTensor(int(number), tuple(value.shape), torch.from_numpy(data.view(np.uint8).ravel()))

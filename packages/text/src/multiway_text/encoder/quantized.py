"""Encoders of one byte a weight: the network that the engine runs, and the files that hold it.

Matrices, embeddings included, are int8 with a scale a row; activations are rounded to 8 bits token by token.
Shape suffixes: N tokens of all texts, E hidden size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from multiway_blocks.attention import Attention
from multiway_blocks.feedforward import FeedForward
from multiway_blocks.kernels.int8_encoder import int8_encoder, layout
from multiway_blocks.text_encoder import TextEncoder
from multiway_blocks.text_encoder.checkpoint import BERT, SCALE, joined, published, quantized, split
from multiway_blocks.transformer import PostNorm
from multiway_core import checkpoint, files
from multiway_core.errors import InputError
from torch import Tensor, nn

_KEY = "quantization_config"
_METHOD = (
    "multiway-int8"  # a name that `transformers` refuses, where it would otherwise read codes as weights
)
_FILE_BYTES = 15_900_000
Stored = Mapping[str, tuple[Tensor, Tensor]]
"""Codes and scales of an encoder's matrices, by their names in `TextEncoder`."""
Rounding = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Int8Network:
    """A text encoder as `kernels.int8_encoder` takes it: the longest text and token types are the encoder's.

    ``types``: how many token types are told apart; the words of the second stand behind those of the first.
    """

    weights: list[Tensor]
    num_heads: int
    eps: float
    activation: str
    types: int = 1

    @classmethod
    @torch.no_grad()
    def of(cls, encoder: TextEncoder, stored: Stored | None = None, *, types: int = 1) -> Int8Network:
        """Round an encoder, or take what is ``stored`` of it; ``types``: 2 for questions with contexts.

        Raises InputError for one with relative positions (UniLMv2).
        """
        own = encoder.config
        if encoder.relative_bias is not None:
            raise InputError("int8: an encoder with relative positions (UniLMv2) is not supported")
        positions_TE = encoder.position_embedding.weight[own.first_position :].float()
        if encoder.type_embedding is not None:
            positions_TE = positions_TE + encoder.type_embedding.weight[0].float()
        names = {parameter: name for name, parameter in encoder.named_parameters()}

        def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
            found = (stored or {}).get(names[weight])  # type: ignore[index]
            return layout.quantize(weight) if found is None else found

        codes, scale = rounded(encoder.token_embedding.weight)
        types = min(types, own.num_types)
        if types > 1:
            assert encoder.type_embedding is not None
            first_E, second_E = encoder.type_embedding.weight[:2].float()
            more, its_scale = layout.quantize(layout.dequantize(codes, scale) + second_E - first_E)
            codes, scale = torch.cat([codes, more]), torch.cat([scale, its_scale])
        embedding = layout.Embedding(codes, scale, positions_TE, _norm(encoder.embedding_norm))
        layers = [_layer(block, rounded) for block in encoder.stack.layers]
        packed = layout.pack(embedding, layers)
        return cls(packed, own.num_heads, own.norm_eps, own.activation, max(1, types))

    def __call__(self, tokens_N: Tensor, starts: Tensor, types_N: Tensor | None = None) -> Tensor:
        """Hidden states (N, E) float32 of texts one behind the other; see `int8_encoder`."""
        if types_N is not None and self.types > 1:
            tokens_N = tokens_N + types_N * (len(self.weights[0]) // self.types)
        return int8_encoder(
            tokens_N,
            starts,
            self.weights,
            num_heads=self.num_heads,
            eps=self.eps,
            activation=self.activation,
        )


def is_quantized(settings: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` is of :func:`save_quantized`."""
    found = settings.get(_KEY)
    return isinstance(found, Mapping) and found.get("quant_method") == _METHOD


def read_stored(folder: Path) -> Stored:
    """What :func:`save_quantized` wrote."""
    tensors = joined(checkpoint.read(folder))
    names = [name.removesuffix(SCALE) for name in tensors if name.endswith(SCALE)]
    prefix = next((p for p in ("bert.", "roberta.") if all(name.startswith(p) for name in names)), "")
    return {
        BERT.to_ours(name.removeprefix(prefix)) or name: (tensors[name], tensors[name + SCALE])
        for name in names
    }


def save_quantized(encoder: TextEncoder, folder: Path) -> None:
    """Write ``config.json`` and int8 weights in files of at most 16 MB. Raises OutputError."""
    write_quantized(*published(encoder), folder)


def write_quantized(
    tensors: Mapping[str, Tensor],
    settings: dict[str, Any],
    folder: Path,
    *,
    head: Mapping[str, Tensor] | None = None,
) -> None:
    """The same of an encoder's published tensors; those of a ``head`` stay as they are. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    small = split(quantized(tensors), _FILE_BYTES) | {name: t.float() for name, t in (head or {}).items()}
    checkpoint.save(small, folder, max_shard_bytes=_FILE_BYTES)
    settings[_KEY] = {"quant_method": _METHOD, "bits": 8, "scale": "row"}
    files.write_text(folder / "config.json", json.dumps(settings, indent=2) + "\n")


def _layer(block: nn.Module, rounded: Rounding) -> layout.Layer:
    assert isinstance(block, PostNorm)
    attention, feedforward = block.attention, block.feedforward
    assert isinstance(attention, Attention)
    assert isinstance(feedforward, FeedForward)
    return layout.Layer(
        _linear(rounded, attention.query, attention.key, attention.value),
        _linear(rounded, attention.output),
        _norm(block.attention_norm),
        _linear(rounded, feedforward.up),
        _linear(rounded, feedforward.down),
        _norm(block.feedforward_norm),
    )


def _linear(rounded: Rounding, *parts: nn.Linear) -> layout.Linear:
    """One product of several that take the same rows."""
    biases: list[Tensor] = [
        part.weight.new_zeros(len(part.weight)) if part.bias is None else part.bias for part in parts
    ]
    codes, scales = zip(*(rounded(part.weight) for part in parts), strict=True)
    return layout.Linear(torch.cat(codes), torch.cat(scales), torch.cat(biases).float())


def _norm(norm: nn.Module) -> Tensor:
    assert isinstance(norm, nn.LayerNorm)
    return torch.stack([norm.weight, norm.bias]).float()

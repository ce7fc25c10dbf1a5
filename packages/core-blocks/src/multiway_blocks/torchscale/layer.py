"""A layer and a stack of TorchScale's out of our blocks, by its flags.

`PreNorm` is also sub-LN, whose further norms stand inside its parts; `PostNorm` is also DeepNorm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_blocks.torchscale.feedforward import MOELayer
from multiway_blocks.torchscale.names import Published
from multiway_blocks.transformer import Context, PostNorm, PreNorm, Stack


class PreNormLayer(Published, PreNorm):
    """`PreNorm` under the names of one of TorchScale's layers."""


class PostNormLayer(Published, PostNorm):
    """`PostNorm` likewise."""


def new_layer(
    args: Any,
    half: str,
    depth: int,
    mixer: nn.Module,
    new_feedforward: Callable[[Any, int, int], nn.Module],
    new_norm: Callable[[], nn.Module],
    *,
    cross: nn.Module | None = None,
    experts: type[MOELayer] = MOELayer,
    mixer_name: str = "self_attn",
    alpha: float = 1.0,
) -> PreNormLayer | PostNormLayer:
    """The layer at ``depth`` (from 0) of an "encoder" or a "decoder"; ``alpha`` is DeepNorm's."""
    width, inner = getattr(args, f"{half}_embed_dim"), getattr(args, f"{half}_ffn_embed_dim")
    is_mixture = args.moe_freq != 0 and (depth + 1) % args.moe_freq == 0
    rate = args.drop_path_rate * depth / max(1, getattr(args, f"{half}_layers") - 1)  # grows with depth
    first_norm = new_norm()
    options: dict[str, Any] = {
        "cross": None if cross is None else (cross, new_norm()),
        "dropout": args.dropout,
        "drop_path": rate,
        "names": {
            "attention": mixer_name,
            "attention_norm": f"{mixer_name}_layer_norm",
            "cross_attention": "encoder_attn",
            "cross_attention_norm": "encoder_attn_layer_norm",
            "feedforward": "moe_layer" if is_mixture else "ffn",
            "feedforward_norm": "final_layer_norm",
        },
    }
    feedforward = (experts if is_mixture else new_feedforward)(args, width, inner)
    parts = (mixer, feedforward, (first_norm, new_norm()))
    if getattr(args, f"{half}_normalize_before"):
        return PreNormLayer(*parts, **options)
    return PostNormLayer(*parts, alpha=alpha, **options)


class Transformer(Published, Stack, names={"norm": "layer_norm"}):
    """What encoder and decoders share: embeddings, layers, the last norm, the output projection."""

    def __init__(
        self,
        args: Any,
        width: int,
        embed_tokens: nn.Module | None,
        embed_positions: nn.Module | None,
        output_projection: nn.Module | None,
        *,
        builds_output: bool,
        shares_embedding: bool,
    ) -> None:
        super().__init__()
        self.args, self.embed_dim = args, width
        self.dropout_module = nn.Dropout(args.dropout)
        self.embed_scale = 1.0 if args.no_scale_embedding else math.sqrt(width)
        self.embed_tokens, self.embed_positions = embed_tokens, embed_positions
        self.output_projection = output_projection
        if output_projection is None and builds_output and not args.no_output_layer and args.vocab_size > 0:
            self.output_projection = nn.Linear(width, args.vocab_size, bias=False)
            nn.init.normal_(self.output_projection.weight, std=width**-0.5)
            if shares_embedding:
                weight = getattr(embed_tokens, "weight", None)
                if not isinstance(weight, nn.Parameter):
                    raise InputError("an output projection that shares the embedding needs embed_tokens")
                self.output_projection.weight = weight
        self.layernorm_embedding: nn.Module | None = None

    @property
    def num_layers(self) -> int:
        """Layers."""
        return len(self.layers)

    def embedded(self, tokens: Tensor | None, token_embedding: Tensor | None, what: str) -> Tensor:
        """Scaled vectors (B, T, E), which may be given in place of tokens (B, T)."""
        if token_embedding is None:
            if self.embed_tokens is None:
                raise InputError(f"{what} without embed_tokens needs token_embeddings")
            token_embedding = self.embed_tokens(tokens)
        return self.embed_scale * token_embedding

    def run(self, x_BTE: Tensor, context: Context) -> tuple[Tensor, list[Tensor], list[Tensor | None]]:
        """What leaves the last norm, what enters and leaves the layers, and a balance loss or None a layer."""
        self.checkpoint_activations = self.args.checkpoint_activations
        states: list[Tensor] = []
        x_BTE = Stack.forward(self, x_BTE, context, states)
        return x_BTE, states, [context.losses.get(layer) for layer in range(self.num_layers)]


def positions_behind(first: int, x_BTE: Tensor) -> Tensor:
    """The places ``first``, ``first + 1`` ...: int64 (1, T)."""
    return torch.arange(first, first + x_BTE.shape[1], device=x_BTE.device)[None]

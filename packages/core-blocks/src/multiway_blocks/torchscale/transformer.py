"""What encoder and decoders share: the layers that the flags ask for, embeddings around them, and initial weights.

`PreNorm` is also sub-LN, whose further norms stand inside its parts; `PostNorm` is also DeepNorm. As in the released
code, what these two scale is `nn.Linear`'s own initialisation (the papers name Xavier's), and biases with the weights.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_blocks.residual_scaling import DeepNorm
from multiway_blocks.torchscale.attention import EncoderAttention, MultiheadAttention
from multiway_blocks.torchscale.config import check
from multiway_blocks.torchscale.feedforward import FeedForwardNetwork, MOELayer
from multiway_blocks.torchscale.names import Published
from multiway_blocks.transformer import Context, PostNorm, PreNorm, Stack

SCALED = ("fc1", "fc2", "out_proj", "v_proj")


class PreNormLayer(Published, PreNorm):
    """`PreNorm` under the names of one of TorchScale's layers."""


class PostNormLayer(Published, PostNorm):
    """`PostNorm` likewise."""


class Transformer(Published, Stack, names={"norm": "layer_norm"}):
    """One side, "encoder" or "decoder": embeddings, layers, the last norm, the output projection.

    ``reads_encoder``: whether layers have cross-attention. ``builds_output``: an output projection where none is given.
    """

    side, heads, mixer = "decoder", "attention_heads", "self_attn"
    experts = MOELayer

    def __init__(
        self,
        args: Any,
        embed_tokens: nn.Module | None,
        embed_positions: nn.Module | None,
        output_projection: nn.Module | None,
        scales: DeepNorm,
        *,
        builds_output: bool = True,
        shares_embedding: bool,
        reads_encoder: bool = False,
    ) -> None:
        check(args, (self.side,), heads=self.heads)
        super().__init__()
        self.args, self.embed_dim, self.scales = args, self.flag(args, "embed_dim"), scales
        self.dropout_module = nn.Dropout(args.dropout)
        self.embed_scale = 1.0 if args.no_scale_embedding else math.sqrt(self.embed_dim)
        self.embed_tokens, self.embed_positions = embed_tokens, embed_positions
        self.output_projection = output_projection
        if output_projection is None and builds_output and not args.no_output_layer and args.vocab_size > 0:
            self.output_projection = nn.Linear(self.embed_dim, args.vocab_size, bias=False)
            nn.init.normal_(self.output_projection.weight, std=self.embed_dim**-0.5)
            if shares_embedding:
                weight = getattr(embed_tokens, "weight", None)
                if not isinstance(weight, nn.Parameter):
                    raise InputError("an output projection that shares the embedding needs embed_tokens")
                self.output_projection.weight = weight
        self.layernorm_embedding = self.new_norm() if args.layernorm_embedding else None
        if self.flag(args, "normalize_before") and getattr(args, "normalize_output", True):
            self.norm = self.new_norm()
        self.layers.extend(
            self._new_layer(depth, reads_encoder) for depth in range(self.flag(args, "layers"))
        )

    def flag(self, args: Any, name: str) -> Any:
        """A flag of this side."""
        return getattr(args, f"{self.side}_{name}")

    def new_norm(self) -> nn.Module:
        """The norm of all its parts."""
        return nn.LayerNorm(self.embed_dim, eps=self.args.layernorm_eps)

    def new_mixer(self) -> nn.Module:
        """A layer's attention."""
        return MultiheadAttention(self.args, self.embed_dim, self.flag(self.args, self.heads))

    def new_feedforward(self) -> nn.Module:
        """A layer's feed-forward network without experts."""
        return FeedForwardNetwork(self.args, self.embed_dim, self.flag(self.args, "ffn_embed_dim"))

    def _new_layer(self, depth: int, reads_encoder: bool) -> PreNormLayer | PostNormLayer:
        args, width = self.args, self.embed_dim
        is_mixture = args.moe_freq != 0 and (depth + 1) % args.moe_freq == 0
        mixer, cross = self.new_mixer(), None
        if reads_encoder:
            cross = EncoderAttention(args, width, self.flag(args, self.heads)), self.new_norm()
        inner = self.flag(args, "ffn_embed_dim")
        feedforward = self.experts(args, width, inner) if is_mixture else self.new_feedforward()
        norms = self.new_norm(), self.new_norm()
        options: dict[str, Any] = {
            "cross": cross,
            "dropout": args.dropout,
            "drop_path": args.drop_path_rate * depth / max(1, self.flag(args, "layers") - 1),
            "names": {
                "attention": self.mixer,
                "attention_norm": f"{self.mixer}_layer_norm",
                "cross_attention": "encoder_attn",
                "cross_attention_norm": "encoder_attn_layer_norm",
                "feedforward": "moe_layer" if is_mixture else "ffn",
                "feedforward_norm": "final_layer_norm",
            },
        }
        if self.flag(args, "normalize_before"):
            return PreNormLayer(mixer, feedforward, norms, **options)
        alpha = self.scales.alpha if args.deepnorm else 1.0
        return PostNormLayer(mixer, feedforward, norms, alpha=alpha, **options)

    @torch.no_grad()
    def initialise(self, sub_norm: float) -> None:
        """BERT's weights (N(0, 0.02), biases and padding rows zero), DeepNorm's or sub-LN's scale, as the flags say."""
        for part in self.modules() if getattr(self.args, "bert_init", False) else ():
            if isinstance(part, nn.Linear | nn.Embedding):
                part.weight.normal_(std=0.02)
            if isinstance(part, nn.Linear) and part.bias is not None:
                part.bias.zero_()
            if isinstance(part, nn.Embedding) and part.padding_idx is not None:
                part.weight[part.padding_idx].zero_()
        for name, parameter in self.named_parameters() if self.args.deepnorm or self.args.subln else ():
            if any(part in name for part in SCALED):
                if self.args.deepnorm:
                    parameter.mul_(1 / self.scales.divisor)
                elif "encoder_attn" not in name:  # Magneto leaves cross-attention as it is
                    parameter.mul_(sub_norm)

    @property
    def num_layers(self) -> int:
        """Layers."""
        return len(self.layers)

    def embedded(self, tokens: Tensor | None, token_embedding: Tensor | None) -> Tensor:
        """Scaled vectors (B, T, E), which may be given in place of tokens (B, T)."""
        if token_embedding is None:
            if self.embed_tokens is None:
                raise InputError(f"a {self.side} without embed_tokens needs token_embeddings")
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

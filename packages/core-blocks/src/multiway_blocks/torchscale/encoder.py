"""The bidirectional encoder (figure 2 of Magneto, figure 2 of DeepNet, figure 1 of BEiT-3).

Shape suffixes: B batch, T tokens, S keys, E hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_blocks.residual_scaling import deep_norm_encoder, sub_norm_encoder
from multiway_blocks.torchscale import initialisation
from multiway_blocks.torchscale.attention import (
    MultiheadAttention,
    added_mask,
    attention_mask,
    length_of,
    norm,
    relative_bias,
)
from multiway_blocks.torchscale.config import check
from multiway_blocks.torchscale.feedforward import FeedForwardNetwork, MOELayer
from multiway_blocks.torchscale.layer import ResidualLayer, has_experts, run, state_of
from multiway_blocks.torchscale.multiway import set_split_position, wrap


class EncoderLayer(ResidualLayer):
    """Self-attention, then a feed-forward network or experts."""

    def __init__(self, args: Any, depth: int, is_encoder_decoder: bool = False) -> None:
        decoder_layers = args.decoder_layers if is_encoder_decoder else 0
        alpha = deep_norm_encoder(args.encoder_layers, decoder_layers).alpha if args.deepnorm else 1.0
        super().__init__(args, "encoder", depth, alpha)
        width, inner = args.encoder_embed_dim, args.encoder_ffn_embed_dim
        self.self_attn = MultiheadAttention(args, width, args.encoder_attention_heads)
        self.self_attn_layer_norm = wrap(args, norm(args, width))
        if has_experts(args, depth):
            self.moe_layer = MOELayer(args, width, inner)
        else:
            self.ffn = wrap(args, FeedForwardNetwork(args, width, inner))
        self.final_layer_norm = wrap(args, norm(args, width))

    def forward(
        self,
        x_BTE: Tensor,
        mask: Tensor | None,
        state: dict[str, Tensor] | None,
        split_position: int | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, E) -> (B, T, E), and the experts' balance loss if there are any."""
        if split_position is not None:  # again here: the backward pass may compute a layer anew
            set_split_position(self, split_position)
        y = self.self_attn.attend_self(self.before(x_BTE, self.self_attn_layer_norm), mask, state)
        x_BTE = self.after(x_BTE, self.dropout_module(y), self.self_attn_layer_norm)
        y, l_aux = self.feed_forward(self.before(x_BTE, self.final_layer_norm))
        return self.after(x_BTE, y, self.final_layer_norm), l_aux

    def feed_forward(self, x_BTE: Tensor) -> tuple[Tensor, Tensor | None]:
        """Experts fill up in the order of places, not of rows: their tokens come transposed."""
        if not hasattr(self, "moe_layer"):
            return super().feed_forward(x_BTE)
        y_TBE, l_aux = super().feed_forward(x_BTE.transpose(0, 1))
        return y_TBE.transpose(0, 1), l_aux


class Encoder(nn.Module):
    """Embeddings, layers, the last norm (pre-norm only) and, standing alone, an output projection."""

    def __init__(
        self,
        args: Any,
        embed_tokens: nn.Module | None = None,
        embed_positions: nn.Module | None = None,
        output_projection: nn.Module | None = None,
        is_encoder_decoder: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        check(args, ("encoder",))
        self.args = args
        width = args.encoder_embed_dim
        self.dropout_module = nn.Dropout(args.dropout)
        self.embed_scale = 1.0 if args.no_scale_embedding else math.sqrt(width)
        self.embed_tokens, self.embed_positions = embed_tokens, embed_positions
        self.output_projection = output_projection
        builds_output = not (is_encoder_decoder or args.no_output_layer) and args.vocab_size > 0
        if output_projection is None and builds_output:
            tied = (
                tied_weight(embed_tokens)
                if getattr(args, "share_encoder_input_output_embed", False)
                else None
            )
            self.output_projection = initialisation.output_projection(args, width, tied)
        self.layernorm_embedding = wrap(args, norm(args, width)) if args.layernorm_embedding else None
        self.layers = nn.ModuleList(
            EncoderLayer(args, i, is_encoder_decoder) for i in range(args.encoder_layers)
        )
        self.num_layers = len(self.layers)
        has_last_norm = args.encoder_normalize_before and args.normalize_output
        self.layer_norm = wrap(args, norm(args, width)) if has_last_norm else None
        self.relative_position = relative_bias(args, args.encoder_attention_heads)
        if args.bert_init:
            initialisation.as_bert(self)
        decoder_layers = args.decoder_layers if is_encoder_decoder else 0
        if args.deepnorm:
            divisor = deep_norm_encoder(args.encoder_layers, decoder_layers).divisor
            initialisation.scale_parts(self, 1 / divisor)
        if args.subln:
            initialisation.scale_parts(self, sub_norm_encoder(args.encoder_layers, decoder_layers))

    def forward_embedding(
        self,
        src_tokens: Tensor | None,
        token_embedding: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Tokens (B, T) or their vectors -> what enters the layers (B, T, E), and the bare embeddings."""
        if token_embedding is None:
            if self.embed_tokens is None:
                raise InputError("an encoder without embed_tokens needs token_embeddings")
            token_embedding = self.embed_tokens(src_tokens)
        x = embedded = self.embed_scale * token_embedding
        if self.embed_positions is not None:
            x = x + self.embed_positions(x if src_tokens is None else src_tokens, positions=positions)
        if self.layernorm_embedding is not None:
            x = self.layernorm_embedding(x)
        return self.dropout_module(x), embedded

    def forward(
        self,
        src_tokens: Tensor | None,
        encoder_padding_mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
        return_all_hiddens: bool = False,
        token_embeddings: Tensor | None = None,
        multiway_split_position: int | None = None,
        features_only: bool = False,
        incremental_state: Any = None,
        positions: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Encode int64 tokens (B, T), or vectors (B, T, E) in ``token_embeddings``.

        Args:
            encoder_padding_mask: (B, T) True at padding.
            attn_mask: (T, S), not zero where a query may not look.
            multiway_split_position: where the second modality begins; -1: nowhere, 0: at once.
            incremental_state: index of a layer -> dictionary. New tokens go behind those it holds, all of which they
                see; ``encoder_padding_mask`` is not looked at then.
            positions: for ``embed_positions``.

        Returns encoder_out (B, T, V, or E without output projection or with ``features_only``), encoder_embedding,
        encoder_padding_mask, encoder_states (with ``return_all_hiddens`` what enters and leaves the layers) and l_aux,
        one balance loss or None a layer. Raises InputError when neither tokens nor vectors are given.
        """
        if src_tokens is None and token_embeddings is None:
            raise InputError("neither src_tokens nor token_embeddings given")
        if multiway_split_position is not None:
            if not self.args.multiway:
                raise InputError("multiway_split_position needs a configuration with multiway=True")
            set_split_position(self, multiway_split_position)
        x, embedding = self.forward_embedding(src_tokens, token_embeddings, positions)
        padding = encoder_padding_mask
        if padding is None:
            encoder_padding_mask = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        else:
            x = x * (1 - padding[..., None].to(x.dtype))
        mask = self._mask(
            x, attn_mask, None if incremental_state is not None else padding, length_of(incremental_state)
        )
        states, l_aux = [x], []
        for index, layer in enumerate(self.layers):
            state = state_of(incremental_state, index)
            x, balance = run(layer, self.args, x, mask, state, multiway_split_position)
            states.append(x)
            l_aux.append(balance)
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        if not features_only and self.output_projection is not None:
            x = self.output_projection(x)
        return {
            "encoder_out": x,
            "encoder_embedding": embedding,
            "encoder_padding_mask": encoder_padding_mask,
            "encoder_states": states if return_all_hiddens else [],
            "l_aux": l_aux,
        }

    def _mask(
        self, x_BTE: Tensor, attn_mask: Tensor | None, padding: Tensor | None, before: int
    ) -> Tensor | None:
        bias = added_mask(attn_mask, x_BTE.dtype)
        if self.relative_position is not None:
            tokens = x_BTE.shape[1]
            relative = self.relative_position(tokens, before + tokens, offset=before)
            bias = relative if bias is None else relative + bias
        elif bias is not None:
            bias = bias[None, None]
        return attention_mask(None, padding, bias, x_BTE.dtype)


def tied_weight(embed_tokens: nn.Module | None) -> nn.Parameter:
    """The matrix that an output projection shares."""
    weight = getattr(embed_tokens, "weight", None)
    if not isinstance(weight, nn.Parameter):
        raise InputError("an output projection that shares the embedding needs embed_tokens")
    return weight

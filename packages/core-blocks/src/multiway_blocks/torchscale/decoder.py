"""The causal decoder, with cross-attention to an encoder or without (figure 2 of Magneto, figure 2 of DeepNet).

Shape suffixes: B batch, T new tokens, S all tokens so far, E hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_blocks.attention import CrossAttention, causal_mask
from multiway_blocks.residual_scaling import deep_norm_decoder, sub_norm_decoder
from multiway_blocks.torchscale import initialisation
from multiway_blocks.torchscale.attention import (
    MultiheadAttention,
    attention_mask,
    length_of,
    norm,
    relative_bias,
)
from multiway_blocks.torchscale.config import check
from multiway_blocks.torchscale.encoder import tied_weight
from multiway_blocks.torchscale.feedforward import FeedForwardNetwork, MOELayer
from multiway_blocks.torchscale.layer import ResidualLayer, has_experts, run, state_of
from multiway_blocks.transformer import Context


class DecoderLayer(ResidualLayer):
    """Causal self-attention, cross-attention if there is an encoder, then a feed-forward network or experts."""

    def __init__(self, args: Any, depth: int, is_encoder_decoder: bool = False) -> None:
        scales = deep_norm_decoder(args.decoder_layers, cross_attention=is_encoder_decoder)
        super().__init__(args, "decoder", depth, scales.alpha if args.deepnorm else 1.0)
        width, inner, heads = args.decoder_embed_dim, args.decoder_ffn_embed_dim, args.decoder_attention_heads
        self.self_attn = MultiheadAttention(args, width, heads)
        self.self_attn_layer_norm = norm(args, width)
        self.encoder_attn = None
        if is_encoder_decoder:
            self.encoder_attn = MultiheadAttention(args, width, heads, self_attention=False)
            self.encoder_attn_layer_norm = norm(args, width)
        if has_experts(args, depth):
            self.moe_layer = MOELayer(args, width, inner)
        else:
            self.ffn = FeedForwardNetwork(args, width, inner)
        self.final_layer_norm = norm(args, width)

    def forward(
        self,
        x_BTE: Tensor,
        mask: Tensor | None,
        state: dict[str, Tensor] | None,
        encoder_out_BSE: Tensor | None = None,
        cross_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, E) -> (B, T, E), and the experts' balance loss if there are any."""
        y = self.self_attn.attend_self(self.before(x_BTE, self.self_attn_layer_norm), mask, state)
        x_BTE = self.after(x_BTE, self.dropout_module(y), self.self_attn_layer_norm)
        if self.encoder_attn is not None and encoder_out_BSE is not None:
            query_BTE = self.before(x_BTE, self.encoder_attn_layer_norm)
            memory = Context(memory_BME=encoder_out_BSE, memory_mask=cross_mask)
            y = CrossAttention.forward(self.encoder_attn, query_BTE, memory)  # type: ignore[arg-type]
            x_BTE = self.after(x_BTE, self.dropout_module(y), self.encoder_attn_layer_norm)
        y, l_aux = self.feed_forward(self.before(x_BTE, self.final_layer_norm))
        return self.after(x_BTE, y, self.final_layer_norm), l_aux


class CausalStack(nn.Module):
    """What :class:`Decoder` and ``RetNetDecoder`` share: embeddings, the output projection, the walk through layers."""

    def __init__(
        self,
        args: Any,
        embed_tokens: nn.Module | None,
        embed_positions: nn.Module | None,
        output_projection: nn.Module | None,
    ) -> None:
        super().__init__()
        self.args = args
        self.embed_dim = args.decoder_embed_dim
        self.dropout_module = nn.Dropout(args.dropout)
        self.embed_scale = 1.0 if args.no_scale_embedding else math.sqrt(self.embed_dim)
        self.embed_tokens, self.embed_positions = embed_tokens, embed_positions
        self.output_projection = output_projection
        if output_projection is None and not args.no_output_layer and args.vocab_size > 0:
            tied = tied_weight(embed_tokens) if args.share_decoder_input_output_embed else None
            self.output_projection = initialisation.output_projection(args, self.embed_dim, tied)
        self.layernorm_embedding: nn.Module | None = None
        self.layer_norm: nn.Module | None = None
        self.layers = nn.ModuleList()
        self.num_layers = args.decoder_layers

    def is_first_step(self, incremental_state: Any) -> bool:
        """Whether a prompt is read into an empty state: all its tokens at once."""
        return incremental_state is not None and bool(incremental_state.get("is_first_step", False))

    def forward_embedding(
        self, tokens: Tensor, token_embedding: Tensor | None = None, incremental_state: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Tokens (B, S) -> what enters the layers, and the bare embeddings; of the last token only when decoding."""
        codes = None
        if self.embed_positions is not None:
            codes = self.embed_positions(tokens, incremental_state=incremental_state)
        if incremental_state is not None and not self.is_first_step(incremental_state):
            tokens = tokens[:, -1:]
            codes = None if codes is None else codes[:, -1:]
        if token_embedding is None:
            if self.embed_tokens is None:
                raise InputError("a decoder without embed_tokens needs token_embeddings")
            token_embedding = self.embed_tokens(tokens)
        x = embedded = self.embed_scale * token_embedding
        if codes is not None:
            x = x + codes
        if self.layernorm_embedding is not None:
            x = self.layernorm_embedding(x)
        return self.dropout_module(x), embedded

    def walk(
        self,
        x_BTE: Tensor,
        l_aux: list[Tensor | None],
        incremental_state: Any,
        features_only: bool,
        *inputs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Layers, which are called with (x, first input, state, further inputs), last norm and output projection."""
        states = [x_BTE]
        for index, layer in enumerate(self.layers):
            state = state_of(incremental_state, index)
            x_BTE, balance = run(layer, self.args, x_BTE, inputs[0], state, *inputs[1:])
            l_aux.append(balance)
            states.append(x_BTE)
        if self.layer_norm is not None:
            x_BTE = self.layer_norm(x_BTE)
        if not features_only:
            x_BTE = self.output_layer(x_BTE)
        return x_BTE, {"inner_states": states, "l_aux": l_aux, "attn": None}

    def output_layer(self, features: Tensor) -> Tensor:
        """(..., E) -> logits (..., V). Raises InputError when there is no output projection."""
        if self.output_projection is None:
            raise InputError(
                "this decoder has no output projection: pass features_only=True, or set vocab_size and leave"
                " no_output_layer False"
            )
        return self.output_projection(features)


class Decoder(CausalStack):
    """A language model, or the decoder of :class:`EncoderDecoder`."""

    def __init__(
        self,
        args: Any,
        embed_tokens: nn.Module | None = None,
        embed_positions: nn.Module | None = None,
        output_projection: nn.Module | None = None,
        is_encoder_decoder: bool = False,
        **kwargs: Any,
    ) -> None:
        check(args, ("decoder",))
        super().__init__(args, embed_tokens, embed_positions, output_projection)
        layers, heads = args.decoder_layers, args.decoder_attention_heads
        if args.layernorm_embedding:
            self.layernorm_embedding = norm(args, self.embed_dim)
        self.layers.extend(DecoderLayer(args, i, is_encoder_decoder) for i in range(layers))
        if args.decoder_normalize_before:
            self.layer_norm = norm(args, self.embed_dim)
        self.self_attn_relative_position = relative_bias(args, heads)
        self.cross_attn_relative_position = relative_bias(args, heads) if is_encoder_decoder else None
        if args.bert_init:
            initialisation.as_bert(self)
        if args.deepnorm:
            divisor = deep_norm_decoder(layers, cross_attention=is_encoder_decoder).divisor
            initialisation.scale_parts(self, 1 / divisor)
        if args.subln:
            factor = sub_norm_decoder(layers, cross_attention=is_encoder_decoder)
            initialisation.scale_parts(self, factor, cross_attention=False)

    def forward(
        self,
        prev_output_tokens: Tensor,
        self_attn_padding_mask: Tensor | None = None,
        encoder_out: dict[str, Any] | None = None,
        incremental_state: Any = None,
        features_only: bool = False,
        return_all_hiddens: bool = False,
        token_embeddings: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Logits (B, T, V), or features (B, T, E), of int64 tokens (B, S), and a dictionary.

        Args:
            self_attn_padding_mask: (B, S) True at padding.
            encoder_out: what :class:`Encoder` returned.
            incremental_state: a dictionary that keeps the past. With ``state["is_first_step"] = True`` it takes all
                tokens of a prompt; without it the last token of ``prev_output_tokens``, which are all tokens so far.
            token_embeddings: vectors in place of the tokens that are read.

        The dictionary has inner_states (what enters and leaves the layers), l_aux (of the encoder's layers, then of
        these) and attn (None).
        """
        x, _ = self.forward_embedding(prev_output_tokens, token_embeddings, incremental_state)
        if encoder_out is None and self.cross_attn_relative_position is not None:
            raise InputError("this decoder has relative positions to an encoder: encoder_out is missing")
        before, tokens = length_of(incremental_state), x.shape[1]
        total = before + tokens
        bias = None
        if self.self_attn_relative_position is not None:
            bias = self.self_attn_relative_position(tokens, total, offset=before)
        visible = None if tokens == 1 else causal_mask(tokens, total, x.device)[0, 0]
        mask = attention_mask(visible, self_attn_padding_mask, bias, x.dtype)
        if encoder_out is None:
            return self.walk(x, [], incremental_state, features_only, mask)
        source = encoder_out["encoder_out"]
        bias = None
        if self.cross_attn_relative_position is not None:
            bias = self.cross_attn_relative_position(tokens, source.shape[1], offset=before)
        cross_mask = attention_mask(None, encoder_out["encoder_padding_mask"], bias, x.dtype)
        l_aux = list(encoder_out.get("l_aux", []))
        return self.walk(x, l_aux, incremental_state, features_only, mask, source, cross_mask)

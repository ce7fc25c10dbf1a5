"""The causal decoders: with cross-attention to an encoder or without (figure 2 of Magneto and DeepNet), and RetNet.

Shape suffixes: B batch, T new tokens, S all tokens so far, E hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_blocks.attention import causal_mask
from multiway_blocks.norm import RMSNorm
from multiway_blocks.residual_scaling import deep_norm_decoder, sub_norm_decoder
from multiway_blocks.torchscale.attention import IncrementalState, attention_mask, relative_bias
from multiway_blocks.torchscale.feedforward import GLU
from multiway_blocks.torchscale.retention import MultiScaleRetention, RetNetRelPos
from multiway_blocks.torchscale.transformer import Transformer, positions_behind
from multiway_blocks.transformer import Context


class _Decoder(Transformer):
    """What both decoders share."""

    def enter(self, tokens: Tensor, token_embeddings: Tensor | None, incremental_state: Any) -> Tensor:
        """What enters the layers of tokens (B, S): of the last one only when decoding, but of a whole prompt."""
        decodes = incremental_state is not None and not incremental_state.get("is_first_step", False)
        codes = None
        if self.embed_positions is not None:
            codes = self.embed_positions(tokens, incremental_state=incremental_state)
        if decodes:
            tokens, codes = tokens[:, -1:], None if codes is None else codes[:, -1:]
        x = self.embedded(tokens, token_embeddings)
        if codes is not None:
            x = x + codes
        if self.layernorm_embedding is not None:
            x = self.layernorm_embedding(x)
        return self.dropout_module(x)

    def leave(
        self, x_BTE: Tensor, context: Context, features_only: bool, l_aux: list[Tensor | None]
    ) -> tuple[Tensor, dict[str, Any]]:
        """Layers, last norm and output projection."""
        x_BTE, states, balances = self.run(x_BTE, context)
        if not features_only:
            x_BTE = self.output_layer(x_BTE)
        return x_BTE, {"inner_states": states, "l_aux": [*l_aux, *balances], "attn": None}

    def output_layer(self, features: Tensor) -> Tensor:
        """(..., E) -> logits (..., V). Raises InputError when there is no output projection."""
        if self.output_projection is None:
            raise InputError(
                "this decoder has no output projection: pass features_only=True, or set vocab_size and leave"
                " no_output_layer False"
            )
        return self.output_projection(features)


class Decoder(_Decoder):
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
        super().__init__(
            args,
            embed_tokens,
            embed_positions,
            output_projection,
            deep_norm_decoder(args.decoder_layers, cross_attention=is_encoder_decoder),
            shares_embedding=args.share_decoder_input_output_embed,
            reads_encoder=is_encoder_decoder,
        )
        heads = args.decoder_attention_heads
        self.self_attn_relative_position = relative_bias(args, heads)
        self.cross_attn_relative_position = relative_bias(args, heads) if is_encoder_decoder else None
        self.initialise(sub_norm_decoder(args.decoder_layers, cross_attention=is_encoder_decoder))

    def forward(  # type: ignore[override]
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
        x = self.enter(prev_output_tokens, token_embeddings, incremental_state)
        cache = None if incremental_state is None else IncrementalState(incremental_state)
        before, tokens = 0 if cache is None else cache.length, x.shape[1]
        bias = None
        if self.self_attn_relative_position is not None:
            bias = self.self_attn_relative_position(tokens, before + tokens, offset=before)
        visible = None if tokens == 1 else causal_mask(tokens, before + tokens, x.device)[0, 0]
        mask = attention_mask(visible, self_attn_padding_mask, bias, x.dtype)
        source = cross_mask = None
        if encoder_out is not None:
            source, bias = encoder_out["encoder_out"], None
            if self.cross_attn_relative_position is not None:
                bias = self.cross_attn_relative_position(tokens, source.shape[1], offset=before)
            cross_mask = attention_mask(None, encoder_out["encoder_padding_mask"], bias, x.dtype)
        elif self.cross_attn_relative_position is not None:
            raise InputError("this decoder has relative positions to an encoder: encoder_out is missing")
        positions_1T = positions_behind(before, x)
        context = Context(mask, positions_1T, cache, memory_BME=source, memory_mask=cross_mask)
        l_aux = [] if encoder_out is None else list(encoder_out.get("l_aux", []))
        return self.leave(x, context, features_only, l_aux)


class RetNetDecoder(_Decoder):
    """A language model whose attention is retention (arXiv 2307.08621, section 2.3), with RMSNorms and a gated network.

    It trains in parallel or in chunks and decodes with a state of constant size.
    """

    heads, mixer = "retention_heads", "retention"

    def __init__(
        self,
        args: Any,
        embed_tokens: nn.Module | None = None,
        output_projection: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        width, heads = args.decoder_value_embed_dim, args.decoder_retention_heads
        if width < 1 or width % heads:  # so it is with the default flags
            raise InputError(
                f"decoder_retention_heads {heads} does not divide decoder_value_embed_dim {width}"
            )
        scales, shares = deep_norm_decoder(args.decoder_layers), args.share_decoder_input_output_embed
        super().__init__(args, embed_tokens, None, output_projection, scales, shares_embedding=shares)
        self.retnet_rel_pos = RetNetRelPos(args)
        for layer in self.layers:
            layer.retention.__dict__["rel_pos"] = (
                self.retnet_rel_pos
            )  # a child of the decoder, not of every layer
        self.initialise(1.0)

    def new_norm(self) -> nn.Module:
        """The norm of all its parts."""
        return RMSNorm(self.embed_dim, eps=self.args.layernorm_eps)

    def new_mixer(self) -> nn.Module:
        """A layer's retention."""
        return MultiScaleRetention(self.args)

    def new_feedforward(self) -> nn.Module:
        """A layer's feed-forward network without experts."""
        return GLU(self.args, self.embed_dim, self.args.decoder_ffn_embed_dim)

    def forward(  # type: ignore[override]
        self,
        prev_output_tokens: Tensor,
        incremental_state: Any = None,
        features_only: bool = False,
        return_all_hiddens: bool = False,
        token_embeddings: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Logits (B, T, V), or features (B, T, E), of int64 tokens (B, S), and a dictionary.

        Without ``incremental_state`` in the parallel form, or in the chunkwise one (``chunkwise_recurrent``). With it
        recurrently: the last of ``prev_output_tokens``, which are all tokens so far, or all of them with
        ``state["is_first_step"] = True``.
        """
        x = self.enter(prev_output_tokens, token_embeddings, incremental_state)
        cache = None if incremental_state is None else IncrementalState(incremental_state)
        positions_1T = positions_behind(prev_output_tokens.shape[1] - x.shape[1], x)
        return self.leave(x, Context(None, positions_1T, cache), features_only, [])

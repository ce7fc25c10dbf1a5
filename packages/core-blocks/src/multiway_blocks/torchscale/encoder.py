"""The bidirectional encoder (figure 2 of Magneto, figure 2 of DeepNet, figure 1 of BEiT-3).

Shape suffixes: B batch, T tokens, S keys, E hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_blocks.residual_scaling import deep_norm_encoder, sub_norm_encoder
from multiway_blocks.torchscale.attention import IncrementalState, attention_mask, relative_bias
from multiway_blocks.torchscale.feedforward import EncoderMOELayer
from multiway_blocks.torchscale.multiway import MultiwayEmbedding, split_at, wrap
from multiway_blocks.torchscale.transformer import Transformer, positions_behind
from multiway_blocks.transformer import Context, apply


class Encoder(Transformer):
    """Embeddings, layers, the last norm (pre-norm only) and, standing alone, an output projection."""

    side = "encoder"
    experts = EncoderMOELayer

    def __init__(
        self,
        args: Any,
        embed_tokens: nn.Module | None = None,
        embed_positions: nn.Module | None = None,
        output_projection: nn.Module | None = None,
        is_encoder_decoder: bool = False,
        **kwargs: Any,
    ) -> None:
        depths = args.encoder_layers, args.decoder_layers if is_encoder_decoder else 0
        super().__init__(
            args,
            embed_tokens,
            embed_positions,
            output_projection,
            deep_norm_encoder(*depths),
            builds_output=not is_encoder_decoder,
            shares_embedding=getattr(args, "share_encoder_input_output_embed", False),
        )
        self.relative_position = relative_bias(args, args.encoder_attention_heads)
        self.initialise(sub_norm_encoder(*depths))

    def new_norm(self) -> nn.Module:
        """The norm of all its parts."""
        return wrap(self.args, super().new_norm())

    def new_feedforward(self) -> nn.Module:
        """A layer's feed-forward network without experts."""
        return wrap(self.args, super().new_feedforward())

    def forward(  # type: ignore[override]
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
        if multiway_split_position is not None and not self.args.multiway:
            raise InputError("multiway_split_position needs a configuration with multiway=True")
        split = -1 if multiway_split_position is None else multiway_split_position
        x = embedding = self.embedded(src_tokens, token_embeddings)
        cache = None if incremental_state is None else IncrementalState(incremental_state)
        before = 0 if cache is None else cache.length
        padding = encoder_padding_mask
        bias = None
        if self.relative_position is not None:
            bias = self.relative_position(x.shape[1], before + x.shape[1], offset=before)
        visible = None if attn_mask is None else attn_mask == 0
        mask = attention_mask(visible, None if cache is not None else padding, bias, x.dtype)
        segments = split_at(split, x.shape[1]) if self.args.multiway else None
        context = Context(mask, positions_behind(before, x), cache, segments=segments)
        if self.embed_positions is not None:
            if isinstance(self.embed_positions, MultiwayEmbedding):
                self.embed_positions.split_position = split
            x = x + self.embed_positions(x if src_tokens is None else src_tokens, positions=positions)
        if self.layernorm_embedding is not None:
            x = apply(self.layernorm_embedding, x, context)
        x = self.dropout_module(x)
        if padding is None:
            encoder_padding_mask = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        else:
            x = x * (1 - padding[..., None].to(x.dtype))
        x, states, l_aux = self.run(x, context)
        if not features_only and self.output_projection is not None:
            x = self.output_projection(x)
        return {
            "encoder_out": x,
            "encoder_embedding": embedding,
            "encoder_padding_mask": encoder_padding_mask,
            "encoder_states": states if return_all_hiddens else [],
            "l_aux": l_aux,
        }

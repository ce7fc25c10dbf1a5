"""Encoder and decoder together."""

from __future__ import annotations

import copy
from typing import Any

from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_blocks.torchscale.config import check
from multiway_blocks.torchscale.decoder import Decoder
from multiway_blocks.torchscale.encoder import Encoder


class EncoderDecoder(nn.Module):
    """A sequence-to-sequence model; with ``share_all_embeddings`` one matrix embeds both sides and predicts."""

    def __init__(
        self,
        args: Any,
        encoder_embed_tokens: nn.Module | None = None,
        encoder_embed_positions: nn.Module | None = None,
        decoder_embed_tokens: nn.Module | None = None,
        decoder_embed_positions: nn.Module | None = None,
        output_projection: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        check(args, ("encoder", "decoder"))
        if args.share_all_embeddings:
            args = copy.copy(args)
            args.share_decoder_input_output_embed = True
            decoder_embed_tokens = decoder_embed_tokens or encoder_embed_tokens
        self.args = args
        self.encoder = Encoder(args, encoder_embed_tokens, encoder_embed_positions, is_encoder_decoder=True)
        self.decoder = Decoder(
            args, decoder_embed_tokens, decoder_embed_positions, output_projection, is_encoder_decoder=True
        )

    def forward(
        self,
        src_tokens: Tensor,
        prev_output_tokens: Tensor,
        return_all_hiddens: bool = False,
        features_only: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Source (B, S) and target (B, T) int64 -> what :class:`Decoder` returns, (B, T, V) first."""
        if len(src_tokens) != len(prev_output_tokens):
            raise InputError(
                f"{len(src_tokens)} rows of src_tokens, {len(prev_output_tokens)} of prev_output_tokens"
            )
        encoder_out = self.encoder(src_tokens, return_all_hiddens=return_all_hiddens)
        return self.decoder(
            prev_output_tokens,
            encoder_out=encoder_out,
            features_only=features_only,
            return_all_hiddens=return_all_hiddens,
        )

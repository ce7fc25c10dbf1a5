"""MetaLM: spans -> bidirectional encoder -> connector -> places in the causal decoder (arXiv 2206.06336, figure 2).

    tokens ─┬─ causal tokens ──────────────────────── embeddings ─┐
            └─ spans (text, picture + text) ─ SpanEncoder ─ connector ─┴─► causal Decoder ─► next tokens

Shape suffixes: B rows, T tokens, S spans of the whole batch, L tokens of a span, E hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from multiway_blocks.decoder import Decoder
from multiway_blocks.position import SinusoidalPositions
from multiway_blocks.text_decoder import CausalLM
from multiway_core.errors import InputError
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_vision_language.metalm.config import MetaLMConfig
from multiway_vision_language.metalm.encoder import SpanEncoder

Spans = Sequence[Sequence[tuple[int, int]]]
"""For every row its spans as (start, stop), stop exclusive, in order and without overlap; columns of the batch."""


def check_spans(spans: Spans, rows: int, tokens: int) -> None:
    """Raise InputError unless the spans fit a batch of ``rows`` x ``tokens``."""
    if len(spans) != rows:
        raise InputError(f"{len(spans)} lists of spans for {rows} rows; give one list a row, perhaps empty")
    for row, of_row in enumerate(spans):
        end = 0
        for start, stop in of_row:
            if not end <= start < stop <= tokens:
                raise InputError(
                    f"span ({start}, {stop}) of row {row} is empty, overlaps the one before it or leaves the"
                    f" {tokens} tokens; spans are (start, stop) in order"
                )
            end = stop


class MetaLM(CausalLM):
    """The whole network."""

    def __init__(self, config: MetaLMConfig) -> None:
        decoder, encoder = config.decoder, config.encoder
        new_decoder = partial(
            Decoder,
            hidden_size=decoder.hidden_size,
            num_layers=decoder.num_layers,
            num_heads=decoder.num_heads,
            inner_size=decoder.inner_size,
            deep_norm=decoder.deep_norm,
            eps=decoder.norm_eps,
            dropout=decoder.dropout,
        )
        super().__init__(config.vocab_size, decoder.hidden_size, new_decoder)
        self.config = config
        self.positions = SinusoidalPositions(decoder.max_positions, decoder.hidden_size)
        self.dropout = nn.Dropout(decoder.dropout)
        self.encoder = SpanEncoder(encoder, config.vocab_size)
        self.connector: nn.Module
        if config.connector == "linear":
            self.connector = nn.Linear(encoder.hidden_size, decoder.hidden_size)
        else:
            self.connector = nn.Sequential(
                nn.Linear(encoder.hidden_size, decoder.hidden_size),
                nn.GELU(),
                nn.Linear(decoder.hidden_size, decoder.hidden_size),
                nn.GELU(),
                nn.Linear(decoder.hidden_size, decoder.hidden_size),
            )

    def encode_spans(
        self,
        tokens_BT: Tensor,
        spans: Spans,
        pixels_PCHW: Tensor | None = None,
        picture_spans: Sequence[Sequence[bool]] | None = None,
    ) -> Tensor:
        """What the decoder sees of all spans, in row-major order: (tokens in spans, E).

        All spans of the batch are one padded batch of the encoder, whose outputs are then taken apart again.
        """
        places = [(row, start, stop) for row, of_row in enumerate(spans) for start, stop in of_row]
        lengths = [stop - start for _, start, stop in places]
        tokens_SL = tokens_BT.new_zeros(len(places), max(lengths))
        for index, (row, start, stop) in enumerate(places):
            tokens_SL[index, : stop - start] = tokens_BT[row, start:stop]
        lengths_S = torch.tensor(lengths, device=tokens_BT.device)
        pictures_S = None
        if picture_spans is not None:
            flags = [flag for of_row in picture_spans for flag in of_row]
            self._check_pictures(flags, lengths, pixels_PCHW)
            pictures_S = torch.tensor(flags, device=tokens_BT.device)
        encoded_SLE = self.encoder(tokens_SL, lengths_S, pixels_PCHW, pictures_S)
        real_SL = torch.arange(tokens_SL.shape[1], device=tokens_BT.device) < lengths_S[:, None]
        return self.connector(encoded_SLE[real_SL])

    def _check_pictures(self, flags: list[bool], lengths: list[int], pixels: Tensor | None) -> None:
        if len(flags) != len(lengths):
            raise InputError(f"{len(flags)} picture marks for {len(lengths)} spans; give one a span")
        if (0 if pixels is None else len(pixels)) != sum(flags):
            given = 0 if pixels is None else len(pixels)
            raise InputError(f"{given} pictures for {sum(flags)} spans with a picture")
        needed = self.config.encoder.num_patches
        if sum(flags) and not needed:
            raise InputError("this model's encoder reads no pictures (image_size is None)")
        for flag, length in zip(flags, lengths, strict=True):
            if flag and length < needed:
                raise InputError(f"a span with a picture needs at least {needed} tokens, got {length}")

    def hidden(
        self,
        tokens_BT: Tensor,
        valid_BT: Tensor | None = None,
        cache: StaticKVCache | None = None,
        *,
        spans: Spans | None = None,
        pixels_PCHW: Tensor | None = None,
        picture_spans: Sequence[Sequence[bool]] | None = None,
    ) -> Tensor:
        """Hidden states (B, T, E) at each place, given all before it.

        Args:
            tokens_BT: int64; in spans, the text to encode, and any id at the patches of a picture.
            valid_BT: bool, False at padding (on the left); None: no padding.
            spans: the spans that are encoded; None or empty lists: an ordinary causal language model.
            pixels_PCHW: the pictures, in row-major order of the spans that begin with one.
            picture_spans: for every span whether it begins with a picture, which takes its first ``num_patches``
                tokens; None: no pictures.
            cache: holds what came before; takes the new keys and values. A span must lie in one call whole.

        Raises InputError for spans or pictures that do not fit.
        """
        if valid_BT is None:
            valid_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
        x_BTE = self.embed(tokens_BT)
        if spans is not None:
            check_spans(spans, *tokens_BT.shape)
            if any(spans):
                in_span_BT = span_mask(spans, tokens_BT)
                encoded = self.encode_spans(tokens_BT, spans, pixels_PCHW, picture_spans).to(x_BTE.dtype)
                x_BTE = x_BTE.masked_scatter(in_span_BT[..., None], encoded)
        position_BT, end = (valid_BT.cumsum(dim=1) - 1).clamp(min=0), tokens_BT.shape[1]
        if cache is not None:
            position_BT, end = position_BT + cache.num_valid_B[:, None], end + cache.length
        x_BTE = self.dropout(x_BTE + self.positions(position_BT, end=end).to(x_BTE.dtype))
        return self.decoder(x_BTE, valid_BT, cache)

    def forward(
        self,
        tokens_BT: Tensor,
        valid_BT: Tensor | None = None,
        spans: Spans | None = None,
        **more: Any,
    ) -> Tensor:
        """Logits (B, T, V) of the token behind each place; arguments as of :meth:`hidden`."""
        return self.logits(self.hidden(tokens_BT, valid_BT, spans=spans, **more))


def span_mask(spans: Spans, tokens_BT: Tensor) -> Tensor:
    """(B, T) bool: which places the spans cover."""
    mask = torch.zeros_like(tokens_BT, dtype=torch.bool)
    for row, of_row in enumerate(spans):
        for start, stop in of_row:
            mask[row, start:stop] = True
    return mask

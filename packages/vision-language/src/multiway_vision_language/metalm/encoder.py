"""The bidirectional encoder of MetaLM: text spans, and pictures followed by text.

Shape suffixes: B spans, T tokens of a span, H heads, N image patches, E hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from multiway_blocks.attention import Attention, padding_mask
from multiway_blocks.feedforward import FeedForward
from multiway_blocks.position import LearnedPositions, distance_buckets
from multiway_blocks.transformer import Context, ModalityExperts, PreNorm, Segment
from torch import Tensor, nn

from multiway_vision_language.metalm.config import EncoderConfig


def _layer(config: EncoderConfig, experts: Sequence[str]) -> PreNorm:
    """Shared attention; the second norm and the feed-forward network belong to the modality's expert."""
    size, eps = config.hidden_size, config.norm_eps
    return PreNorm(
        Attention(size, config.num_heads, bias=True),
        ModalityExperts(lambda: FeedForward(size, config.inner_size, dropout=config.dropout), experts),
        (nn.LayerNorm(size, eps=eps), ModalityExperts(lambda: nn.LayerNorm(size, eps=eps), experts)),
        dropout=config.dropout,
    )


class RelativeBias(nn.Module):
    """One number a head for the distance between two text tokens, in buckets (Raffel et al. 2020, section 2.1).

    Half of the buckets are for keys behind the query; in each half the first are single distances and the rest
    grow logarithmically up to ``max_distance``.
    """

    def __init__(self, num_heads: int, num_buckets: int, max_distance: int) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.bias_embedding = nn.Embedding(num_buckets, num_heads)
        nn.init.zeros_(self.bias_embedding.weight)

    def forward(self, distance: Tensor) -> Tensor:
        """Key place minus query place, int64 of any shape (...); bias (..., H)."""
        buckets = distance_buckets(distance, self.bias_embedding.num_embeddings, self.max_distance)
        return self.bias_embedding(buckets)


class SpanEncoder(nn.Module):
    """Encodes spans whose tokens see each other in both directions: a picture's patches first, then text.

    The blocks are VLMo's (shared attention, one feed-forward expert a modality, a common one in the last layers);
    positions are learned, with a relative bias between text tokens as in the language-only encoder of the paper.
    """

    def __init__(self, config: EncoderConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.token_embedding = nn.Embedding(vocab_size, hidden)
        self.text_positions = LearnedPositions(config.max_text, hidden)
        experts = ["text"]
        if config.num_patches:
            experts.append("image")
            self.patch_embedding = nn.Conv2d(
                config.num_channels, hidden, config.patch_size, stride=config.patch_size
            )
            self.patch_positions = LearnedPositions(config.num_patches, hidden)
            self.type_embedding = nn.Embedding(2, hidden)  # 0 text, 1 image
        self.relative_bias = RelativeBias(config.num_heads, config.relative_buckets, config.relative_distance)
        # The layers of which pairs go through an expert of their own.
        first_fused = config.num_layers - config.fusion_layers
        self.fused = [bool(config.num_patches) and i >= first_fused for i in range(config.num_layers)]
        self.layers = nn.ModuleList(
            _layer(config, [*experts, "pair"] if fused else experts) for fused in self.fused
        )
        self.norm = nn.LayerNorm(hidden, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def embed_pictures(self, pixels_BCHW: Tensor) -> Tensor:
        """Patch embeddings (B, N, E) of pictures, row by row."""
        patches_BNE = self.patch_embedding(pixels_BCHW).flatten(2).transpose(1, 2)
        return patches_BNE + self.patch_positions.weight + self.type_embedding.weight[1]

    def forward(
        self,
        tokens_BT: Tensor,
        lengths_B: Tensor,
        pixels_BCHW: Tensor | None = None,
        pictures_B: Tensor | None = None,
    ) -> Tensor:
        """Encode spans padded on the right: (B, T, E); what stands at padding has no meaning.

        ``tokens`` int64, of which the first N of a span with a picture are placeholders; ``lengths`` (B,) count both.
        ``pictures`` (B,) bool says which spans begin with a picture; ``pixels`` has one picture for each of these.
        """
        tokens = tokens_BT.shape[1]
        place_T = torch.arange(tokens, device=tokens_BT.device)
        valid_BT = place_T < lengths_B[:, None]
        if pictures_B is None:
            pictures_B = torch.zeros_like(lengths_B, dtype=torch.bool)
        text_start_B = torch.where(pictures_B, self.config.num_patches, 0)
        is_image_BT = place_T < text_start_B[:, None]
        text_place_BT = (place_T - text_start_B[:, None]).clamp(min=0)

        text_place_BT = torch.where(valid_BT, text_place_BT, 0)
        x_BTE = self.token_embedding(tokens_BT) + self.text_positions(text_place_BT)
        if self.config.num_patches:
            x_BTE = x_BTE + self.type_embedding.weight[0]
        if pixels_BCHW is not None:
            patches = self.embed_pictures(pixels_BCHW).to(x_BTE.dtype)
            x_BTE = x_BTE.masked_scatter(is_image_BT[..., None], patches.flatten(0, 1))
        x_BTE = self.dropout(x_BTE)

        mask_BHTT = self._mask(place_T, is_image_BT, valid_BT, x_BTE.dtype)
        apart, fused = self._segments(lengths_B.tolist(), text_start_B.tolist(), tokens)
        contexts = {
            is_fused: Context(mask_BHTT, segments=fused if is_fused else apart) for is_fused in (True, False)
        }
        for layer, is_fused in zip(self.layers, self.fused, strict=True):
            x_BTE = layer(x_BTE, contexts[is_fused])
        return self.norm(x_BTE)

    def _mask(self, place_T: Tensor, is_image_BT: Tensor, valid_BT: Tensor, dtype: torch.dtype) -> Tensor:
        bias_HTT = self.relative_bias(place_T[None, :] - place_T[:, None]).permute(2, 0, 1).to(dtype)
        both_text_BTT = ~(is_image_BT[:, :, None] | is_image_BT[:, None, :])
        mask_BHTT = bias_HTT * both_text_BTT[:, None]
        return mask_BHTT.masked_fill(~padding_mask(valid_BT), torch.finfo(dtype).min)

    @staticmethod
    def _segments(
        lengths: list[int], text_starts: list[int], tokens: int
    ) -> tuple[list[list[Segment]], list[list[Segment]]]:
        apart: list[list[Segment]] = []
        fused: list[list[Segment]] = []
        for length, start in zip(lengths, text_starts, strict=True):
            apart.append([(0, start, "image"), (start, tokens, "text")] if start else [(0, tokens, "text")])
            fused.append([(0, tokens, "pair")] if 0 < start < length else apart[-1])
        return apart, fused

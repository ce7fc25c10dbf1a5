"""KOSMOS-2.5: page picture -> image embeddings -> text tokens (arXiv 2309.11419, figure 2 and section 2.1).

    patches -> VisionEncoder -> L2 norm, Resampler -> placeholders' embeddings -> causal Decoder -> tokens

Shape suffixes: B batch, N patches, P numbers in a patch, Q image embeddings a picture, T tokens, E text hidden
size, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from multiway_blocks.multimodal_decoder import MultimodalDecoder
from multiway_blocks.resampler import Resampler
from multiway_blocks.vision import VisionEncoder
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_document.kosmos2_5.config import Kosmos25Config, TextConfig, VisionConfig


class Patches(NamedTuple):
    """Pictures cut in patches, ready for the encoder.

    ``multiplicity`` counts how many equal rows a row stands for. Published weights expect every picture to be padded
    to ``max_patches``; since all padding rows of a picture have the same features, one row with its count gives the
    same result (``multiplicity`` 0: filler of a batch, which stands for nothing).
    """

    pixels_BNP: Tensor
    rows_BN: Tensor
    columns_BN: Tensor
    multiplicity_BN: Tensor

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Patches:
        """Move to a device; only the pixels change their dtype (ids above 256 are not exact in bfloat16)."""
        return Patches(
            self.pixels_BNP.to(device, dtype),
            self.rows_BN.to(device),
            self.columns_BN.to(device),
            self.multiplicity_BN.to(device),
        )

    def padded(self, max_patches: int) -> Patches:
        """With one more row a picture that stands for all its padding up to ``max_patches``."""
        missing_B = max_patches - self.multiplicity_BN.sum(dim=1)
        return Patches(
            nn.functional.pad(self.pixels_BNP, (0, 0, 0, 1)),
            nn.functional.pad(self.rows_BN, (0, 1)),
            nn.functional.pad(self.columns_BN, (0, 1)),
            torch.cat([self.multiplicity_BN, missing_B[:, None]], dim=1),
        )


def new_vision_encoder(config: VisionConfig) -> VisionEncoder:
    """The encoder of a configuration, with untrained weights."""
    return VisionEncoder(
        patch_dim=config.patch_dim,
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        inner_size=config.inner_size,
        num_grid_positions=config.max_patches,
        eps=config.norm_eps,
    )


class TextModel(MultimodalDecoder):
    """The decoder of a configuration, with untrained weights. Segments: 0 text, 1 from ``<image>`` to ``</image>``."""

    def __init__(self, config: TextConfig, pad_token_id: int) -> None:
        super().__init__(config, pad_token_id, num_segments=2)

    def hidden(
        self,
        tokens_BT: Tensor,
        valid_BT: Tensor | None = None,
        cache: StaticKVCache | None = None,
        **of_pictures: Any,
    ) -> Tensor:
        """As of :class:`MultimodalDecoder`; unless ``valid`` says it, padding is what has the pad token's id."""
        if valid_BT is None:
            valid_BT = tokens_BT != self.pad_token_id
        return super().hidden(tokens_BT, valid_BT, cache, **of_pictures)


class Kosmos25(nn.Module):
    """The whole network."""

    def __init__(self, config: Kosmos25Config) -> None:
        super().__init__()
        self.config = config
        self.vision = new_vision_encoder(config.vision)
        self.resampler = Resampler(
            config.vision.hidden_size, config.text.hidden_size, config.num_queries, config.text.num_heads
        )
        self.text = TextModel(config.text, config.tokens.pad)

    def encode(self, patches: Patches) -> Tensor:
        """Patch features (B, N, vision hidden size)."""
        return self.vision(patches.pixels_BNP, patches.rows_BN, patches.columns_BN)

    def embed_images(self, patches: Patches) -> Tensor:
        """Image embeddings (B, Q, E): what the decoder sees of the pictures."""
        return self.resampler(self.encode(patches), patches.multiplicity_BN)

    def prompt(self, suffix_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``<s> <image> [Q placeholders] </image> suffix`` with its image places and segments.

        ``suffix`` (B, T) int64 may be padded on the left with pad ids, which are moved before ``<s>`` so that
        the tokens of a row stay together. Returns tokens, image places (bool) and segments, each (B, Q + 3 + T).
        """
        tokens = self.config.tokens
        batch, num_queries = suffix_BT.shape[0], self.config.num_queries
        head = torch.full((num_queries + 3,), tokens.bos, dtype=torch.long, device=suffix_BT.device)
        head[1] = tokens.image
        head[-1] = tokens.image_end
        place = torch.zeros_like(head, dtype=torch.bool)
        place[2:-1] = True
        tokens_BT = torch.cat([head.expand(batch, -1), suffix_BT], dim=1)
        places_BT = torch.cat([place.expand(batch, -1), torch.zeros_like(suffix_BT, dtype=torch.bool)], dim=1)
        segments_BT = torch.zeros_like(tokens_BT)
        segments_BT[:, 1 : num_queries + 3] = 1
        padding_B = (suffix_BT == tokens.pad).sum(dim=1)
        if bool(padding_B.any()):
            # Rolls row b to the right by its number of pads: the pads, at the end of the head, come to the front.
            columns = torch.arange(tokens_BT.shape[1], device=suffix_BT.device)
            is_pad_BT = tokens_BT == tokens.pad
            order_BT = torch.argsort(
                torch.where(is_pad_BT, columns - tokens_BT.shape[1], columns), dim=1, stable=True
            )
            tokens_BT, places_BT, segments_BT = (
                part.gather(1, order_BT) for part in (tokens_BT, places_BT, segments_BT)
            )
        return tokens_BT, places_BT, segments_BT

    def forward(self, patches: Patches, suffix_BT: Tensor) -> Tensor:
        """Teacher-forced logits (B, Q + 3 + T, V) for pictures with a prompt and its answer behind them."""
        tokens_BT, places_BT, segments_BT = self.prompt(suffix_BT)
        hidden_BTE = self.text.hidden(
            tokens_BT,
            image_embeddings_BQE=self.embed_images(patches),
            image_slots_BT=places_BT,
            segments_BT=segments_BT,
        )
        return self.text.logits(hidden_BTE)

    def prefill(self, image_embeddings_BQE: Tensor, suffix_BT: Tensor, cache: StaticKVCache) -> Tensor:
        """Read pictures and prompt into an empty cache; float logits (B, V) of the first token to write."""
        tokens_BT, places_BT, segments_BT = self.prompt(suffix_BT)
        hidden_BTE = self.text.hidden(
            tokens_BT,
            image_embeddings_BQE=image_embeddings_BQE,
            image_slots_BT=places_BT,
            segments_BT=segments_BT,
            cache=cache,
        )
        return self.text.logits(hidden_BTE[:, -1]).float()

"""Kosmos-2: pictures and tokens -> logits (arXiv 2306.14824, section 3; details of the published code).

    pixels -> VisionTransformer -> L2 norm, Resampler -> image slots' embeddings -> causal Decoder -> tokens

Shape suffixes: B batch, C channels, H height, W width, N cells, F cell features, Q image slots a picture, T tokens,
E hidden size of the decoder, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from multiway_blocks.multimodal_decoder import MultimodalDecoder
from multiway_blocks.resampler import Resampler
from multiway_blocks.vision_transformer import VisionTransformer
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_vision_language.kosmos2.config import Kosmos2Config, TextConfig, VisionConfig


class ImageFeatures(NamedTuple):
    """What the decoder needs of pictures, a row each; made once and used for any number of prompts.

    ``cells``: features of the location cells, for networks that point at them; the published one does not.
    """

    embeddings_BQE: Tensor
    cells_BNF: Tensor | None = None

    def rows(self, index: Tensor | list[int]) -> ImageFeatures:
        """Row i is what row ``index[i]`` was: pick, reorder or repeat pictures."""
        chosen = torch.as_tensor(index, dtype=torch.long, device=self.embeddings_BQE.device)
        cells = self.cells_BNF
        return ImageFeatures(self.embeddings_BQE[chosen], None if cells is None else cells[chosen])


def new_vision_tower(config: VisionConfig) -> VisionTransformer:
    """The CLIP tower of a configuration, with untrained weights."""
    return VisionTransformer(
        image_size=config.image_size,
        patch_size=config.patch_size,
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        inner_size=config.inner_size,
        num_channels=config.num_channels,
        eps=config.norm_eps,
    )


class TextModel(MultimodalDecoder):
    """The decoder of a configuration, with untrained weights."""

    def __init__(self, config: TextConfig, pad_token_id: int) -> None:
        super().__init__(config, pad_token_id, attention_sub_norm=True, xpos=config.position_code == "xpos")


class Kosmos2(nn.Module):
    """The whole network."""

    def __init__(self, config: Kosmos2Config) -> None:
        super().__init__()
        self.config = config
        self.vision = new_vision_tower(config.vision)
        # It normalises the features itself.
        self.resampler = Resampler(
            config.vision.hidden_size, config.text.hidden_size, config.num_queries, config.text.num_heads
        )
        self.text = TextModel(config.text, config.tokens.pad)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.text.embedding.weight.device

    def encode_images(self, pixels_BCHW: Tensor) -> ImageFeatures:
        """Pictures from the processor, float (B, 3, H, W), which take the weights' device and dtype here."""
        pixels_BCHW = pixels_BCHW.to(self.device, self.text.embedding.weight.dtype)
        return ImageFeatures(self.resampler(self.vision(pixels_BCHW)))

    def hidden(
        self,
        tokens_BT: Tensor,
        valid_BT: Tensor,
        *,
        images: ImageFeatures | None = None,
        image_slots_BT: Tensor | None = None,
        branches_BT: Tensor | None = None,
        cache: StaticKVCache | None = None,
    ) -> Tensor:
        """Hidden states (B, T, E), of which :meth:`logits` makes the prediction; arguments as of :meth:`forward`."""
        return self.text.hidden(
            tokens_BT,
            valid_BT,
            image_embeddings_BQE=None if images is None else images.embeddings_BQE,
            image_slots_BT=image_slots_BT,
            branches_BT=branches_BT,
            cache=cache,
        )

    def logits(self, hidden_BTE: Tensor, images: ImageFeatures | None = None) -> Tensor:
        """(B, T, E) -> (B, T, V). ``images`` as given to :meth:`hidden`, for networks that point at cells."""
        return self.text.logits(hidden_BTE)

    def forward(
        self,
        tokens_BT: Tensor,
        valid_BT: Tensor,
        *,
        images: ImageFeatures | None = None,
        image_slots_BT: Tensor | None = None,
        cache: StaticKVCache | None = None,
    ) -> Tensor:
        """Logits (B, T, V) of new tokens behind what the cache holds.

        Args:
            tokens_BT: int64; ids in image slots are placeholders.
            valid_BT: bool, False at padding, which is on the left.
            images: features of the pictures, in the order in which their slots come, row by row: a row has as many
                pictures as it has Q slots.
            image_slots_BT: bool, the rows that image embeddings overwrite.
            cache: takes the new keys and values.
        """
        hidden_BTE = self.hidden(
            tokens_BT, valid_BT, images=images, image_slots_BT=image_slots_BT, cache=cache
        )
        return self.logits(hidden_BTE, images)

"""Kosmos-2: pictures and tokens -> logits (arXiv 2306.14824, section 3; details of the published code).

    pixels -> VisionTransformer -> L2 norm, Resampler -> image slots' embeddings -> causal Decoder -> tokens

Shape suffixes: B batch, C channels, H height, W width, N cells, F cell features, Q image slots a picture, T tokens,
E hidden size of the decoder, V vocabulary.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from multiway_blocks.causal import branch_positions
from multiway_blocks.decoder import Decoder
from multiway_blocks.position import SinusoidalPositions, XPos
from multiway_blocks.resampler import Resampler
from multiway_blocks.text_decoder import CausalLM
from multiway_blocks.vision_transformer import VisionTransformer
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_vision_language.kosmos2.config import Kosmos2Config, TextConfig, VisionConfig

FIRST_POSITION = 2  # position of the first token; position 1 belongs to padding, whose code is zero


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


class TextModel(CausalLM):
    """Token and position embeddings, the causal decoder, and logits by the tied embedding matrix."""

    def __init__(self, config: TextConfig, pad_token_id: int) -> None:
        xpos = config.position_code == "xpos"
        new_decoder = partial(
            Decoder,
            hidden_size=config.hidden_size,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            inner_size=config.inner_size,
            sub_norm=True,
            attention_sub_norm=True,
            rotary=XPos(config.hidden_size // config.num_heads) if xpos else None,
            eps=config.norm_eps,
            dropout=config.dropout,
        )
        super().__init__(config.vocab_size, config.hidden_size, new_decoder)
        self.pad_token_id = pad_token_id
        self.scale = math.sqrt(config.hidden_size) if config.scale_embedding else 1.0
        self.positions: SinusoidalPositions | None = None
        if not xpos:
            self.positions = SinusoidalPositions(
                config.max_positions + FIRST_POSITION, config.hidden_size, zero_row=pad_token_id
            )
        self.dropout = nn.Dropout(config.dropout)

    def hidden(
        self,
        tokens_BT: Tensor,
        valid_BT: Tensor | None = None,
        cache: StaticKVCache | None = None,
        *,
        image_embeddings_BQE: Tensor | None = None,
        image_slots_BT: Tensor | None = None,
        branches_BT: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, T, E) of new tokens behind what the cache holds.

        ``branches``: as of :class:`multiway_blocks.decoder.Decoder`; the other arguments as of :class:`Kosmos2`.
        """
        if valid_BT is None:
            valid_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
        x_BTE = self.embed(tokens_BT)
        if image_embeddings_BQE is not None and image_slots_BT is not None:
            x_BTE = x_BTE.masked_scatter(
                image_slots_BT[..., None], image_embeddings_BQE.to(x_BTE.dtype).flatten(0, 1)
            )
        x_BTE = x_BTE * self.scale  # image embeddings are scaled too
        if self.positions is not None:
            positions_BT, end = branch_positions(valid_BT, branches_BT), tokens_BT.shape[1]
            if cache is not None:
                positions_BT, end = positions_BT + cache.num_valid_B[:, None], end + cache.length
            positions_BT = torch.where(valid_BT, positions_BT + FIRST_POSITION, self.pad_token_id)
            x_BTE = x_BTE + self.positions(positions_BT, end=end + FIRST_POSITION).to(x_BTE.dtype)
        return self.decoder(self.dropout(x_BTE), valid_BT, cache, branches_BT=branches_BT)


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

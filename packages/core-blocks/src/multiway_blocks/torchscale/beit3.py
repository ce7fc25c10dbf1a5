"""BEiT-3 (Wang et al. 2022, arXiv 2208.10442, figure 1): one encoder for pictures, text, and pictures with text."""

from __future__ import annotations

from typing import Any

import torch
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_blocks.torchscale.embedding import PositionalEmbedding, TextEmbedding, VisionEmbedding
from multiway_blocks.torchscale.encoder import Encoder
from multiway_blocks.torchscale.multiway import MultiwayEmbedding


class BEiT3(nn.Module):
    """A Multiway encoder: attention is joint, all else has a copy for patches (A) and one for text (B)."""

    def __init__(self, args: Any, **kwargs: Any) -> None:
        super().__init__()
        if not args.multiway or args.vocab_size < 1 or args.share_encoder_input_output_embed:
            raise InputError(
                "BEiT3 needs multiway=True, a vocab_size and no share_encoder_input_output_embed"
            )
        self.args = args
        width = args.encoder_embed_dim
        self.text_embed = TextEmbedding(args.vocab_size, width)
        self.vision_embed = VisionEmbedding(
            args.img_size,
            args.patch_size,
            args.in_chans,
            width,
            contain_mask_token=True,
            prepend_cls_token=True,
        )
        places = self.vision_embed.num_position_embeddings() + 2
        positions = MultiwayEmbedding(
            PositionalEmbedding(places, width), PositionalEmbedding(args.max_source_positions, width)
        )
        self.encoder = Encoder(args, embed_positions=positions)

    def forward(
        self,
        textual_tokens: Tensor | None = None,
        visual_tokens: Tensor | None = None,
        text_padding_position: Tensor | None = None,
        attn_mask: Tensor | None = None,
        vision_masked_position: Tensor | None = None,
        incremental_state: Any = None,
        positions: Tensor | None = None,
    ) -> dict[str, Any]:
        """Int64 tokens (B, T), pictures (B, C, H, W), or both: what :class:`Encoder` returns, patches before text.

        ``text_padding_position`` (B, T) is True at padding, ``vision_masked_position`` (B, patches) at hidden patches.
        The result also has multiway_split_position: -1 for pictures, 0 for text, else the number of patches.
        """
        parts, padding, split = [], None, 0
        if visual_tokens is not None:
            parts.append(self.vision_embed(visual_tokens, vision_masked_position))
            split = -1 if textual_tokens is None else parts[0].shape[1]
        if textual_tokens is not None:
            parts.append(self.text_embed(textual_tokens))
            padding = text_padding_position
            if padding is not None and split:
                padding = torch.cat([padding.new_zeros(len(padding), split), padding], dim=1)
        if not parts:
            raise InputError("neither textual_tokens nor visual_tokens given")
        result = self.encoder(
            None,
            encoder_padding_mask=padding,
            attn_mask=attn_mask,
            token_embeddings=torch.cat(parts, dim=1),
            multiway_split_position=split,
            incremental_state=incremental_state,
            positions=positions,
        )
        return result | {"multiway_split_position": split}

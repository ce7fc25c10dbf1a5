"""A causal language model that reads pictures: slots of the prompt whose embeddings are those of images (Kosmos).

arXiv 2302.14045, section 2.2. Shape suffixes: B batch, Q image slots a picture, T tokens, E hidden size.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_blocks.causal import branch_positions
from multiway_blocks.decoder import Decoder
from multiway_blocks.multimodal_config import DecoderConfig
from multiway_blocks.position import SinusoidalPositions, XPos
from multiway_blocks.text_decoder import CausalLM

FIRST_POSITION = 2  # position of the first token; position 1 belongs to padding, whose code is zero


class MultimodalDecoder(CausalLM):
    """Token, position and perhaps segment embeddings, the Magneto decoder, and logits by the tied embedding matrix.

    Args:
        pad_token_id: row of the sinusoidal table that is zero.
        attention_sub_norm: a norm inside the attention, too.
        xpos: positions are xPos's in the attention instead of sinusoids that are added.
        num_segments: kinds of segments; 0 has no segment embedding.
    """

    def __init__(
        self,
        sizes: DecoderConfig,
        pad_token_id: int,
        *,
        attention_sub_norm: bool = False,
        xpos: bool = False,
        num_segments: int = 0,
    ) -> None:
        new_decoder = partial(
            Decoder,
            hidden_size=sizes.hidden_size,
            num_layers=sizes.num_layers,
            num_heads=sizes.num_heads,
            inner_size=sizes.inner_size,
            sub_norm=True,
            attention_sub_norm=attention_sub_norm,
            rotary=XPos(sizes.hidden_size // sizes.num_heads) if xpos else None,
            eps=sizes.norm_eps,
            dropout=sizes.dropout,
        )
        super().__init__(sizes.vocab_size, sizes.hidden_size, new_decoder)
        self.pad_token_id = pad_token_id
        self.scale = math.sqrt(sizes.hidden_size) if sizes.scale_embedding else 1.0
        self.segment_embedding = nn.Embedding(num_segments, sizes.hidden_size) if num_segments else None
        self.positions: SinusoidalPositions | None = None
        if not xpos:
            self.positions = SinusoidalPositions(
                sizes.max_positions + FIRST_POSITION, sizes.hidden_size, zero_row=pad_token_id
            )
        self.dropout = nn.Dropout(sizes.dropout)

    def hidden(
        self,
        tokens_BT: Tensor,
        valid_BT: Tensor | None = None,
        cache: StaticKVCache | None = None,
        *,
        image_embeddings_BQE: Tensor | None = None,
        image_slots_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        branches_BT: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, T, E) of new tokens behind what the cache holds.

        Args:
            tokens_BT: int64; ids in image slots are placeholders.
            valid_BT: bool, False at padding, which is on the left.
            cache: takes the new keys and values.
            image_embeddings_BQE: the pictures', in the order in which their slots come, row by row.
            image_slots_BT: bool, the tokens whose embeddings they replace.
            segments_BT: int64; None is segment 0.
            branches_BT: as of :class:`multiway_blocks.decoder.Decoder`.
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
        segment = self.segment_embedding
        if segment is not None:
            x_BTE = x_BTE + (segment.weight[0] if segments_BT is None else segment(segments_BT))
        return self.decoder(self.dropout(x_BTE), valid_BT, cache, branches_BT=branches_BT)

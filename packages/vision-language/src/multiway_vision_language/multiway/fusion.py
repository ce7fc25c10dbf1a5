"""A fusion encoder with a head, as VLMo and ViLT are fine-tuned.

Shape suffixes: B batch, P pictures of an example, C channels, H height, W width, T text tokens, K chosen patches,
L labels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from multiway_vision_language.multiway.heads import Pooler, TwoLayerHead
from multiway_vision_language.multiway.text_first import Read, TextFirstConfig, TextFirstTransformer


class FusionClassifier(nn.Module):
    """The fusion encoder with a head: answers to questions (one picture), or statements about two (NLVR2)."""

    def __init__(self, config: TextFirstConfig, labels: int, *, pictures: int = 1) -> None:
        super().__init__()
        self.config = config = replace(config, image_types=pictures)
        width = config.hidden_size
        self.backbone = TextFirstTransformer(config)
        self.pooler = Pooler(width, eps=None)
        self.head = TwoLayerHead(pictures * width, 2 * width, labels, norm_input=False)

    def read(
        self,
        pixels_BPCHW: Tensor,
        tokens_BT: Tensor,
        valid_BT: Tensor | None = None,
        chosen_BPK: Tensor | None = None,
    ) -> tuple[Tensor, list[Read]]:
        """Scores (B, L), and what was read with each picture. ``chosen_BPK``: the patches that are kept."""
        reads = [
            self.backbone(
                tokens_BT,
                pixels_BPCHW[:, index],
                valid_BT=valid_BT,
                image_type=index,
                chosen_BK=None if chosen_BPK is None else chosen_BPK[:, index],
            )
            for index in range(self.config.image_types)
        ]
        pooled = [self.pooler(read.hidden_BSE[:, 0]) for read in reads]
        return self.head(torch.cat(pooled, dim=-1)), reads

    def forward(self, pixels_BPCHW: Tensor, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Scores (B, L)."""
        return self.read(pixels_BPCHW, tokens_BT, valid_BT)[0]

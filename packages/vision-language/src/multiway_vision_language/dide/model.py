"""DiDE's student: a tower for pictures and one for texts, which meet in a small network on their pooled vectors.

The teacher is a fusion encoder, `multiway.fusion.FusionClassifier` with ViLT's sizes.

Shape suffixes: B batch, P pictures of an example, C channels, H height, W width, T text tokens, K chosen patches,
E hidden size, L labels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from multiway_vision_language.multiway.fusion import FusionClassifier
from multiway_vision_language.multiway.heads import ContrastiveHeads, Pooler, TwoLayerHead
from multiway_vision_language.multiway.text_first import Read, TextFirstConfig, TextFirstTransformer


class StudentRead(NamedTuple):
    """``scores_BL``, the text as it was read, and every picture as it was read."""

    scores_BL: Tensor
    text: Read
    images: list[Read]


class DiDE(nn.Module):
    """Pictures and texts are encoded apart, so that vectors of either can be kept; `combine` answers from vectors."""

    def __init__(self, config: TextFirstConfig, labels: int, *, pictures: int = 1) -> None:
        super().__init__()
        self.config = config = replace(config, image_types=pictures)
        width = config.hidden_size
        self.text_encoder = TextFirstTransformer(config, reads="text")
        self.image_encoder = TextFirstTransformer(config, reads="image")
        self.text_pooler, self.image_pooler = Pooler(width, eps=None), Pooler(width, eps=None)
        self.fusion = TwoLayerHead(2 * width, 2 * width, width, norm_input=False)
        self.head = TwoLayerHead(pictures * width, 2 * width, labels, norm_input=False)

    def encode_images(self, pixels_BCHW: Tensor, *, image_type: int = 0) -> Tensor:
        """Vectors of pictures, (B, E)."""
        read = self.image_encoder(pixels_BCHW=pixels_BCHW, image_type=image_type)
        return self.image_pooler(read.hidden_BSE[:, 0])

    def encode_texts(self, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Vectors of texts, (B, E)."""
        return self.text_pooler(self.text_encoder(tokens_BT, valid_BT=valid_BT).hidden_BSE[:, 0])

    def combine(self, text_BE: Tensor, image_BPE: Tensor) -> Tensor:
        """Scores (B, L) from vectors."""
        fused = [self.fusion(torch.cat([text_BE, image_BE], dim=-1)) for image_BE in image_BPE.unbind(1)]
        return self.head(torch.cat(fused, dim=-1))

    def read(
        self,
        pixels_BPCHW: Tensor,
        tokens_BT: Tensor,
        valid_BT: Tensor | None = None,
        chosen_BPK: Tensor | None = None,
    ) -> StudentRead:
        """All that distillation compares. ``chosen_BPK``: the patches that are kept."""
        text = self.text_encoder(tokens_BT, valid_BT=valid_BT)
        images = [
            self.image_encoder(
                pixels_BCHW=pixels_BPCHW[:, index],
                image_type=index,
                chosen_BK=None if chosen_BPK is None else chosen_BPK[:, index],
            )
            for index in range(self.config.image_types)
        ]
        pooled = torch.stack([self.image_pooler(image.hidden_BSE[:, 0]) for image in images], dim=1)
        scores_BL = self.combine(self.text_pooler(text.hidden_BSE[:, 0]), pooled)
        return StudentRead(scores_BL, text, images)

    def forward(self, pixels_BPCHW: Tensor, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Scores (B, L)."""
        return self.read(pixels_BPCHW, tokens_BT, valid_BT).scores_BL

    @torch.no_grad()
    def start_from(self, teacher: FusionClassifier) -> None:
        """Both towers begin with the teacher's weights, as far as they have the parts."""
        source = teacher.backbone.state_dict()
        for tower in (self.text_encoder, self.image_encoder):
            tower.load_state_dict({name: source[name] for name in tower.state_dict()})
        for pooler in (self.text_pooler, self.image_pooler):
            pooler.load_state_dict(teacher.pooler.state_dict())


class DiDEForRetrieval(nn.Module):
    """The student as it is pre-trained: whether a text belongs to a picture, and vectors for retrieval."""

    def __init__(self, config: TextFirstConfig) -> None:
        super().__init__()
        self.student = DiDE(config, labels=2)
        self.config = self.student.config
        self.heads = ContrastiveHeads(config.hidden_size)

    def encode_images(self, pixels_BCHW: Tensor) -> Tensor:
        """Unit vectors (B, E)."""
        return self.heads.of_images(self.student.encode_images(pixels_BCHW))

    def encode_texts(self, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Unit vectors (B, E)."""
        return self.heads.of_texts(self.student.encode_texts(tokens_BT, valid_BT))

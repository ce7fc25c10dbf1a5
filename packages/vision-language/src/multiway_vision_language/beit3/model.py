"""BEiT-3's five fine-tuned forms (the released `modeling_finetune.py`; arXiv 2208.10442, section 3).

Shape suffixes: B batch, P pictures of an example (two for NLVR2), C channels, H height, W width, T text tokens,
E hidden size, L labels, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from multiway_vision_language.multiway.config import MultiwayConfig
from multiway_vision_language.multiway.heads import ContrastiveHeads, Pooler, TwoLayerHead
from multiway_vision_language.multiway.model import MultiwayTransformer, initialize


class BEiT3ForRetrieval(nn.Module):
    """Dual encoder: pictures and texts apart, each to a unit vector."""

    def __init__(self, config: MultiwayConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = MultiwayTransformer(config)
        self.heads = ContrastiveHeads(config.hidden_size)

    def encode_images(self, pixels_BCHW: Tensor) -> Tensor:
        """Unit vectors (B, E)."""
        return self.heads.of_images(self.backbone(pixels_BCHW=pixels_BCHW).image_class_BE)

    def encode_texts(self, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Unit vectors (B, E)."""
        return self.heads.of_texts(self.backbone(tokens_BT, valid_BT=valid_BT).text_class_BE)

    def forward(self, pixels_BCHW: Tensor, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Cosines times the learned scale, (B images, B texts)."""
        images, texts = self.encode_images(pixels_BCHW), self.encode_texts(tokens_BT, valid_BT)
        return self.heads.logit_scale.exp() * images @ texts.T


class BEiT3ForVQA(nn.Module):
    """A question about a picture -> scores of answers (also the three answers of visual entailment)."""

    def __init__(self, config: MultiwayConfig, labels: int) -> None:
        super().__init__()
        self.config = config = replace(config, final_norm=False)
        width = config.hidden_size
        self.backbone = MultiwayTransformer(config)
        self.pooler = Pooler(width)
        self.head = TwoLayerHead(width, 2 * width, labels, norm_input=False)

    def forward(self, pixels_BPCHW: Tensor, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Scores (B, L); one picture an example."""
        return self.head(
            self.pooler(self.backbone(tokens_BT, pixels_BPCHW[:, 0], valid_BT=valid_BT).image_class_BE)
        )


class BEiT3ForNLVR2(nn.Module):
    """Two pictures and a statement -> false or true (Suhr et al. 2019)."""

    def __init__(self, config: MultiwayConfig, labels: int = 2) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.backbone = MultiwayTransformer(config)
        self.head = TwoLayerHead(4 * width, 2 * width, labels, norm_input=True, scale=0.001)

    def forward(self, pixels_BPCHW: Tensor, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Scores (B, L); two pictures an example, each read with the statement."""
        both = None if valid_BT is None else torch.cat([valid_BT, valid_BT])
        pixels = torch.cat([pixels_BPCHW[:, 0], pixels_BPCHW[:, 1]])
        read = self.backbone(torch.cat([tokens_BT, tokens_BT]), pixels, valid_BT=both)
        first, second = torch.cat([read.image_class_BE, read.text_class_BE], dim=-1).chunk(2)
        return self.head(torch.cat([first, second], dim=-1))


class BEiT3ForImageNet(nn.Module):
    """A picture -> scores of classes, from the mean of its patches."""

    def __init__(self, config: MultiwayConfig, labels: int) -> None:
        super().__init__()
        self.config = config = replace(config, final_norm=False)
        self.backbone = MultiwayTransformer(config)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.head = nn.Linear(config.hidden_size, labels)
        initialize(self.head)
        with torch.no_grad():
            self.head.weight.mul_(0.001)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Scores (B, L)."""
        return self.head(self.norm(self.backbone(pixels_BCHW=pixels_BCHW).hidden_BSE[:, 1:].mean(1)))


class BEiT3ForCaptioning(nn.Module):
    """A masked language model of captions: a word sees the picture and the words before it."""

    def __init__(self, config: MultiwayConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = MultiwayTransformer(config)
        self.mlm_head = nn.Linear(config.hidden_size, config.vocab_size)
        initialize(self.mlm_head)

    def forward(self, pixels_BCHW: Tensor, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Scores (B, T, V) of the token at each place itself, which is masked where it is to be predicted."""
        mask = caption_mask(self.config.image_tokens, tokens_BT.shape[1], tokens_BT.device)
        read = self.backbone(tokens_BT, pixels_BCHW, valid_BT=valid_BT, mask=mask)
        return self.mlm_head(read.hidden_BSE[:, read.split :])


def caption_mask(image_tokens: int, text_tokens: int, device: torch.device | str = "cpu") -> Tensor:
    """Who sees whom, (S, S) bool: the image all of itself, a word the image and the words up to itself."""
    size = image_tokens + text_tokens
    mask = torch.ones(size, size, dtype=torch.bool, device=device).tril()
    mask[:, :image_tokens] = True
    return mask

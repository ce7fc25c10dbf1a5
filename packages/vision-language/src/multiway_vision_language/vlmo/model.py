"""VLMo: one set of weights as a dual encoder, as a fusion encoder, and as a dual encoder through the pair experts.

Shape suffixes: B batch, P pictures of an example, C channels, H height, W width, T text tokens, E hidden size,
L labels, V vocabulary.
"""

from __future__ import annotations

from typing import Literal

from multiway_core.errors import ConfigError
from torch import Tensor, nn

from multiway_vision_language.multiway.heads import ContrastiveHeads, Pooler, WordHead
from multiway_vision_language.multiway.model import initialize
from multiway_vision_language.multiway.text_first import Read, TextFirstConfig, TextFirstTransformer

Stage = Literal["image", "text", "pair"]
_OF_TEXT = (
    "backbone.text_embedding.", "backbone.type_embedding.", "backbone.bias_table", "backbone.stack.norm.",
    ".experts.text.", "words.",
)  # fmt: skip
_OF_IMAGES = (
    "backbone.image_embedding.", "backbone.image_positions", "backbone.type_embedding.", "backbone.bias_table",
    "backbone.stack.norm.", ".experts.image.", ".attention.", ".attention_norm.", "feedforward.scale",
)  # fmt: skip


class VLMo(nn.Module):
    """Pre-training's network: all three ways to run it, and the heads of its four losses."""

    def __init__(self, config: TextFirstConfig) -> None:
        super().__init__()
        if not config.pair_layers:
            raise ConfigError("VLMo has an expert for pairs in its last layers; pair_layers is 0")
        self.config = config
        self.backbone = TextFirstTransformer(config)
        self.pooler = Pooler(config.hidden_size, eps=None)
        self.contrast = ContrastiveHeads(config.hidden_size)
        self.pair_contrast = ContrastiveHeads(config.hidden_size)
        self.matching = nn.Linear(config.hidden_size, 2)
        self.words = WordHead(config.hidden_size, config.vocab_size)
        initialize(self.matching)

    def encode_images(self, pixels_BCHW: Tensor) -> Tensor:
        """Dual: unit vectors (B, E)."""
        return self.both_of_images(pixels_BCHW, pair=False)[0]

    def encode_texts(self, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Dual: unit vectors (B, E)."""
        return self.both_of_texts(tokens_BT, valid_BT, pair=False)[0]

    def both_of_images(self, pixels_BCHW: Tensor, *, pair: bool = True) -> tuple[Tensor, Tensor]:
        """Dual, and ITC-VL: the last layers once with the image's experts and once with those of pairs."""
        read = self.backbone(pixels_BCHW=pixels_BCHW)
        own_BE = self.contrast.of_images(read.hidden_BSE[:, 0])
        return own_BE, self.pair_contrast.of_images(self.backbone.as_pair(read)[:, 0]) if pair else own_BE

    def both_of_texts(
        self, tokens_BT: Tensor, valid_BT: Tensor | None = None, *, pair: bool = True
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`both_of_images`."""
        read = self.backbone(tokens_BT, valid_BT=valid_BT)
        own_BE = self.contrast.of_texts(read.hidden_BSE[:, 0])
        if not pair:
            return own_BE, own_BE
        return own_BE, self.pair_contrast.of_texts(self.backbone.as_pair(read, valid_BT)[:, 0])

    def fuse(self, pixels_BCHW: Tensor, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Read:
        """Fusion: text and picture in one sequence."""
        return self.backbone(tokens_BT, pixels_BCHW, valid_BT=valid_BT)

    def match(self, pixels_BCHW: Tensor, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Scores (B, 2) of "does not belong" and "belongs"."""
        return self.matching(self.pooler(self.fuse(pixels_BCHW, tokens_BT, valid_BT).hidden_BSE[:, 0]))


class VLMoForRetrieval(nn.Module):
    """The dual encoder alone, as it is fine-tuned."""

    def __init__(self, config: TextFirstConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = TextFirstTransformer(config)
        self.heads = ContrastiveHeads(config.hidden_size)

    def encode_images(self, pixels_BCHW: Tensor) -> Tensor:
        """Unit vectors (B, E)."""
        return self.heads.of_images(self.backbone(pixels_BCHW=pixels_BCHW).hidden_BSE[:, 0])

    def encode_texts(self, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Unit vectors (B, E)."""
        return self.heads.of_texts(self.backbone(tokens_BT, valid_BT=valid_BT).hidden_BSE[:, 0])


def train_stage(model: nn.Module, stage: Stage) -> None:
    """Freeze what a stage of pre-training leaves alone (section 3.4).

    ``image``: pictures alone, with the shared attention. ``text``: words alone; attention and image experts stay.
    ``pair``: everything learns.
    """
    learning = {"image": _OF_IMAGES, "text": _OF_TEXT, "pair": ("",)}[stage]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in learning) and (
            stage != "image" or (".experts.text." not in name and ".experts.pair." not in name)
        ))  # fmt: skip

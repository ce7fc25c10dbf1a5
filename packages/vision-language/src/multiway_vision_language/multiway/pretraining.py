"""Masked data modelling: one objective for pictures, texts and pairs (BEiT-3, section 2.2; VL-BEiT).

Shape suffixes: B batch, C channels, H height, W width, N patches, T text tokens, V vocabulary, K visual words.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from multiway_core.errors import InputError
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_vision_language.multiway.config import MultiwayConfig
from multiway_vision_language.multiway.masking import MaskedWords
from multiway_vision_language.multiway.model import MultiwayTransformer, initialize
from multiway_vision_language.multiway.objective import masked_loss

TEXT_SHARE, PAIR_TEXT_SHARE, IMAGE_SHARE = 0.15, 0.5, 0.4
"""Of words in texts, of words in pairs, of patches in blocks."""


@dataclass(frozen=True)
class MaskedImages:
    """Pictures, their hidden patches, and the visual word of every patch."""

    pixels_BCHW: Tensor
    hidden_BN: Tensor
    codes_BN: Tensor


@dataclass(frozen=True)
class MaskedTexts:
    """Texts before and after masking."""

    tokens_BT: Tensor
    valid_BT: Tensor
    masked: MaskedWords


@dataclass(frozen=True)
class MaskedData:
    """A step's data; a task that is None is left out. Pairs are a picture batch and a text batch of one length."""

    images: MaskedImages | None = None
    texts: MaskedTexts | None = None
    pairs: tuple[MaskedImages, MaskedTexts] | None = None
    both_at_once: bool = False
    """Whether one view of a pair has hidden words and hidden patches; else there is a view for each."""


class MaskedDataModel(nn.Module):
    """The Transformer with a head for words and one for visual words."""

    def __init__(self, config: MultiwayConfig, num_codes: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = MultiwayTransformer(config)
        self.text_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.image_head = nn.Linear(config.hidden_size, num_codes)
        initialize(self.text_head)
        initialize(self.image_head)

    def losses(self, data: MaskedData) -> dict[str, Tensor]:
        """Cross-entropy a hidden token by task: ``image``, ``text``, ``pair_text``, ``pair_image``.

        Raises InputError: there is no data.
        """
        found: dict[str, Tensor] = {}
        if data.images is not None:
            found["image"] = self._image(data.images, None, None)
        if data.texts is not None:
            read = self.backbone(data.texts.masked.tokens_BT, valid_BT=data.texts.valid_BT)
            found["text"] = self._words(read.hidden_BSE, data.texts)
        if data.pairs is not None:
            images, texts = data.pairs
            words = texts.masked.tokens_BT
            hidden = images.hidden_BN if data.both_at_once else None
            read = self.backbone(words, images.pixels_BCHW, valid_BT=texts.valid_BT, hidden_patches_BN=hidden)
            found["pair_text"] = self._words(read.hidden_BSE[:, read.split :], texts)
            if data.both_at_once:
                found["pair_image"] = self._patches(read.hidden_BSE[:, 1 : read.split], images)
            else:
                found["pair_image"] = self._image(images, texts.tokens_BT, texts.valid_BT)
        if not found:
            raise InputError("masked data modelling needs pictures, texts or pairs")
        return found

    def _image(self, images: MaskedImages, tokens: Tensor | None, valid: Tensor | None) -> Tensor:
        read = self.backbone(tokens, images.pixels_BCHW, valid_BT=valid, hidden_patches_BN=images.hidden_BN)
        return self._patches(read.hidden_BSE[:, 1 : read.split], images)

    def _patches(self, hidden_BNE: Tensor, images: MaskedImages) -> Tensor:
        chosen = images.hidden_BN
        return masked_loss(self.image_head(hidden_BNE[chosen]), images.codes_BN[chosen])

    def _words(self, hidden_BTE: Tensor, texts: MaskedTexts) -> Tensor:
        chosen = texts.masked.hidden_BT
        return masked_loss(self.text_head(hidden_BTE[chosen]), texts.tokens_BT[chosen])


def masked_data_loss(model: nn.Module, data: MaskedData) -> Loss:
    """The sum of the losses, each a mean over its own hidden tokens."""
    assert isinstance(model, MaskedDataModel)
    losses = model.losses(data)
    metrics = {name: loss.detach() for name, loss in losses.items()}
    return Loss(torch.stack(list(losses.values())).sum(), weight=1.0, metrics=metrics, samples=1)

"""VLMo's losses: contrast (twice), matching with hard negatives, masked words (section 3.3 and the released weights).

Shape suffixes: B pairs of this process, A of all processes, C channels, H height, W width, T text tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from multiway_blocks.contrastive import gather, hard_negatives
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_vision_language.multiway.masking import MaskedWords
from multiway_vision_language.multiway.objective import image_text_contrast, masked_loss
from multiway_vision_language.vlmo.model import VLMo

WORDS, CONTRAST, MATCHING = 0.25, 0.5, 1.0
"""Weights of the losses in the sum; contrast counts twice, once through the experts of pairs."""


@dataclass(frozen=True)
class PairBatch:
    """Pictures with their texts, and the texts with words masked. Texts of all processes have one length."""

    pixels_BCHW: Tensor
    tokens_BT: Tensor
    valid_BT: Tensor
    masked: MaskedWords | None = None


def matching_loss(
    model: VLMo, batch: PairBatch, similarity_BA: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """Each picture with its text, with a hard negative text, and each text with a hard negative picture.

    Negatives are drawn from all processes by their similarity, never a pair itself. ``similarity_BA``: of pictures (B)
    to texts (A). Raises InputError: there is only one pair in all processes, so no negative.
    """
    count = len(batch.tokens_BT)
    all_pixels, all_tokens, all_valid = (
        gather(x.detach()) for x in (batch.pixels_BCHW, batch.tokens_BT, batch.valid_BT.long())
    )
    text_of_image = hard_negatives(similarity_BA[0], generator=generator)
    image_of_text = hard_negatives(similarity_BA[1], generator=generator)
    pixels = torch.cat([batch.pixels_BCHW, batch.pixels_BCHW, all_pixels[image_of_text]])
    tokens = torch.cat([batch.tokens_BT, all_tokens[text_of_image], batch.tokens_BT])
    valid = torch.cat([batch.valid_BT, all_valid[text_of_image].bool(), batch.valid_BT])
    labels = torch.cat([torch.ones(count), torch.zeros(2 * count)]).long().to(tokens.device)
    return nn.functional.cross_entropy(model.match(pixels, tokens, valid).float(), labels)


def pretraining_loss(model: nn.Module, batch: PairBatch) -> Loss:
    """The weighted sum of all four."""
    assert isinstance(model, VLMo)
    image, pair_image = model.both_of_images(batch.pixels_BCHW)
    text, pair_text = model.both_of_texts(batch.tokens_BT, batch.valid_BT)
    contrast = image_text_contrast(image, text, model.contrast.logit_scale).mean()
    pair = image_text_contrast(pair_image, pair_text, model.pair_contrast.logit_scale).mean()
    scale = model.contrast.logit_scale.exp()
    similarity = torch.stack([scale * image @ gather(text).T, scale * text @ gather(image).T])
    matching = matching_loss(model, batch, similarity)
    words = contrast.new_zeros(())
    if batch.masked is not None:
        read = model.fuse(batch.pixels_BCHW, batch.masked.tokens_BT, batch.valid_BT)
        hidden_BT = batch.masked.hidden_BT
        targets_N = batch.tokens_BT[hidden_BT]
        words = masked_loss(model.words(read.hidden_BSE[:, : read.split][hidden_BT]), targets_N)
    total = WORDS * words + CONTRAST * (contrast + pair) + MATCHING * matching
    count = len(batch.tokens_BT)
    metrics = {"contrast": contrast, "pair_contrast": pair, "matching": matching, "words": words}
    return Loss(
        total * count, weight=count, metrics={n: v.detach() for n, v in metrics.items()}, samples=count
    )

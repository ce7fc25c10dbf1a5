"""Losses of picture-text training: contrast, and masked tokens.

Shape suffixes: B pairs, E width, T tokens, V vocabulary.
"""

from __future__ import annotations

from multiway_blocks.contrastive import info_nce
from torch import Tensor, nn


def image_text_contrast(image_BE: Tensor, text_BE: Tensor, logit_scale: Tensor) -> Tensor:
    """CLIP's loss over the batches of all processes, the mean of both directions, (B,) (arXiv 2103.00020, figure 3).

    ``image_BE`` and ``text_BE`` are unit vectors, row i of the one belongs to row i of the other; ``logit_scale`` is
    the logarithm of what cosines are multiplied with.
    """
    scale = logit_scale.exp()
    return (info_nce(image_BE, text_BE, scale) + info_nce(text_BE, image_BE, scale)) / 2


def masked_loss(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Cross-entropy a masked token, in float32; 0 where nothing is masked."""
    if not len(targets_N):
        return logits_NV.sum() * 0.0
    return nn.functional.cross_entropy(logits_NV.float(), targets_N)

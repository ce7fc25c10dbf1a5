"""The loss of Kosmos-2: next-token prediction of all discrete tokens (arXiv 2306.14824, section 3.3).

The mask is that of the published training code: what stands behind a picture is predicted, ``<s>`` and the picture's
own block are not.

Shape suffixes: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_vision_language.kosmos2.config import TokenConfig
from multiway_vision_language.kosmos2.model import ImageFeatures, Kosmos2
from multiway_vision_language.kosmos2.processor import TokenBatch


def counted_tokens(batch: TokenBatch, tokens: TokenConfig) -> Tensor:
    """Which tokens (B, T) are predicted: bool, False for ``<s>``, pictures with their two tags, and padding."""
    given = torch.tensor([tokens.bos, tokens.image, tokens.image_end], device=batch.tokens_BT.device)
    return batch.valid_BT & ~batch.image_slots_BT & ~torch.isin(batch.tokens_BT, given)


def next_token_loss(
    model: Kosmos2, batch: TokenBatch, images: ImageFeatures | None, *, counted_BT: Tensor | None = None
) -> tuple[Tensor, int]:
    """Sum of the cross-entropy over the counted tokens, in float32, and their number.

    ``counted`` (B, T) bool: the tokens to be predicted, each from what stands before it; by default
    :func:`counted_tokens`. The first token of a row is never predicted.
    """
    if counted_BT is None:
        counted_BT = counted_tokens(batch, model.config.tokens)
    hidden_BTE = model.hidden(
        batch.tokens_BT, batch.valid_BT, images=images, image_slots_BT=batch.image_slots_BT
    )
    counted_BT = counted_BT[:, 1:]
    targets_N = batch.tokens_BT[:, 1:][counted_BT]
    if images is None or images.cells_BNF is None:
        # Logits are made where a token is predicted, and nowhere else: the vocabulary is large.
        logits_NV = model.logits(hidden_BTE[:, :-1][counted_BT])
    else:
        logits_NV = model.logits(hidden_BTE[:, :-1], images)[counted_BT]
    total = nn.functional.cross_entropy(logits_NV.float(), targets_N, reduction="sum")
    return total, int(torch.count_nonzero(counted_BT))

"""Next-token prediction on interleaved documents: only discrete tokens count (arXiv 2302.14045, section 2.3).

Shape suffixes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from multiway_vision_language.kosmos1.model import Kosmos1
from multiway_vision_language.kosmos2.config import TokenConfig
from multiway_vision_language.kosmos2.processor import TokenBatch

IGNORED = -100  # a target that does not count


def next_tokens(batch: TokenBatch, tokens: TokenConfig) -> Tensor:
    """What each place shall predict, (B, T) int64: the next token, unless it is ``<s>``, ``<image>`` or an image slot.

    ``</image>`` ends a run of slots whose length is fixed, and is not judged either.
    """
    unjudged = torch.tensor([tokens.bos, tokens.image, tokens.image_end], device=batch.tokens_BT.device)
    counted_BT = batch.valid_BT & ~batch.image_slots_BT & ~torch.isin(batch.tokens_BT, unjudged)
    targets_BT = torch.full_like(batch.tokens_BT, IGNORED)
    kept_BT = counted_BT[:, 1:] & batch.valid_BT[:, :-1]
    targets_BT[:, :-1] = torch.where(kept_BT, batch.tokens_BT[:, 1:], IGNORED)
    return targets_BT


def token_loss(logits_BTV: Tensor, targets_BT: Tensor) -> tuple[Tensor, int]:
    """Sum of the cross-entropy over the targets, in float32, and their number."""
    kept_BT = targets_BT != IGNORED
    total = nn.functional.cross_entropy(logits_BTV[kept_BT].float(), targets_BT[kept_BT], reduction="sum")
    return total, int(kept_BT.sum())


@torch.no_grad()
def reset_parameters(model: Kosmos1, seed: int) -> None:
    """Initialise for training from scratch as Magneto does, the image embeddings with the size of token embeddings.

    Values, outputs and feed-forward networks are multiplied by ``sqrt(ln 2L)`` behind their Xavier initialisation
    (Wang et al. 2022, section 2); the connector is not, and ends in vectors that neither drown words nor vanish.
    """
    torch.manual_seed(seed)
    hidden = model.config.text.hidden_size
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for layers in (model.text.decoder.layers, model.vision.layers):
        gain = math.log(2 * len(layers)) ** 0.5
        for name, parameter in layers.named_parameters():
            if name.endswith((".query.weight", ".key.weight", ".value.weight")):
                parameter.mul_(2**-0.5)
            if name.endswith((".value.weight", ".output.weight", ".up.weight", ".down.weight")):
                parameter.mul_(gain)
    nn.init.normal_(model.text.token_embedding.weight, std=hidden**-0.5)
    nn.init.normal_(model.vision.positions.weight, std=0.02)
    nn.init.normal_(model.vision.class_embedding, std=0.02)
    nn.init.orthogonal_(model.resampler.projection.weight, gain=hidden**0.5)
    model.resampler.attention.output.weight.mul_(hidden**-0.5)

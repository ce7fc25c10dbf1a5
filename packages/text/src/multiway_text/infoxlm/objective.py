"""The three losses of a step and what follows it in the momentum encoder and the queue (Chi et al. 2021, equation 8).

    L = L_MMLM + L_TLM + weight L_XlCo

MMLM and TLM are means over the hidden tokens of a step, XlCo is a mean over its items, whatever processes and shards
the step is spread over. Shape suffixes: B items, T tokens, E width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from multiway_blocks.contrastive import info_nce
from multiway_core.training import Loss
from torch import Tensor

from multiway_text.data.corruption import Ids
from multiway_text.data.masked_batch import MaskedBatch, masked_lm_loss
from multiway_text.infoxlm.model import InfoXLM


class Sides(NamedTuple):
    """Items of the contrast: row i of the one side is the translation of row i of the other."""

    query: MaskedBatch
    key: MaskedBatch


class Batch(NamedTuple):
    """What a shard of a step has of each task.

    Attributes:
        masked: rows of "mmlm" and "tlm", those that are trained.
        hidden: how many tokens the whole step hides in each.
        sides: items of "xlco", if it is trained.
        items: of the whole step, in each task; ``own``: of this shard.
        is_first, is_last: whether this is the first and the last shard that its process has of the step.
    """

    masked: Mapping[str, MaskedBatch]
    hidden: Mapping[str, int]
    sides: Sides | None
    items: int
    own: int
    is_first: bool = True
    is_last: bool = True


def loss(model: InfoXLM, batch: Batch) -> Loss:
    """The losses of a shard. In training it also moves the momentum encoder (before the first shard of a step: that is
    after the optimizer's step before it) and fills the queue (behind the last shard)."""
    if model.training and batch.is_first:
        model.update_key_encoder()
    total: Tensor | float = 0.0
    metrics = {}
    for task, rows in batch.masked.items():
        found = masked_lm_loss(model.lm, rows)
        total = total + found.total / batch.hidden[task]
        metrics[task] = found.total.detach() / found.weight
    if batch.sides is not None:
        losses_B = xlco(model, batch.sides)
        total = total + model.contrast.weight * losses_B.sum() / batch.items
        metrics["xlco"] = losses_B.detach().mean()
    if model.training and batch.is_last:
        model.push_keys()
    assert isinstance(total, Tensor)
    return Loss(batch.items * total, batch.own, metrics, samples=batch.own)


def xlco(model: InfoXLM, sides: Sides) -> Tensor:
    """The contrast of translations, (B,): ``-log softmax`` of each query's own key among it and the negatives.

    In training the keys are kept for `InfoXLM.push_keys`, so that no key is a negative in its own step.
    """
    query_BE = model.query(sides.query.ids_BT, sides.query.valid_BT)
    key_BE = model.key(sides.key.ids_BT, sides.key.valid_BT)
    if model.training and model.queue is not None:
        model.held_keys.append(key_BE)
    # Dot products that are not normalised, over 0.25, need all digits.
    exact = torch.promote_types(query_BE.dtype, torch.float32)
    with torch.autocast(query_BE.device.type, enabled=False):
        return info_nce(
            query_BE.to(exact),
            key_BE.to(exact),
            1 / model.contrast.temperature,
            negatives_NE=None if model.queue is None else model.queue.negatives(),
            within_batch=model.queue is None,
        )


def mix(pairs: Sequence[tuple[Ids, Ids]], mode: int) -> tuple[list[Ids], list[Ids]]:
    """The query's and the key's side of two pairs (mixup contrast, section 3.3), in one of eight modes.

    The bits of ``mode`` say whether the two first languages' texts change places, whether the two second languages'
    do, and whether the sides do. So position does not tell which text translates which. (A single pair has two modes.)
    """
    query, key = [first for first, _ in pairs], [second for _, second in pairs]
    if mode & 1:
        query.reverse()
    if mode & 2:
        key.reverse()
    return (key, query) if mode & 4 else (query, key)

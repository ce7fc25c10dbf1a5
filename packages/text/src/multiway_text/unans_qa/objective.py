"""The loss: cross-entropy of the twin's pieces under the mixture of writing and copying.

Shape suffixes: B rows, T target pieces.
"""

from __future__ import annotations

from multiway_core.training import Loss
from torch import nn

from multiway_text.unans_qa.model import QuestionGenerator
from multiway_text.unans_qa.pairs import Batch


def twin_loss(model: nn.Module, batch: Batch) -> Loss:
    """Of every piece behind those before it, ``[SEP]`` at the end included, summed, in nats."""
    assert isinstance(model, QuestionGenerator)
    memories, state = model.read(batch.sources)
    mixture, _ = model.decode(batch.target_BT[:, :-1], state, memories)
    labels_BT = batch.target_BT[:, 1:]
    real_BT = labels_BT != model.config.pad_id
    log_probs_BT = mixture.log_probs_of(labels_BT, memories)
    return Loss(-(log_probs_BT * real_BT).sum(), real_BT.sum(), samples=len(labels_BT))

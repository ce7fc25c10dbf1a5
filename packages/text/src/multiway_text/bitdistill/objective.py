"""What BitDistill's last stage minimises (arXiv 2510.13998, section 3.3): cross-entropy, logits and relations.

Shape suffixes: N tokens with a target, V vocabulary, E hidden size, B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from multiway_blocks.distillation import bitdistill, logits_loss
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_text.bitdistill.examples import NO_TARGET, Batch
from multiway_text.bitdistill.relations import watch
from multiway_text.bitdistill.student import set_strength
from multiway_text.decoders.bitnet.model import BitNet
from multiway_text.decoders.llama.model import Llama


class Distillation:
    """Cross-entropy with the answer, and the teacher's logits wherever its states are known.

    Args:
        embedding_VE: the teacher's embedding of the student's tokens: states times it are the teacher's logits.
        logits_weight: of the second part (lambda in the paper).
    """

    def __init__(self, embedding_VE: Tensor, *, logits_weight: float = 1.0, temperature: float = 1.0) -> None:
        self.embedding_VE = embedding_VE.to(torch.bfloat16)
        self.logits_weight, self.temperature = logits_weight, temperature

    def __call__(self, student: nn.Module, batch: Batch) -> Loss:
        """The loss of a batch; its weight is the number of answer tokens."""
        assert isinstance(student, BitNet)
        set_strength(student, batch.strength)
        hidden_BTE = student.hidden(batch.tokens_BT)
        places = batch.targets_BT != NO_TARGET
        logits_NV = student.logits(hidden_BTE[places]).float()
        targets_N = batch.targets_BT[places]
        answer = nn.functional.cross_entropy(logits_NV, targets_N, reduction="sum")
        total, count = answer, len(targets_N)
        metrics: Mapping[str, float | Tensor] = {"nll": answer.detach() / count}
        if len(batch.states_NE) and self.logits_weight:
            with torch.no_grad():
                teacher_NV = batch.states_NE.to(torch.bfloat16) @ self.embedding_VE.t()
            taught = logits_loss(logits_NV[batch.taught_N], teacher_NV, self.temperature)
            total = total + self.logits_weight * taught
            metrics = {**metrics, "kl": taught.detach() / len(batch.states_NE)}
        return Loss(total, count, metrics, samples=len(batch.tokens_BT))


class BitDistillation:
    """The whole objective with the teacher at hand: ``CE + lambda L_logits + gamma L_relations``.

    The student has the teacher's vocabulary. Logits are compared at the answer, relations of queries, keys and values
    over all tokens of one late layer.

    Args:
        teacher: in evaluation mode; its weights stay.
        layer: of the teacher and of the student whose relations are compared; -1 is the last of each.
        splits: parts that the heads are cut into anew.
        logits_weight: lambda. relation_weight: gamma, of the mean over rows (the published code divides by layers and
            splits as well, and has a larger number therefore).
    """

    def __init__(
        self,
        teacher: Llama,
        *,
        layer: int = -1,
        splits: int = 8,
        logits_weight: float = 10.0,
        relation_weight: float = 1.0,
        temperature: float = 5.0,
    ) -> None:
        self.teacher, self.layer, self.splits, self.temperature = teacher, layer, splits, temperature
        self.logits_weight, self.relation_weight = logits_weight, relation_weight

    def __call__(self, student: nn.Module, batch: Batch) -> Loss:
        """The loss of a batch; its weight is the number of answer tokens."""
        assert isinstance(student, BitNet)
        set_strength(student, batch.strength)
        places = batch.targets_BT != NO_TARGET
        with torch.no_grad(), watch(self.teacher, self.layer) as theirs:
            teacher_NV = self.teacher.logits(self.teacher.hidden(batch.tokens_BT)[places])
        with watch(student, self.layer) as own:
            logits_NV = student.logits(student.hidden(batch.tokens_BT)[places]).float()
        answer = nn.functional.cross_entropy(logits_NV, batch.targets_BT[places], reduction="sum")
        total, count, metrics = answer, len(logits_NV), {"nll": answer.detach() / len(logits_NV)}
        if self.logits_weight:
            logits = logits_loss(logits_NV, teacher_NV, self.temperature)
            total, metrics["kl"] = total + self.logits_weight * logits, logits.detach() / count
        if self.relation_weight:
            relations = bitdistill(own.all(), theirs.all(), self.splits)
            total, metrics["relations"] = total + self.relation_weight * count * relations, relations.detach()
        return Loss(total, count, metrics, samples=len(batch.tokens_BT))

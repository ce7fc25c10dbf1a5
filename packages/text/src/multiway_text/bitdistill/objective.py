"""What BitDistill's last stage minimises (arXiv 2510.13998, section 3.3): cross-entropy, logits and relations.

Shape suffixes: N tokens with a target, V vocabulary, E hidden size, B rows, H heads, T tokens, D head dim, S splits.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_text.bitdistill.examples import NO_TARGET, Batch
from multiway_text.bitdistill.student import set_strength
from multiway_text.bitnet.model import BitNet


def logits_loss(student_NV: Tensor, teacher_NV: Tensor, temperature: float = 1.0) -> Tensor:
    """Sum over tokens of ``temperature^2 KL(teacher || student)`` of the softened distributions."""
    student = (student_NV.float() / temperature).log_softmax(-1)
    teacher = (teacher_NV.float() / temperature).log_softmax(-1)
    return nn.functional.kl_div(student, teacher, log_target=True, reduction="sum") * temperature**2


def relation_loss(student_BHTD: Tensor, teacher_BHTD: Tensor, splits: int) -> Tensor:
    """Mean over rows of ``KL(R_teacher || R_student)`` with ``R = softmax(A A^T)`` (equations 8 to 10).

    ``A`` are the queries, the keys or the values: heads side by side, cut anew into ``splits`` parts, each row of a
    part of length one. The two models may have other widths, each a multiple of ``splits``.
    """
    student, teacher = _relations(student_BHTD, splits), _relations(teacher_BHTD, splits)
    divergence = nn.functional.kl_div(student, teacher, log_target=True, reduction="sum")
    return divergence / student.shape[:-1].numel()


def _relations(states_BHTD: Tensor, splits: int) -> Tensor:
    """Logarithms of the relations, (B, S, T, T)."""
    joined_BTE = states_BHTD.transpose(1, 2).flatten(2).float()
    parts_BSTD = nn.functional.normalize(joined_BTE.unflatten(-1, (splits, -1)).transpose(1, 2), dim=-1)
    return (
        (parts_BSTD @ parts_BSTD.transpose(-1, -2)).log_softmax(-1).clamp(min=-18.42)
    )  # log 1e-8, as published


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

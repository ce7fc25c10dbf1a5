"""The definition with so many rows at a time that their logits stay small: CPUs, and devices without a kernel.

The products are PyTorch's, which no kernel of ours would beat, and take nearly all of the time (measured: README).
Where
gradients are wanted they are computed on the way, from the logits that are there already: three products in all, where
recomputing in the backward pass would take four.
"""

from __future__ import annotations

import torch
from torch import Tensor

from multiway_blocks.kernels.linear_cross_entropy.reference import Teacher

LOGITS_AT_ONCE = (
    1 << 23
)  # 32 MB in float32: the weight is read once for some 170 rows of a vocabulary of 49,152


def forward(
    x_NE: Tensor,
    weight_VE: Tensor,
    target_N: Tensor,
    row_weight_N: Tensor,
    teacher: Teacher | None,
    needed: tuple[bool, bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(cross entropy (), divergence (), dx, dW) as the reference's two functions; those not ``needed`` are empty."""
    wide = torch.promote_types(x_NE.dtype, torch.float32)
    rows = max(1, LOGITS_AT_ONCE // max(1, weight_VE.shape[0]))
    cross_entropy, divergence = (x_NE.new_zeros((), dtype=wide) for _ in range(2))
    grad_x_NE = torch.empty_like(x_NE) if needed[0] else x_NE.new_empty(0)
    grad_weight_VE = torch.zeros_like(weight_VE, dtype=wide) if needed[1] else x_NE.new_empty(0, dtype=wide)
    for start in range(0, len(x_NE), rows):
        part = slice(start, start + rows)
        logits_RV = _logits(x_NE[part], weight_VE)
        grad_RV = None
        if teacher is not None:
            follow = Teacher(
                teacher.x_NF[part], teacher.weight_VF, teacher.row_weight_N[part], teacher.temperature
            )
            value, grad_RV = _divergence(logits_RV, follow, any(needed))
            divergence += value
        value, grad_RV = _cross_entropy(logits_RV, target_N[part], row_weight_N[part], grad_RV, any(needed))
        cross_entropy += value
        if grad_RV is None:
            continue
        grad_RV = grad_RV.to(x_NE.dtype)
        if needed[0]:
            torch.mm(grad_RV, weight_VE, out=grad_x_NE[part])
        if needed[1] and wide == x_NE.dtype:
            grad_weight_VE.addmm_(grad_RV.t(), x_NE[part])
        elif needed[1]:
            grad_weight_VE += grad_RV.t() @ x_NE[part]
    return cross_entropy, divergence, grad_x_NE, grad_weight_VE


def _logits(x_RE: Tensor, weight_VE: Tensor) -> Tensor:
    return (x_RE @ weight_VE.t()).to(torch.promote_types(x_RE.dtype, torch.float32))


def _cross_entropy(
    logits_RV: Tensor, target_R: Tensor, row_weight_R: Tensor, grad_RV: Tensor | None, needed: bool
) -> tuple[Tensor, Tensor | None]:
    """The rows' part of the loss, and the gradient with respect to the logits, added to ``grad``; spoils the logits."""
    target_R1 = target_R.clamp(min=0)[:, None]
    logits_RV -= logits_RV.amax(-1, keepdim=True)
    picked_R = logits_RV.gather(1, target_R1)[:, 0]
    sum_R = logits_RV.exp_().sum(-1)
    value = (row_weight_R * (sum_R.log() - picked_R)).sum()
    if not needed:
        return value, None
    logits_RV *= (row_weight_R / sum_R)[:, None]
    logits_RV.scatter_add_(1, target_R1, -row_weight_R[:, None].to(logits_RV.dtype))
    return value, logits_RV if grad_RV is None else logits_RV.add_(grad_RV)


def _divergence(logits_RV: Tensor, teacher: Teacher, needed: bool) -> tuple[Tensor, Tensor | None]:
    """As `_cross_entropy`, with the teacher's distribution in the target's place; leaves the logits as they are."""
    T = teacher.temperature
    student_RV = (logits_RV / T).log_softmax(-1)
    teacher_RV = _logits(teacher.x_NF, teacher.weight_VF).div_(T).log_softmax(-1)
    share_RV = teacher_RV.exp()
    divergence_R = teacher_RV.sub_(student_RV).mul_(share_RV).sum(-1)
    value = T**2 * (teacher.row_weight_N * divergence_R).sum()
    if not needed:
        return value, None
    return value, student_RV.exp_().sub_(share_RV).mul_((T * teacher.row_weight_N)[:, None])

"""Cross entropy of a linear map's outputs in plain PyTorch: the definition that all implementations meet.

Shape legend: N rows, E inputs, V outputs (the vocabulary), F inputs of the teacher. Logits are a product in the data
type of ``x``; from there on everything is in float32 (float64 for float64 input).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Teacher(NamedTuple):
    """Whose logits, at a temperature, the rows are to follow as well. It gets no gradients."""

    x_NF: Tensor
    weight_VF: Tensor
    row_weight_N: Tensor
    """What each row counts."""
    temperature: float


def forward(
    x_NE: Tensor, weight_VE: Tensor, target_N: Tensor, row_weight_N: Tensor, teacher: Teacher | None
) -> tuple[Tensor, Tensor]:
    """(cross entropy (), divergence ()), each summed over rows with their weights.

    With logits z = x W^T: the sum of w_n (logsumexp z_n - z_n[target_n]), and with the teacher's logits t the sum of
    w'_n T^2 KL(softmax(t_n / T) || softmax(z_n / T)) (Hinton et al., arXiv 1503.02531, section 2; BitDistill,
    arXiv 2510.13998, equation 10), 0 without a teacher. A row of weight 0 may have any target.
    """
    logits_NV = _logits(x_NE, weight_VE)
    picked_N = logits_NV.gather(1, _inside(target_N)[:, None])[:, 0]
    cross_entropy = (row_weight_N * (logits_NV.logsumexp(-1) - picked_N)).sum()
    if teacher is None:
        return cross_entropy, cross_entropy.new_zeros(())
    student_NV = (logits_NV / teacher.temperature).log_softmax(-1)
    teacher_NV = (_logits(teacher.x_NF, teacher.weight_VF) / teacher.temperature).log_softmax(-1)
    divergence_N = (teacher_NV.exp() * (teacher_NV - student_NV)).sum(-1)
    return cross_entropy, teacher.temperature**2 * (teacher.row_weight_N * divergence_N).sum()


def backward(
    x_NE: Tensor, weight_VE: Tensor, target_N: Tensor, row_weight_N: Tensor, teacher: Teacher | None
) -> tuple[Tensor, Tensor]:
    """Gradients of the sum of both results with respect to x and weight.

    dz_n = w_n (softmax(z_n) - onehot(target_n)) + w'_n T (softmax(z_n / T) - softmax(t_n / T)), rounded to the data
    type of ``x`` for the products dx = dz W and dW = dz^T x. dx is in that data type, dW in float32 (float64).
    """
    logits_NV = _logits(x_NE, weight_VE)
    grad_NV = logits_NV.softmax(-1).scatter_add(
        1, _inside(target_N)[:, None], -torch.ones_like(logits_NV[:, :1])
    )
    grad_NV = row_weight_N[:, None] * grad_NV
    if teacher is not None:
        student_NV = (logits_NV / teacher.temperature).softmax(-1)
        teacher_NV = (_logits(teacher.x_NF, teacher.weight_VF) / teacher.temperature).softmax(-1)
        grad_NV += (teacher.temperature * teacher.row_weight_N)[:, None] * (student_NV - teacher_NV)
    grad_NV = grad_NV.to(x_NE.dtype)
    return grad_NV @ weight_VE, (grad_NV.t() @ x_NE).to(logits_NV.dtype)


def _logits(x_NE: Tensor, weight_VE: Tensor) -> Tensor:
    return (x_NE @ weight_VE.t()).to(torch.promote_types(x_NE.dtype, torch.float32))


def _inside(target_N: Tensor) -> Tensor:
    """Targets of rows that do not count may be negative."""
    return target_N.clamp(min=0)

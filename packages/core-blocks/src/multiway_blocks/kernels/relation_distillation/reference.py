"""Distillation of relations in plain PyTorch: the definition that all implementations meet.

BitDistill (arXiv 2510.13998, section 3.3), after MiniLMv2 (arXiv 2012.15828): a token's relations are the softmax of
its products with all tokens of its group, and the student's follow the teacher's.

Shape legend: G groups (sequences x relation heads), L tokens of a group, D and F widths of student and teacher. Rows
are unit vectors, so products lie in -1..1; sums are in float32 (float64 for float64 input).
"""

from __future__ import annotations

import torch
from torch import Tensor


def forward(student_GLD: Tensor, teacher_GLF: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """(KL divergence, the student's log-sum-exp, the teacher's), each (G, L).

    With s = scale A A^T of the student and t of the teacher: KL_i = sum_j softmax(t_i)_j (t_ij - s_ij) - lse(t_i) +
    lse(s_i).
    """
    s_GLL, t_GLL = _products(student_GLD, scale), _products(teacher_GLF, scale)
    student_GL, teacher_GL = s_GLL.logsumexp(-1), t_GLL.logsumexp(-1)
    share_GLL = (t_GLL - teacher_GL[..., None]).exp()
    return (share_GLL * (t_GLL - s_GLL)).sum(-1) - teacher_GL + student_GL, student_GL, teacher_GL


def backward(
    grad_GL: Tensor,
    student_GLD: Tensor,
    teacher_GLF: Tensor,
    scale: float,
    student_GL: Tensor,
    teacher_GL: Tensor,
) -> Tensor:
    """The student's gradient (G, L, D), in its data type; the teacher gets none.

    d KL_i / d s_ij = softmax(s_i)_j - softmax(t_i)_j. A row is both a query and a key: with g_i what flows into KL_i,
    dA_i = scale sum_j c_ij a_j, c_ij = e^s_ij (g_i e^-lse(s_i) + g_j e^-lse(s_j)) - e^t_ij (g_i e^-lse(t_i) + g_j
    e^-lse(t_j)), which is symmetric.
    """
    s_GLL, t_GLL = _products(student_GLD, scale), _products(teacher_GLF, scale)
    one_way = (s_GLL - student_GL[..., None]).exp() - (t_GLL - teacher_GL[..., None]).exp()
    one_way = one_way * grad_GL.to(s_GLL.dtype)[..., None]
    rows_GLD = student_GLD.to(s_GLL.dtype)
    return (scale * ((one_way + one_way.transpose(1, 2)) @ rows_GLD)).to(student_GLD.dtype)


def _products(x_GLD: Tensor, scale: float) -> Tensor:
    wide = x_GLD.to(torch.promote_types(x_GLD.dtype, torch.float32))
    return scale * (wide @ wide.transpose(1, 2))

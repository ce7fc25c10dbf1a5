"""The definition with so many products at a time that they stay in a cache: CPUs, and devices without a kernel.

A chunk is some groups, or some rows of one. Its products are PyTorch's; what follows, exponentials and sums, takes most
of the time and is C++ where there is a compiler (`cpu.py`), else operations of PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import torch
from torch import Tensor

PRODUCTS_AT_ONCE = 1 << 18  # of each of the two: 1 MB in float32


def divergence(s_GRL: Tensor, t_GRL: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """(KL, the student's log-sum-exp, the teacher's) of each row (G, R), from products that are spoiled."""
    s_GRL, t_GRL = s_GRL.mul_(scale), t_GRL.mul_(scale)
    student_GR, teacher_GR = s_GRL.logsumexp(-1), t_GRL.logsumexp(-1)
    share_GRL = (t_GRL - teacher_GR[..., None]).exp_()
    return (
        share_GRL.mul_(t_GRL.sub_(s_GRL)).sum(-1).sub_(teacher_GR).add_(student_GR),
        student_GR,
        teacher_GR,
    )


def coefficients(s_GRL: Tensor, t_GRL: Tensor, scale: float, rows: Tensor, columns: Tensor) -> None:
    """``c`` of `reference.backward` times ``scale``, in the place of the student's products ``s``; spoils ``t``.

    rows (G, 3, R) and columns (G, 3, L): g, the student's and the teacher's log-sum-exps.
    """
    s_GRL, t_GRL = s_GRL.sub_(1).mul_(scale).exp_(), t_GRL.sub_(1).mul_(scale).exp_()
    for x_GRL, part in ((s_GRL, 1), (t_GRL, 2)):
        own, other = (
            side[:, 0] * (scale - side[:, part]).exp() * scale for side in (rows, columns)
        )  # fmt: skip
        x_GRL *= own[..., None] + other[:, None]
    s_GRL -= t_GRL


def forward(
    student_GLD: Tensor, teacher_GLF: Tensor, scale: float, step: ModuleType | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.forward`; ``step``: the module whose `divergence` is used, this one by default."""
    function = divergence if step is None else step.divergence
    student_GLD, teacher_GLF = _wide(student_GLD), _wide(teacher_GLF)
    results = student_GLD.new_empty((3, *student_GLD.shape[:2]))
    for groups, rows in _chunks(student_GLD):
        s_GRL, t_GRL = (x[groups, rows] @ x[groups].transpose(1, 2) for x in (student_GLD, teacher_GLF))
        for result, part in zip(results, function(s_GRL, t_GRL, scale), strict=True):
            result[groups, rows] = part
    kl_GL, student_GL, teacher_GL = results.unbind()
    return kl_GL.clone(), student_GL.clone(), teacher_GL.clone()  # an operator's results share no memory


def backward(
    grad_GL: Tensor,
    student_GLD: Tensor,
    teacher_GLF: Tensor,
    scale: float,
    student_GL: Tensor,
    teacher_GL: Tensor,
    step: ModuleType | None = None,
) -> Tensor:
    """As `reference.backward`; ``step`` as in `forward`."""
    function = coefficients if step is None else step.coefficients
    rows_GLD, taught_GLF = _wide(student_GLD), _wide(teacher_GLF)
    known = torch.stack([grad_GL.to(rows_GLD.dtype), student_GL, teacher_GL], dim=1)
    result = torch.empty_like(rows_GLD)
    for groups, rows in _chunks(rows_GLD):
        s_GRL, t_GRL = (x[groups, rows] @ x[groups].transpose(1, 2) for x in (rows_GLD, taught_GLF))
        function(s_GRL, t_GRL, scale, known[groups, :, rows].contiguous(), known[groups])
        result[groups, rows] = s_GRL @ rows_GLD[groups]
    return result.to(student_GLD.dtype)


def row_chunks(groups: int, rows: int, columns: int, at_once: int) -> Iterator[tuple[slice, slice]]:
    """Groups at a time, or rows of one group, with about ``at_once`` products in each."""
    if rows == 0 or columns == 0:
        return
    step = min(rows, max(1, at_once // columns))
    together = max(1, at_once // (rows * columns))
    for first in range(0, groups, together):
        for start in range(0, rows, step):
            yield slice(first, first + together), slice(start, start + step)


def _chunks(x_GLD: Tensor) -> Iterator[tuple[slice, slice]]:
    groups, length, _ = x_GLD.shape
    return row_chunks(groups, length, length, PRODUCTS_AT_ONCE)


def _wide(x_GLD: Tensor) -> Tensor:
    return x_GLD.to(torch.promote_types(x_GLD.dtype, torch.float32))

"""Cross entropy of x W^T, alone or beside a teacher's logits, without ever holding the logits of all rows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from multiway_core.errors import InputError
from torch import Tensor

from multiway_blocks.kernels.arguments import check, describe
from multiway_blocks.kernels.dispatch import USE_REFERENCE
from multiway_blocks.kernels.linear_cross_entropy import operators, reference

__all__ = ["DistillationLoss", "linear_cross_entropy", "linear_distillation"]


class DistillationLoss(NamedTuple):
    """Scalars in float32 (float64)."""

    total: Tensor
    """The sum of the two others, and the only one with a gradient."""
    cross_entropy: Tensor
    divergence: Tensor


def linear_cross_entropy(
    x: Tensor, weight: Tensor, target: Tensor, row_weight: Tensor | None = None
) -> Tensor:
    """``cross_entropy(x weight^T, target)``: the mean over targets that are not negative, or a sum with weights.

    Memory beside the arguments and their gradients does not grow with the number of rows. There are first derivatives
    only, unless `MULTIWAY_KERNELS=reference` is set. Products are in the data type of `x`, all else in float32.

    Args:
        x: (..., E), floating point.
        weight: (V, E), floating point; it is cast to the data type of `x`.
        target: (...) int64; a negative one (-100, say) stands for no target.
        row_weight: (...) what each row counts in the sum; None: 1 / (number of targets) each.

    Returns:
        The loss, () in float32 (float64 for float64 input); 0 where there is no target.

    Raises:
        InputError: shapes, data types or devices do not fit, or (on a CPU) a target is V or more.
    """
    rows, weight, target, row_weight = _checked(x, weight, target, row_weight)
    if USE_REFERENCE:
        return reference.forward(rows, weight, target, row_weight, None)[0]
    loss: Tensor = _call(rows, weight, target, row_weight, None)[0]
    return loss


def linear_distillation(
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    teacher_x: Tensor,
    teacher_weight: Tensor,
    *,
    temperature: float = 1.0,
    row_weight: Tensor | None = None,
    teacher_row_weight: Tensor | None = None,
) -> DistillationLoss:
    """`linear_cross_entropy` plus ``temperature^2 KL(teacher || student)`` of logits divided by the temperature.

    The teacher's logits are computed from its hidden states, so they are never held either. Nothing flows back to it.

    Args:
        x, weight, target, row_weight: as in `linear_cross_entropy`.
        teacher_x: (..., F), floating point: the teacher's hidden states at the same places.
        teacher_weight: (V, F) of the same data type, its output matrix.
        temperature: above 0.
        teacher_row_weight: (...) what each row's divergence counts, its factor in the loss included (lambda of
            BitDistill); None: 1 / (number of rows) each.

    Raises:
        InputError: as `linear_cross_entropy`, and for a temperature that is not above 0.
    """
    rows, weight, target, row_weight = _checked(x, weight, target, row_weight)
    if not temperature > 0:
        raise InputError(f"linear_distillation: temperature is {temperature}, expected above 0")
    if teacher_x.shape[:-1] != x.shape[:-1] or teacher_x.device != x.device or teacher_x.ndim == 0:
        raise InputError(
            f"linear_distillation: teacher_x is {describe(teacher_x)}, expected ({_sizes(x)}F) on {x.device}"
        )
    fits = teacher_weight.ndim == 2 and teacher_weight.shape == (len(weight), teacher_x.shape[-1])
    if not fits or teacher_weight.dtype != teacher_x.dtype or teacher_weight.device != x.device:
        raise InputError(
            f"linear_distillation: teacher_weight is {describe(teacher_weight)}, expected {teacher_x.dtype} "
            f"({len(weight)}, {teacher_x.shape[-1]}) on {x.device}"
        )
    if teacher_row_weight is None:
        teacher_row_weight = row_weight.new_full(row_weight.shape, 1 / max(1, len(rows)))
    else:
        teacher_row_weight = _row_weight("teacher_row_weight", teacher_row_weight, x).to(row_weight.dtype)
    teacher = reference.Teacher(
        teacher_x.detach().reshape(-1, teacher_x.shape[-1]),
        teacher_weight.detach(),
        teacher_row_weight,
        temperature,
    )
    if USE_REFERENCE:
        parts = reference.forward(rows, weight, target, row_weight, teacher)
        return DistillationLoss(parts[0] + parts[1], parts[0].detach(), parts[1].detach())
    total, divergence = _call(rows, weight, target, row_weight, teacher)[:2]
    return DistillationLoss(total, (total - divergence).detach(), divergence.detach())


def _call(
    x_NE: Tensor, weight_VE: Tensor, target_N: Tensor, row_weight_N: Tensor, teacher: reference.Teacher | None
) -> tuple[Tensor, ...]:
    record = torch.is_grad_enabled()
    needed = record and x_NE.requires_grad, record and weight_VE.requires_grad
    told = (None, None, None, 1.0) if teacher is None else teacher
    results: tuple[Tensor, ...] = operators.linear_cross_entropy(
        x_NE, weight_VE, target_N, row_weight_N, *told, *needed
    )
    return results


def _checked(
    x: Tensor, weight: Tensor, target: Tensor, row_weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows (N, E), weight in their data type, targets (N,) and what each counts (N,)."""
    if x.ndim == 0 or x.shape[-1] == 0 or not x.is_floating_point():
        raise InputError(
            f"linear_cross_entropy: x is {describe(x)}, expected floating point (..., E) with E > 0"
        )
    fits = weight.ndim == 2 and weight.shape[1] == x.shape[-1] and weight.shape[0] > 0
    if not fits or not weight.is_floating_point() or weight.device != x.device:
        expected = f"floating point (V, {x.shape[-1]}) on {x.device}"
        raise InputError(f"linear_cross_entropy: weight is {describe(weight)}, expected {expected}")
    check("linear_cross_entropy", "target", target, x, x.shape[:-1], torch.int64)
    target_N = target.reshape(-1)
    wide = torch.promote_types(x.dtype, torch.float32)
    if row_weight is None:
        counts_N = (target_N >= 0).to(wide)
        row_weight_N = counts_N / counts_N.sum().clamp(min=1)
    else:
        row_weight_N = _row_weight("row_weight", row_weight, x).to(wide) * (target_N >= 0)
    return x.reshape(-1, x.shape[-1]), weight.to(x.dtype), target_N, row_weight_N


def _row_weight(name: str, row_weight: Tensor, x: Tensor) -> Tensor:
    if row_weight.shape != x.shape[:-1] or row_weight.device != x.device:
        expected = f"{tuple(x.shape[:-1])} on {x.device}"
        raise InputError(f"linear_cross_entropy: {name} is {describe(row_weight)}, expected {expected}")
    return row_weight.detach().reshape(-1)


def _sizes(x: Tensor) -> str:
    return "".join(f"{size}, " for size in x.shape[:-1])

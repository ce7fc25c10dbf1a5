"""BitDistill's relation loss: the student's tokens relate to each other as the teacher's do (arXiv 2510.13998, 3.3)."""

from __future__ import annotations

from multiway_core.errors import InputError
from torch import Tensor
from torch.nn import functional

from multiway_blocks.kernels.arguments import describe
from multiway_blocks.kernels.dispatch import USE_REFERENCE
from multiway_blocks.kernels.relation_distillation import operators, pairs, reference

__all__ = ["relation_distillation", "relation_divergence"]

relation_divergence = pairs.definition if USE_REFERENCE else pairs.relation_divergence


def relation_distillation(
    student: Tensor, teacher: Tensor, splits: int, *, temperature: float = 1.0
) -> Tensor:
    """KL(R_teacher || R_student), R = softmax(A A^T / temperature), the mean over rows of R, in linear memory.

    The heads of a token are joined and cut again in ``splits`` relation heads of equal width, each model by its
    own; A's rows are these, of length 1 (norms in float32, then rounded to the data type). As in the released code
    there is no mask: every token relates to all. The loss of a layer is the sum over queries, keys and values; the
    released code then divides by the number of layers times splits. Nothing flows back to the teacher.

    Args:
        student: (B, H, L, D), floating point: queries, keys or values of a layer (behind norms and positions).
        teacher: (B, H', L, D'), floating point.
        splits: relation heads; divides H D and H' D'.
        temperature: above 0.

    Returns:
        The loss, () in float32 (float64 for float64 input).

    Raises:
        InputError: shapes or devices do not fit, or an argument is out of range.
    """
    if student.ndim != 4 or student.numel() == 0 or not student.is_floating_point():
        raise InputError(
            f"relation_distillation: student is {describe(student)}, expected floating point (B, H, L, D)"
        )
    fits = teacher.ndim == 4 and (teacher.shape[0], teacher.shape[2]) == (student.shape[0], student.shape[2])
    if not fits or not teacher.is_floating_point() or teacher.device != student.device:
        expected = f"floating point ({student.shape[0]}, H, {student.shape[2]}, D) on {student.device}"
        raise InputError(f"relation_distillation: teacher is {describe(teacher)}, expected {expected}")
    if not temperature > 0:
        raise InputError(f"relation_distillation: temperature is {temperature}, expected above 0")
    for name, tensor in (("student", student), ("teacher", teacher)):
        width = tensor.shape[1] * tensor.shape[3]
        if splits < 1 or width == 0 or width % splits:
            raise InputError(
                f"relation_distillation: splits is {splits}, expected a divisor of {name}'s width {width}"
            )
    rows, taught = _unit_rows(student, splits), _unit_rows(teacher.detach(), splits)
    function = reference.forward if USE_REFERENCE else operators.relation_distillation
    loss: Tensor = function(rows, taught, 1 / temperature)[0].mean()
    return loss


def _unit_rows(x_BHLD: Tensor, splits: int) -> Tensor:
    """(B x splits, L, W)."""
    x_BLSW = x_BHLD.transpose(1, 2).flatten(2).unflatten(2, (splits, -1))
    wide = x_BLSW if x_BLSW.element_size() >= 4 else x_BLSW.float()
    return functional.normalize(wide, dim=-1).to(x_BHLD.dtype).transpose(1, 2).flatten(0, 1)

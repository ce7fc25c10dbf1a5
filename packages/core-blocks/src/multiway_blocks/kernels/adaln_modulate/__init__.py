"""RMSNorm with shift and scale of a condition (AdaLN), behind a gated residual if one is given, in one pass."""

from __future__ import annotations

from typing import overload

from multiway_core.errors import InputError
from torch import Tensor

from multiway_blocks.kernels.adaln_modulate import operators, reference
from multiway_blocks.kernels.arguments import check, describe
from multiway_blocks.kernels.dispatch import USE_REFERENCE

__all__ = ["adaln_modulate"]


@overload
def adaln_modulate(
    x: Tensor,
    shift: Tensor,
    scale: Tensor,
    weight: Tensor | None,
    eps: float,
    gate: None = None,
    residual: None = None,
) -> Tensor: ...
@overload
def adaln_modulate(
    x: Tensor, shift: Tensor, scale: Tensor, weight: Tensor | None, eps: float, gate: Tensor, residual: Tensor
) -> tuple[Tensor, Tensor]: ...


def adaln_modulate(
    x: Tensor,
    shift: Tensor,
    scale: Tensor,
    weight: Tensor | None,
    eps: float,
    gate: Tensor | None = None,
    residual: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """``rms_norm(s) weight (1 + scale) + shift`` over the last dimension, s = residual + gate x, or x without those.

    Statistics and products are in float32 (float64 for float64 input), each result is rounded once. There are first
    derivatives only, unless `MULTIWAY_KERNELS=reference` is set.

    Args:
        x: (..., D), floating point.
        shift, scale, gate: of the data type of `x`; the shape of `x`, or with ones before D (B, 1, D): a modulation may
            serve neighbouring rows.
        weight: (D,) floating point, or None for no weight of the norm.
        eps: added to the mean square.
        gate, residual: both or neither; residual (..., D) of the data type of `x`.

    Returns:
        y (..., D); with a residual the pair (y, s), s as the norm saw it.

    Raises:
        InputError: shapes, data types or devices do not fit, or D is 0.
    """
    if x.ndim == 0 or x.shape[-1] == 0 or not x.is_floating_point():
        raise InputError(f"adaln_modulate: x is {describe(x)}, expected floating point (..., D) with D > 0")
    D = x.shape[-1]
    if weight is not None:
        check("adaln_modulate", "weight", weight, x, (D,), None)
    if (gate is None) != (residual is None):
        raise InputError("adaln_modulate: gate and residual come together, and one of them is missing")
    rows = [_modulation("shift", shift, x), _modulation("scale", scale, x)]
    gate_MD = None if gate is None else _modulation("gate", gate, x)
    most = max(len(row) for row in (*rows, *([] if gate_MD is None else [gate_MD])))
    shift_MD, scale_MD = (_spread(row, most) for row in rows)
    residual_ND = None
    if residual is not None:
        check("adaln_modulate", "residual", residual, x, x.shape, x.dtype)
        residual_ND = residual.reshape(-1, D)
    function = reference.forward if USE_REFERENCE else operators.adaln_modulate
    y, total, _ = function(
        x.reshape(-1, D),
        None if gate_MD is None else _spread(gate_MD, most),
        residual_ND,
        weight,
        shift_MD,
        scale_MD,
        eps,
    )
    return y.view(x.shape) if residual is None else (y.view(x.shape), total.view(x.shape))


def _modulation(name: str, tensor: Tensor, x: Tensor) -> Tensor:
    """(M, D): one a row of x, or one for all rows behind its first dimensions."""
    leading = 0  # dimensions that it shares with x
    sizes = tuple(tensor.shape)
    if tensor.ndim == x.ndim and sizes[-1] == x.shape[-1]:
        while leading < x.ndim - 1 and sizes[leading] == x.shape[leading]:
            leading += 1
        fits = all(size == 1 for size in sizes[leading:-1])
    else:
        fits = False
    if not fits or tensor.dtype != x.dtype or tensor.device != x.device:
        expected = f"{x.dtype} {tuple(x.shape)}, or with ones before the last dimension, on {x.device}"
        raise InputError(f"adaln_modulate: {name} is {describe(tensor)}, expected {expected}")
    return tensor.reshape(-1, sizes[-1])


def _spread(row_MD: Tensor, count: int) -> Tensor:
    """The same modulations, each repeated so that there are ``count``."""
    return row_MD if len(row_MD) == count else row_MD.repeat_interleave(count // len(row_MD), 0)

"""What the kernels' public functions and operators share: checks of tensors, and refused gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from multiway_core.errors import InputError
from torch import Tensor


def describe(tensor: Tensor) -> str:
    """Data type, shape and device of a tensor, for error messages."""
    return f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"


def check(
    kernel: str, name: str, tensor: Tensor, x: Tensor, shape: Sequence[int], dtype: torch.dtype | None
) -> None:
    """Raise InputError unless a tensor has this shape, this data type (None: any floating one) and the device of x."""
    fits = tensor.is_floating_point() if dtype is None else tensor.dtype == dtype
    if not fits or tensor.shape != tuple(shape) or tensor.device != x.device:
        expected = f"{dtype or 'floating point'} {tuple(shape)} on {x.device}"
        raise InputError(f"{kernel}: {name} is {describe(tensor)}, expected {expected}")


def contiguous(tensor: Tensor | None) -> Tensor | None:
    """The tensor, if there is one, in one piece."""
    return None if tensor is None else tensor.contiguous()


def refuse_gradients(
    operator: str, instead: str = "its definition has, and runs with MULTIWAY_KERNELS=reference"
) -> None:
    """Make ``multiway::operator`` one without derivatives; one called ``..._backward`` is itself the first."""
    kernel = operator.removesuffix("_backward")
    which = "derivatives" if kernel == operator else "second derivatives"

    def refuse(ctx: Any, *gradients: Tensor | None) -> NoReturn:
        raise NotImplementedError(f"{kernel} has no {which}; {instead}")

    torch.library.register_autograd(f"multiway::{operator}", refuse)

"""Linear maps that are also fast for the few rows of a decoding step on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_blocks.kernels import dispatch
from multiway_blocks.kernels.few_rows import cpu

# Measured on one AVX-512 core, for matrices of 0.6 to 83 million elements. PyTorch's product of few rows with a large
# matrix runs below the memory's speed; how far depends on the number of rows and on which factor comes first.
_MIN_ELEMENTS = 1 << 19  # smaller matrices stay in the cache, where PyTorch's form is best
_KERNEL_ROWS = {torch.float32: range(1, 21), torch.bfloat16: range(1, 5)}
_TURNED_ROWS = {torch.float32: range(7, 21), torch.bfloat16: range(2, 33)}


def project(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x weight^T + bias`` as ``nn.functional.linear``: (..., I) and (O, I) -> (..., O).

    For a few rows on a CPU, when no gradient is wanted, the product is computed by a kernel of ours that reads the
    matrix once, or as ``(weight x^T)^T``. From 1 to 8 rows that takes 0 to 60 % less time;
    the results differ by rounding only.
    """
    if weight.device.type != "cpu" or weight.numel() < _MIN_ELEMENTS or not _plain(x, weight, bias):
        return nn.functional.linear(x, weight, bias)
    rows = x.numel() // x.shape[-1]
    shape = (*x.shape[:-1], weight.shape[0])
    if rows in _KERNEL_ROWS[x.dtype] and not dispatch.USE_REFERENCE and cpu.supports(x.dtype):
        return cpu.forward(x.reshape(rows, -1).contiguous(), weight, bias).view(shape)
    if rows in _TURNED_ROWS[x.dtype] and weight.shape[0] >= weight.shape[1]:
        columns = x.reshape(rows, -1).t()
        product = weight @ columns if bias is None else torch.addmm(bias[:, None], weight, columns)
        return (
            product.t().contiguous().view(shape)
        )  # few elements, and attention's fast path wants them in order
    return nn.functional.linear(x, weight, bias)


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether this runs operation by operation, on ordinary tensors of one data type and without gradients."""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    if type(x) is not Tensor or type(weight) not in (Tensor, nn.Parameter) or not weight.is_contiguous():
        return False
    if x.dtype not in _KERNEL_ROWS or weight.dtype != x.dtype or x.shape[-1] != weight.shape[1]:
        return False
    if bias is not None and (bias.dtype != x.dtype or not bias.is_contiguous()):
        return False
    return not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))


class Linear(nn.Linear):
    """``nn.Linear`` through :func:`project`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return project(x, self.weight, self.bias)

"""Linear maps that are also fast for the few rows of a decoding step on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_blocks.kernels import dispatch
from multiway_blocks.kernels.skinny_gemm import cpu

# Measured on one core with AVX-512 for matrices of 0.6 to 83 million elements. PyTorch's product of few rows with a
# large matrix runs below the memory's speed; our kernel is near it up to eight rows, which is where arithmetic takes
# as long as reading. Beyond, float32 still gains from it; bfloat16 has faster instructions in AMX units, which
# PyTorch's product uses, best with the matrix as the first factor.
_MIN_ELEMENTS = 1 << 19  # smaller matrices stay in the cache, where PyTorch's form is best
_KERNEL_ROWS = {torch.float32: 20, torch.bfloat16: 8}
_TURNED_ROWS = 32
_HAS_AMX = bool(torch.cpu.get_capabilities().get("amx_bf16"))


def project(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x weight^T + bias`` as ``nn.functional.linear``: (..., I) and (O, I) -> (..., O).

    For a few rows on a CPU, when no gradient is wanted, the product is computed by a kernel that reads the matrix
    once (:func:`multiway_blocks.kernels.skinny_gemm.skinny_gemm`), or as ``(weight x^T)^T``; the results differ by
    rounding only. On GPUs and under ``torch.compile`` PyTorch's own product stands.
    """
    if weight.device.type != "cpu" or weight.numel() < _MIN_ELEMENTS or not _plain(x, weight, bias):
        return nn.functional.linear(x, weight, bias)
    rows = x.numel() // x.shape[-1]
    shape = (*x.shape[:-1], weight.shape[0])
    if 0 < rows <= _KERNEL_ROWS[x.dtype] and not dispatch.USE_REFERENCE and cpu.supports(x.dtype):
        return cpu.forward(x.reshape(rows, -1).contiguous(), weight, bias).view(shape)
    if (
        _HAS_AMX
        and x.dtype == torch.bfloat16
        and 1 < rows <= _TURNED_ROWS
        and weight.shape[0] >= weight.shape[1]
    ):
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

"""Normalisation layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_blocks.kernels.rms_norm import cpu, rms_norm


class RMSNorm(nn.Module):
    """Root-mean-square norm without bias: ``y = w * x / sqrt(mean(x^2) + eps)`` (Zhang & Sennrich 2019, eq. 4).

    The mean is taken in float32 whatever the input's dtype is.
    """

    def __init__(self, hidden_size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """``x``: (..., hidden_size) of any floating dtype; the same shape and dtype back."""
        # The kernel is several times as fast where operations run one by one on a CPU; a compiler fuses the norm with
        # its neighbours instead, and other devices have a fused norm of their own.
        if x.is_cpu and not torch.compiler.is_compiling():
            # Without gradients a step of few rows is mostly the way through the dispatcher: half of it is saved here.
            if not torch.is_grad_enabled() and type(x) is Tensor and cpu.supports(x.dtype, x.dtype):
                return cpu.forward(x.contiguous(), None, self.weight, self.eps)[0]
            return rms_norm(x, self.weight, self.eps)
        return nn.functional.rms_norm(x, self.weight.shape, self.weight, self.eps)

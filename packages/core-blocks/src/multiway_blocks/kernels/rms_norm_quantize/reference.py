"""RMSNorm and quantisation to int8 in plain PyTorch: the definition that all implementations meet.

With z = x * weight, BitNet's activations are n = z / rms(x) (arXiv 1910.07467, equation 4), quantised to int8 by the
largest of their row (arXiv 2402.17764, section 2): round(n * 127 / max|n|). The rms drops out of that quotient, so the
int8 values depend on no sum, and implementations agree in all of them.

Shape legend: N rows, D features. Statistics and products are in float32 (float64 for float64 input).
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1e-5  # a row's largest activation counts as at least this much, as in the published code


def forward(x_ND: Tensor, weight_D: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Int8 values (N, D), and what one of them is worth, (N,) in the precision of the statistics.

    Halves are rounded to even. ``eps`` is added to the mean square. A row with a NaN or an infinity has a step of NaN
    or infinity, so that what is computed with it shows the fault.
    """
    wide = x_ND.to(torch.promote_types(x_ND.dtype, torch.float32))
    rms_N = torch.sqrt(wide.square().mean(-1) + eps)
    scaled = wide if weight_D is None else wide * weight_D.to(wide.dtype)
    peak_N = scaled.abs().amax(-1)
    peak_N = torch.maximum(peak_N, SMALLEST * rms_N)
    # A number divided by a tensor would be the tensor's reciprocal, rounded, times the number.
    inverse_N = peak_N.new_full((), 127) / peak_N
    values = (scaled * inverse_N[:, None]).round().clamp(-127, 127).nan_to_num(0)
    return values.to(torch.int8), peak_N / (127 * rms_N)

"""BitNet b1.58's linear maps: ternary weights and int8 activations (arXiv 2402.17764, section 2).

Weights: scale = mean|W| over a whole matrix, W' = clip(round(W / scale), -1, 1). Activations, each row alone:
step = max|x| / 127, x' = round(x / step). Then y = (x' W'^T) * step * scale, where the product is of integers.

Two pairs of modules compute the same function and have the same shapes:

* to train, and to run master weights: ``RMSNorm`` + :class:`BitLinear`, floating point with straight-through gradients;
* to run: :class:`RMSNormQuantize` + :class:`TernaryLinear`, int8 rows and two bits a weight.

Maps that read the same rows (queries, keys and values; gate and up) may be one module with several ``outputs``: each
is a matrix of its own, with its own scale.

Shape legend: I inputs, O outputs (of all matrices of a module), S matrices of a module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from multiway_blocks.kernels import dispatch
from multiway_blocks.kernels.rms_norm_quantize import cpu as norm_cpu
from multiway_blocks.kernels.rms_norm_quantize import rms_norm_quantize
from multiway_blocks.kernels.rms_norm_quantize.reference import SMALLEST
from multiway_blocks.kernels.ternary_linear import cpu as ternary_cpu
from multiway_blocks.kernels.ternary_linear import has_kernel, layout, reference, ternary_linear


class QuantizedRows(NamedTuple):
    """Rows of int8: ``values * step`` in the data type ``dtype``, which is also that of what is computed from them."""

    values: Tensor
    """(..., I) int8."""
    step: Tensor
    """(..., 1) float32."""
    dtype: torch.dtype


def quantize_rows(x: Tensor) -> QuantizedRows:
    """Each row of (..., I) by its largest: ``round(x * 127 / max|x|)``, halves to even; in float32."""
    wide = x.float()
    peak = wide.abs().amax(-1, keepdim=True).clamp(min=SMALLEST)
    values = (wide * (peak.new_full((), 127) / peak)).round().clamp(-127, 127).nan_to_num(0)
    return QuantizedRows(values.to(torch.int8), peak / 127, x.dtype)


def absmean(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """(ternary int8 (O, I), scale float32 ()) of one matrix: ``clip(round(W / mean|W|), -1, 1)``, in float32."""
    wide = weight_OI.float()
    scale = wide.abs().mean().clamp(min=SMALLEST)
    return (wide / scale).round().clamp(-1, 1).to(torch.int8), scale


def masters(values_OI: Tensor, scale: Tensor, *, seed: int = 0) -> Tensor:
    """Master weights float32 (O, I) that :func:`absmean` quantises to these int8 weights and this scale.

    What the weights were before is lost; a training can go on from these. They are spread evenly: those of 0 within
    0.48 scales on both sides, those of 1 from 0.52 scales to as far as gives the mean. At one value for each kind it
    would take long until the first one crossed a threshold; spread up to the threshold of 0.5, many would cross it
    with the noise of the first steps.

    A matrix of zeros has no scale, and gives zeros.
    """
    count = int(values_OI.count_nonzero())
    if not count:
        return torch.zeros(values_OI.shape)
    generator = torch.Generator().manual_seed(seed)
    spread_OI = torch.rand(values_OI.shape, generator=generator)
    zeros_OI = torch.where(values_OI == 0, 0.48 * (2 * spread_OI - 1), 0)
    ones_OI = torch.where(values_OI == 0, 0, spread_OI)
    # mean|W| = scale: what the zeros and the lowest ones leave of it is what the ones are spread over.
    left = values_OI.numel() - zeros_OI.abs().sum(dtype=torch.float64) - 0.52 * count
    width = (left / ones_OI.sum(dtype=torch.float64)).float()
    return (zeros_OI + values_OI * (0.52 + width * ones_OI)) * scale.float()


class _QuantizedProduct(torch.autograd.Function):
    """``(x' W'^T) * step * scale`` of integers in floating point, gradients going straight through both quantisers.

    Integers up to 127 are exact in bfloat16, so the product of a low-precision type has the rounding of its output
    only. What is kept for the backward pass is a byte for an activation.
    """

    @staticmethod
    def forward(
        ctx: Any, x_NI: Tensor, weight_OI: Tensor, outputs: tuple[int, ...], strength: float
    ) -> Tensor:
        rows = quantize_rows(x_NI)
        parts = [absmean(part) for part in weight_OI.split(outputs)]
        scale_O = _by_output(torch.stack([scale for _, scale in parts]), outputs)
        dequantized_OI = torch.cat([values for values, _ in parts]) * scale_O[:, None]
        if strength < 1:
            dequantized_OI = torch.lerp(weight_OI.float(), dequantized_OI, strength)
        dequantized_OI = dequantized_OI.to(x_NI.dtype)
        ctx.save_for_backward(rows.values, rows.step, dequantized_OI)
        ctx.master_dtype = weight_OI.dtype
        return nn.functional.linear(rows.values.to(x_NI.dtype), dequantized_OI) * rows.step.to(x_NI.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient_NO,) = gradients
        values_NI, step_N1, dequantized_OI = ctx.saved_tensors
        x_NI = (values_NI * step_N1).to(gradient_NO.dtype)
        return gradient_NO @ dequantized_OI, (gradient_NO.t() @ x_NI).to(ctx.master_dtype), None, None


class BitLinear(nn.Module):
    """Master weights in floating point, quantised at every forward pass; gradients go straight through.

    ``strength`` below 1 uses weights on the way from the master weights to the ternary ones: a network that was
    trained in full precision bears the change better in steps.

    Args:
        in_features: I.
        outputs: outputs of the module's matrices; one number for one matrix.
    """

    strength = 1.0

    def __init__(self, in_features: int, outputs: int | Sequence[int]) -> None:
        super().__init__()
        self.outputs = (outputs,) if isinstance(outputs, int) else tuple(outputs)
        self.weight = nn.Parameter(torch.empty(sum(self.outputs), in_features))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        y_NO = _QuantizedProduct.apply(x.flatten(0, -2), self.weight, self.outputs, self.strength)
        return y_NO.view(*x.shape[:-1], -1)

    @torch.no_grad()
    def set(self, values_OI: Tensor, scale_S: Tensor) -> None:
        """Take master weights that are quantised to int8 weights -1, 0, 1 (O, I) and the matrices' scales (S,)."""
        parts = zip(values_OI.split(self.outputs), scale_S, strict=True)
        weight_OI = torch.cat([masters(values, scale) for values, scale in parts])
        self.weight = nn.Parameter(weight_OI.to(self.weight.dtype))

    def ternary(self) -> tuple[Tensor, Tensor]:
        """What the weights are quantised to: int8 (O, I), and the matrices' scales float32 (S,)."""
        parts = [absmean(part) for part in self.weight.detach().split(self.outputs)]
        return torch.cat([values for values, _ in parts]), torch.stack([scale for _, scale in parts])


class TernaryLinear(nn.Module):
    """Two bits a weight, multiplied as integers; asking for a gradient raises.

    The buffers are ``packed`` uint8 (O, P), as the kernels read it, and ``scale`` float32 (S,), one a matrix. Where no
    kernel reads the packed weights (no compiler), they are unpacked once, to a byte a weight.

    Args: as :class:`BitLinear`.
    """

    packed: Tensor
    scale: Tensor

    def __init__(self, in_features: int, outputs: int | Sequence[int]) -> None:
        super().__init__()
        self.in_features = in_features
        self.outputs = (outputs,) if isinstance(outputs, int) else tuple(outputs)
        size = layout.packed_size(in_features)
        self.register_buffer("packed", torch.full((sum(self.outputs), size), 0b01010101, dtype=torch.uint8))
        self.register_buffer("scale", torch.ones(len(self.outputs)))
        self._prepared: tuple[Tensor, Tensor | None] | None = None
        self.register_load_state_dict_post_hook(_forget)

    @classmethod
    def of(cls, linear: BitLinear) -> TernaryLinear:
        """The same map as a :class:`BitLinear`, packed."""
        values, scales = linear.ternary()
        packed = cls(values.shape[1], linear.outputs)
        packed.set(values, scales)
        return packed

    def set(self, values_OI: Tensor, scale_S: Tensor) -> None:
        """Take int8 weights -1, 0, 1 (O, I) and the matrices' scales (S,)."""
        self.packed = layout.pack(values_OI)
        self.scale = scale_S.to(torch.float32)
        self._prepared = None

    def ternary(self) -> tuple[Tensor, Tensor]:
        """Int8 weights -1, 0, 1 (O, I), and the matrices' scales float32 (S,)."""
        return layout.unpack(self.packed, self.in_features), self.scale

    def _apply(self, fn, recurse: bool = True):
        # Scales stay in float32 when a model is cast: they are worth four bytes a matrix.
        scale = self.scale
        super()._apply(fn, recurse)
        if self.scale.dtype != torch.float32:
            self.scale = scale.to(self.scale.device)
        self._prepared = None
        return self

    def forward(self, x: Tensor | QuantizedRows) -> Tensor:
        """(..., I) -> (..., O) in the data type that the rows come from."""
        rows = x if isinstance(x, QuantizedRows) else quantize_rows(x)
        scale_O, unpacked_OI = self._prepared or self._prepare(rows.dtype)
        if unpacked_OI is None and self._fit(rows):
            flat_NI = rows.values.view(-1, self.in_features)
            y_NO = ternary_cpu.forward(flat_NI, rows.step.view(-1), self.packed, scale_O, rows.dtype)
            return y_NO.view(*rows.values.shape[:-1], -1)
        if unpacked_OI is None or rows.step.requires_grad:
            # The operator raises where a gradient is asked for.
            return ternary_linear(rows.values, rows.step, self.packed, scale_O, rows.dtype)
        sums = reference.sums(rows.values.flatten(0, -2), unpacked_OI)
        y = reference.scaled(sums, rows.step.flatten(), scale_O, rows.dtype)
        return y.view(*rows.values.shape[:-1], -1)

    def _fit(self, rows: QuantizedRows) -> bool:
        """Whether machine code may take these rows as they are: wrong sizes would be wrong memory accesses."""
        values, step, dtype = rows
        return (
            values.shape[-1] == self.in_features
            and step.shape == (*values.shape[:-1], 1)
            and (values.dtype, step.dtype) == (torch.int8, torch.float32)
            and ternary_cpu.supports(dtype)
            and step.is_contiguous()
            and _direct(values, step)
        )

    def scale_of_outputs(self) -> Tensor:
        """The scale of every output, float32 (O,)."""
        return _by_output(self.scale, self.outputs)

    def _prepare(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """The scale of every output; and the unpacked weights, where nothing multiplies packed ones."""
        plain = not has_kernel(self.packed.device, dtype)
        unpacked_OI = layout.unpack(self.packed, self.in_features) if plain else None
        self._prepared = self.scale_of_outputs(), unpacked_OI
        return self._prepared


class RMSNormQuantize(nn.Module):
    """RMSNorm whose result is quantised in the same pass; takes the weights of ``multiway_blocks.norm.RMSNorm``."""

    def __init__(self, hidden_size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.eps = eps

    def forward(self, x: Tensor) -> QuantizedRows:
        """(..., hidden_size) of any floating dtype."""
        if x.shape[-1:] == self.weight.shape and norm_cpu.supports(x.dtype) and _direct(x, self.weight):
            values, step = norm_cpu.forward(x.view(-1, x.shape[-1]), self.weight, self.eps)
            return QuantizedRows(values.view(x.shape), step.view(*x.shape[:-1], 1), x.dtype)
        values, step = rms_norm_quantize(x, self.weight, self.eps)
        return QuantizedRows(values, step.float(), x.dtype)


def _direct(x: Tensor, other: Tensor) -> bool:
    """Whether the CPU code may be called without the dispatcher, which takes as long as a small product does.

    That is for ordinary tensors in order, without gradients and compilers; shapes are the callers' to check.
    """
    if dispatch.USE_REFERENCE or torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    ordinary = type(x) is Tensor and type(other) in (Tensor, nn.Parameter)
    return ordinary and x.is_cpu and other.is_cpu and x.is_contiguous() and x.numel() > 0


def _by_output(scale_S: Tensor, outputs: Sequence[int]) -> Tensor:
    """The scale of every output, (O,)."""
    if len(outputs) == 1:
        return scale_S.expand(outputs[0]).contiguous()
    return torch.cat([scale.expand(count) for scale, count in zip(scale_S, outputs, strict=True)])


def _forget(module: TernaryLinear, incompatible_keys: object) -> None:
    """Loading a state fills the buffers in place: what was derived from them is of the past."""
    module._prepared = None

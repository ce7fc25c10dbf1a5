"""A decoding step of packed layers in one call of machine code (`step.cpp`, built on first use).

A token's products take 10 microseconds to a few hundred; from Python every one of a layer's dozen operations takes some
twenty more to begin. The step calls the kernels' machine code itself, so it computes what the modules compute. Its rows
may stand behind different caches: the weights are then read once for all of them.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from multiway_blocks.bitlinear import RMSNormQuantize, TernaryLinear
from multiway_blocks.kernels import dispatch, native
from multiway_blocks.kernels.decode_attention import cpu as decode_attention
from multiway_blocks.kernels.rms_norm_quantize import cpu as rms_norm_quantize
from multiway_blocks.kernels.ternary_linear import cpu as ternary_linear
from multiway_blocks.kernels.ternary_linear import layout
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_text.decoders.bitnet.config import BitNetConfig

_NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}
_Sizes = ctypes.c_int64 * 9
_Kernels = ctypes.c_void_p * 3


@functools.cache
def _functions() -> dict[tuple[str, torch.dtype], Callable[..., None]]:
    """The C functions; empty where they cannot be built."""
    pointer = ctypes.c_void_p
    arguments = {"run": (_Sizes, _Kernels, *[pointer] * 5, ctypes.c_float, pointer)}
    return native.functions(Path(__file__).with_name("step.cpp"), arguments, _NAMES)


@functools.cache
def _kernels(dtype: torch.dtype) -> Any:
    """Addresses of the kernels' machine code; None where some of it, or the step's own, is missing."""
    kernels = (ternary_linear, rms_norm_quantize, decode_attention)
    if dtype not in _NAMES or not _functions() or not all(kernel.supports(dtype) for kernel in kernels):
        return None
    return _Kernels(*(kernel.address(dtype) for kernel in kernels))


class DecodingStep:
    """The step of a model's layers.

    Shape suffixes: B batch, E hidden size, F pairs of a head's dimensions, S slots of the cache.
    """

    def __init__(self, config: BitNetConfig, layers: nn.ModuleList) -> None:
        self.config, self.layers = config, layers
        # In the order of `Layer` in step.cpp.
        self._modules: list[nn.Module] = []
        for layer in layers:
            attention, feedforward = layer.get_submodule("attention"), layer.get_submodule("feedforward")
            self._modules += [layer.get_submodule("attention_norm"), attention.get_submodule("qkv")]
            self._modules += [attention.get_submodule("norm"), attention.get_submodule("output")]
            self._modules += [layer.get_submodule("feedforward_norm"), feedforward.get_submodule("gate_up")]
            self._modules += [feedforward.get_submodule("norm"), feedforward.get_submodule("down")]
        self.packed = all(isinstance(module, TernaryLinear | RMSNormQuantize) for module in self._modules)
        self._seen: list[tuple[Tensor, int]] = []  # weights and their versions, as they were
        self._read: list[Tensor] = []  # what is read in their place
        self._addresses: list[int] = []

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy of a model takes the addresses of its own weights.
        return DecodingStep, (self.config, self.layers)

    def suits(self, x_BTE: Tensor, *caches: StaticKVCache) -> bool:
        """Whether machine code may take this step: a token a row on a CPU, nothing to differentiate."""
        return (
            self.packed
            and x_BTE.shape[1] == 1
            and x_BTE.numel() > 0
            and type(x_BTE) is Tensor
            and x_BTE.is_cpu
            and all(cache.device.type == "cpu" and cache.dtype == x_BTE.dtype for cache in caches)
            and not (torch.is_grad_enabled() or torch.compiler.is_compiling() or dispatch.USE_REFERENCE)
            and _kernels(x_BTE.dtype) is not None
        )

    def __call__(self, x_B1E: Tensor, *caches: StaticKVCache) -> Tensor:
        """(B, 1, E) -> (B, 1, E), before the last norm; the rows are those of the caches, one after the other.

        Raises InputError when a cache is full, before any is written to; ValueError for a cache of another model.
        """
        c, weights = self.config, self._weights()
        for cache in caches:
            cache.require(1)
            keys_shape = (c.num_kv_heads, cache.max_length, c.head_dim)
            if cache.num_layers != c.num_layers or tuple(cache.slots(0)[0].shape[1:]) != keys_shape:
                raise ValueError("the cache is of a model of other sizes")
        rows_shape = (sum(cache.batch_size for cache in caches), 1, c.hidden_size)
        if tuple(x_B1E.shape) != rows_shape:
            raise ValueError(f"the step takes {list(rows_shape)} for these caches, not {list(x_B1E.shape)}")
        slots = _slots(caches, c.num_layers)
        rows, visible = _rows(caches)  # the second holds memory that the first points to
        positions_B = torch.cat([cache.num_valid_B for cache in caches])
        angles_BF = positions_B[:, None].float() * self.layers.get_buffer(
            "0.attention.rotary.inverse_frequency"
        )
        cosine_BF, sine_BF = angles_BF.cos(), angles_BF.sin()
        y_B1E = x_B1E.clone(memory_format=torch.contiguous_format)
        sizes = _Sizes(
            len(x_B1E), c.hidden_size, c.num_heads, c.num_kv_heads, c.head_dim, c.inner_size, c.num_layers,
            c.activation == "relu2", torch.get_num_threads(),
        )  # fmt: skip
        _functions()["run", x_B1E.dtype](
            sizes,
            _kernels(x_B1E.dtype),
            (ctypes.c_void_p * len(weights))(*weights),
            (ctypes.c_void_p * len(slots))(*slots),
            (ctypes.c_int64 * len(rows))(*rows),
            cosine_BF.data_ptr(),
            sine_BF.data_ptr(),
            c.norm_eps,
            y_B1E.data_ptr(),
        )
        del visible
        for cache in caches:
            cache.advance(torch.ones(cache.batch_size, 1, dtype=torch.bool), all_valid=True)
        return y_B1E

    def _weights(self) -> list[int]:
        """Addresses of all weights: of a norm its weight, of a map its packed matrix and the scale of every output."""
        seen = [
            (tensor, 0 if tensor.is_inference() else tensor._version)
            for module in self._modules
            for tensor in (*module._parameters.values(), *module._buffers.values())
            if tensor is not None
        ]
        known = len(seen) == len(self._seen) and all(
            a is b and version == other for (a, version), (b, other) in zip(seen, self._seen, strict=True)
        )
        if not known:
            self._read = [tensor for module in self._modules for tensor in _read(module)]
            self._seen = seen
            self._addresses = [tensor.data_ptr() for tensor in self._read]
        return self._addresses


def _rows(caches: Sequence[StaticKVCache]) -> tuple[list[int], list[Tensor]]:
    """`Row` of step.cpp for every row: slots that are filled, all slots, and where it stands which hold a token (0: all
    do); and the tensors in which that stands.
    """
    rows, kept = list[int](), list[Tensor]()
    for cache in caches:
        seen_BS, visible, stride = cache.valid_BS[:, : cache.length], 0, 0
        if not bool(seen_BS.all()):
            kept.append(nn.functional.pad(seen_BS, (0, 1), value=True))
            visible, stride = kept[-1].data_ptr(), kept[-1].stride(0)
        for row in range(cache.batch_size):
            rows += (cache.length, cache.max_length, visible + row * stride)
    return rows, kept


def _slots(caches: Sequence[StaticKVCache], num_layers: int) -> list[int]:
    """`Slots` of step.cpp: addresses of keys and values, by layer and row."""
    slots = list[int]()
    for layer in range(num_layers):
        for cache in caches:
            keys_BKSD, values_BKSD = cache.slots(layer)
            keys, values = keys_BKSD.data_ptr(), values_BKSD.data_ptr()
            size = keys_BKSD.stride(0) * keys_BKSD.element_size()
            for row in range(cache.batch_size):
                slots += (keys + row * size, values + row * size)
    return slots


def _read(module: nn.Module) -> tuple[Tensor, ...]:
    """The tensors of a module that the machine code reads. Raises ValueError for sizes that are not the module's."""
    if isinstance(module, TernaryLinear):
        packed, scale_O = module.packed.contiguous(), module.scale_of_outputs()
        shape = (sum(module.outputs), layout.packed_size(module.in_features))
        if tuple(packed.shape) != shape or packed.dtype != torch.uint8 or len(scale_O) != shape[0]:
            raise ValueError(
                f"packed weights are {packed.dtype} {list(packed.shape)}, expected {list(shape)}"
            )
        return packed, scale_O
    weight = module.get_parameter("weight").detach()
    return (weight.to(torch.float32).contiguous(),)

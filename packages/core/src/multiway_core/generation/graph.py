"""The decode step as a CUDA graph: one launch in the place of some hundred, each of which costs more than its work.

A graph repeats kernels on the same memory with the same shapes. So a step of fixed shape sees the first `width` slots
of a cache, filled or not, under a mask, and learns from the device which slot is its own. Widths are powers of two: a
sequence that grows is captured again a few times, and attention reads at most twice what it needs.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import BoolTensor, Tensor

from multiway_core.errors import InputError
from multiway_core.generation.cache import DecodeStep, StaticKVCache

_MIN_WIDTH = 128
_WARM_UPS = 2  # what is compiled, timed or allocated at first use must not be while a graph is captured


class FixedSlots(StaticKVCache):
    """The first `width` slots of a cache for steps of one token a row, which all have the same shapes.

    Written through to the cache, but for its `length`, which is a number of the host: the caller counts. ``slot`` ()
    int64 on the device says where the next token goes. Nothing here waits for the device.
    """

    def __init__(self, cache: StaticKVCache, width: int) -> None:
        rows = cache.batch_size
        self._keys = [keys[:rows, :, :width] for keys in cache._keys]
        self._values = [values[:rows, :, :width] for values in cache._values]
        for slots in (
            *self._keys,
            *self._values,
        ):  # what is masked is multiplied by 0, which leaves NaN what it is
            slots[:, :, cache.length :].zero_()
        self._valid = cache._valid[:rows, :width]
        self._num_valid = cache._num_valid[:rows]
        self.batch_size, self.max_length, self.length = rows, width, cache.length
        self.all_valid = False
        self.slot = torch.full((), cache.length, dtype=torch.long, device=cache.device)
        self._index_S = torch.arange(width, device=cache.device)

    @property
    def visible_BS(self) -> Tensor:
        """Bool (batch, width): what the next token sees, itself among it."""
        return self._valid | (self._index_S == self.slot)

    def require(self, tokens: int) -> None:
        """Raise InputError for more than one token a step; whether it fits, the caller has asked the cache."""
        if tokens != 1:
            raise InputError(f"a decoding step of fixed shape takes one token a row, not {tokens}")

    def update(self, layer: int, key_BHTD: Tensor, value_BHTD: Tensor) -> tuple[Tensor, Tensor]:
        """Write one slot of one layer; return all `width` of them, (batch, heads, width, head_dim)."""
        self.require(key_BHTD.shape[2])
        keys, values, index = self._keys[layer], self._values[layer], self.slot[None]
        keys.index_copy_(2, index, key_BHTD.to(keys.dtype))
        values.index_copy_(2, index, value_BHTD.to(values.dtype))
        return keys, values

    def advance(self, valid_BT: BoolTensor | Tensor, *, all_valid: bool = False) -> None:
        """Count the slot that every layer has just written."""
        self._valid.index_copy_(1, self.slot[None], valid_BT)
        self._num_valid.add_(valid_BT.sum(dim=1))


class _Captured(NamedTuple):
    tokens_B1: Tensor
    slots: FixedSlots
    logits: list[Tensor]
    replay: Callable[[], object]


def capture_cuda_graph(step: Callable[[], object]) -> Callable[[], object]:
    """Capture what ``step`` launches; the result launches it again, on the memory that it used."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


class GraphedDecode:
    """A model's decoding step (`DecodeStep`), captured for one sequence or batch at a time.

    Steps of several tokens, and caches of other kinds (states), go to the model as they are.

    Args:
        decode: the model's step, which must not wait for the device.
        capture: turns a function into one that repeats its kernels; another one in tests.
    """

    def __init__(
        self,
        decode: DecodeStep,
        capture: Callable[[Callable[[], object]], Callable[[], object]] = capture_cuda_graph,
    ) -> None:
        self._decode, self._capture = decode, capture
        self._cache: Callable[[], StaticKVCache | None] = lambda: None
        self._captured: dict[tuple[int, int, int], _Captured] = {}

    @torch.inference_mode()
    def __call__(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
        """As the model's `decode`: int64 (B, T) -> float logits (B, V). Raises InputError when the cache is full."""
        if tokens_BT.shape[1] != 1 or type(cache) is not StaticKVCache:
            return self._decode(tokens_BT, cache)
        cache.require(1)
        if cache is not self._cache():
            self._captured.clear()
            self._cache = weakref.ref(cache)
        width = min(cache.max_length, max(_MIN_WIDTH, 1 << cache.length.bit_length()))
        # Rows beyond what there was memory for move to new memory.
        key = (cache.batch_size, width, cache.valid_BS.data_ptr())
        if key not in self._captured:
            self._captured[key] = self._record(tokens_BT, FixedSlots(cache, width))
        step = self._captured[key]
        step.tokens_B1.copy_(tokens_BT)
        step.slots.slot.fill_(cache.length)
        step.replay()
        cache.length += 1
        return step.logits[0].clone()

    def _record(self, tokens_B1: Tensor, slots: FixedSlots) -> _Captured:
        tokens_B1 = tokens_B1.clone()
        logits: list[Tensor] = []

        def step() -> None:
            logits[:] = [self._decode(tokens_B1, slots)]

        num_valid_B = slots.num_valid_B.clone()
        for _ in range(_WARM_UPS):
            step()
        replay = self._capture(step)
        # Nothing was decoded yet.
        slots.num_valid_B.copy_(num_valid_B)
        slots.valid_BS.index_fill_(1, slots.slot[None], False)
        return _Captured(tokens_B1, slots, logits, replay)

"""Batches: where they come from, made one step ahead, and their way to the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import torch
from torch import Tensor


class BatchSource(Protocol):
    """Makes the batch of one shard of one step: a pure function of its arguments.

    It is called in a background thread, one step ahead; so it must not use a global random generator.
    """

    def __call__(self, step: int, shard: int, num_shards: int) -> Any: ...


class Prefetch:
    """This process's shards, step after step, made in a background thread one step ahead.

    pin: into page-locked memory, from which a GPU copies while it computes.
    """

    def __init__(
        self,
        source: BatchSource,
        shards: range,
        num_shards: int,
        *,
        first_step: int,
        steps: int,
        pin: bool = False,
    ) -> None:
        self.pin = pin
        self.source, self.shards, self.num_shards = source, shards, num_shards
        self.step, self.steps = first_step, steps

    def __enter__(self) -> Prefetch:
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self.pending = self.executor.submit(self._make, self.step)
        return self

    def __exit__(self, *exception: object) -> None:
        self.executor.shutdown(cancel_futures=True)

    def next(self) -> list[Any]:
        shards = self.pending.result()
        self.step += 1
        if self.step < self.steps:
            self.pending = self.executor.submit(self._make, self.step)
        return shards

    def _make(self, step: int) -> list[Any]:
        if step >= self.steps:
            return []
        batches = [self.source(step, shard, self.num_shards) for shard in self.shards]
        return _map_tensors(batches, Tensor.pin_memory) if self.pin else batches


def to_device(batch: Any, device: torch.device) -> Any:
    """Move every tensor of nested dicts, lists, tuples and dataclasses; anything else stays."""
    return _map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


def _map_tensors(batch: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {name: _map_tensors(item, function) for name, item in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_map_tensors(item, function) for item in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(_map_tensors(item, function) for item in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        fields = {
            f.name: _map_tensors(getattr(batch, f.name), function)
            for f in dataclasses.fields(batch)
            if f.init
        }
        return dataclasses.replace(batch, **fields)
    return batch

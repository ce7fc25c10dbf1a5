"""The model as the processes of a run hold it: whole, copied ("ddp"), or sharded ("fsdp").

PyTorch's own DistributedDataParallel and FSDP2 do the work. Both want to be entered through the `forward` of a module,
and an objective calls whatever it needs of a model; so what they wrap is a module around the model whose `forward`
calls a function with the model in it (`_Entry`). An objective may therefore use any method of the model. Only the
blocks (the items of the model's outermost `nn.ModuleList`s), which "fsdp" gathers one by one, must be entered through
their own `forward`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from multiway_core.training.config import TrainConfig
from multiway_core.training.distributed import World


class Replica:
    """A model in one process of a run.

    module: what is trained: the model itself, or with "fsdp" a sharded copy of it (`collect` brings the weights back,
        so that what the caller gave is never anything but a plain model).
    gradient_factor: both wrappers average gradients over the processes; times this they are the sum.
    """

    def __init__(self, model: nn.Module, world: World, config: TrainConfig) -> None:
        self.given: nn.Module = getattr(
            model, "_orig_mod", model
        )  # torch.compile's wrapper would prefix every name
        self.gradient_factor = float(world.size)
        if world.parallel == "fsdp":
            from multiway_core.training import sharding

            self.module: nn.Module = sharding.without_storage(self.given)
            self.entry: Any = _Entry(self.module)
            sharding.shard(self.entry, self.given, world, config)
        else:
            self.module, self.entry = self.given, _Entry(model.to(world.device))
        self.train_entry: Any = self.entry
        if world.parallel == "ddp":
            # Buffers (such as BatchNorm's) stay each process's own, and the first process's are saved.
            for tensor in (*self.module.parameters(), *self.module.buffers()):
                dist.broadcast(tensor.detach(), src=0)
            self.train_entry = DistributedDataParallel(
                self.entry,
                init_sync=False,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
                find_unused_parameters=True,  # parameters that only some shards use count as zero in the others
            )
        if config.activation_checkpointing:
            for block in blocks_of(self.module):
                block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)

    def train(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(model, *arguments)`, whose result a backward pass is made from."""
        return self.train_entry(function, *arguments)

    def accumulate(self, is_last: bool) -> AbstractContextManager[Any]:
        """Around the forward and backward pass of a shard: processes exchange gradients in the last one.

        ("fsdp" exchanges them in each, so that no process ever holds them all.)
        """
        if isinstance(self.train_entry, DistributedDataParallel) and not is_last:
            return self.train_entry.no_sync()
        return nullcontext()

    @torch.no_grad()
    def evaluate(self, function: Callable[[nn.Module], Any]) -> Any:
        """`function(model)` in evaluation mode; every process calls it."""
        self.module.eval()
        try:
            return self.entry(function)
        finally:
            if self.module is not self.given:
                self.entry.reshard()  # or the next step would find what is gathered now, in place of its own weights

    @torch.no_grad()
    def collect(self) -> None:
        """Leave the weights in the model that was given, one tensor at a time; every process calls it."""
        if self.module is not self.given:
            targets = tensors_of(self.given)
            for name, tensor in tensors_of(self.module).items():
                full = whole(tensor)
                if not targets[name].is_meta:
                    targets[name].copy_(full)


class _Entry(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(self.model, *arguments)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The items of the outermost `nn.ModuleList`s, a shared one once. (A list has no forward, its items have.)"""
    containers = nn.ModuleList | nn.ModuleDict

    def found(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if isinstance(module, nn.ModuleList) and not isinstance(child, containers):
                yield child
            else:
                yield from found(child)

    return list(dict.fromkeys(found(model)))


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, a shared one once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor, whose class takes seconds to import."""
    return hasattr(tensor, "full_tensor")


def local(tensor: Any) -> Tensor:
    """This process's part of a tensor (all of it, when it is not sharded); writes go through."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def whole(tensor: Any) -> Tensor:
    """The full tensor; with "fsdp" every process must call it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor

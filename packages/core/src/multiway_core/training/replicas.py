"""The model as the processes of a run hold it: whole, copied ("ddp"), or sharded ("fsdp").

PyTorch's own DistributedDataParallel and FSDP2 do the work. Both want to be entered through the `forward` of a module,
and an objective calls whatever it needs of a model; so what they wrap is a module around the model whose `forward`
calls a function with the model in it (`_Entry`). An objective may therefore use any method of the model. Only the
blocks (the items of the model's outermost `nn.ModuleList`s), which "fsdp" gathers one by one, must be entered through
their own `forward`.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
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
            self.module: nn.Module = _without_storage(self.given)
            self.entry: nn.Module = _Entry(self.module)
            _shard(self.entry, self.given, world, config)
        else:
            self.module, self.entry = self.given, _Entry(model.to(world.device))
        self.train_entry: nn.Module = self.entry
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
            if isinstance(self.entry, FSDPModule):
                self.entry.reshard()  # or the next step would find what is gathered now, in place of its own weights

    @torch.no_grad()
    def collect(self) -> None:
        """Leave the weights in the model that was given, one tensor at a time; every process calls it."""
        if self.module is not self.given:
            targets = _tensors(self.given)
            for name, tensor in _tensors(self.module).items():
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


def _shard(entry: nn.Module, given: nn.Module, world: World, config: TrainConfig) -> None:
    """Shard a module without storage, and give it the first process's weights, one tensor at a time.

    With "bf16" blocks are gathered in bfloat16, and gradients summed in float32. What lies outside of them (embeddings,
    final norm, head) stays in its own dtype, and so does the residual stream, as autocast has it in one process.
    """
    mesh = init_device_mesh(world.device.type, (world.size,))
    policy = MixedPrecisionPolicy()
    if config.precision == "bf16":
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for block in blocks_of(entry):
        fully_shard(block, mesh=mesh, mp_policy=policy)
        if config.precision == "bf16" and world.device.type == "cpu":
            for norm in block.modules():
                if isinstance(norm, nn.LayerNorm | nn.GroupNorm):
                    norm.register_forward_pre_hook(_input_as_weight)
    fully_shard(entry, mesh=mesh)
    entry.to_empty(device=world.device)
    sources = _tensors(given)
    with torch.no_grad():
        for name, target in _tensors(entry.get_submodule("model")).items():
            full = torch.empty(target.shape, dtype=target.dtype, device=world.device)
            if world.is_main:
                full.copy_(sources[name])
            dist.broadcast(full, src=0)
            set_local(target, full)


def _input_as_weight(norm: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
    # A GPU's autocast brings both to float32; a CPU's leaves them apart, and the operation refuses that.
    weight = norm.weight
    return (arguments[0].to(weight.dtype) if isinstance(weight, Tensor) else arguments[0],)


def _without_storage(model: nn.Module) -> nn.Module:
    """A copy on the meta device: the same modules with the same names."""
    memo: dict[int, Any] = {}
    for tensor in _tensors(model).values():
        empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        if isinstance(tensor, nn.Parameter):
            empty = nn.Parameter(empty, tensor.requires_grad)
        memo[id(tensor)] = empty
    return copy.deepcopy(model, memo)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, a shared one once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor (all of it, when it is not sharded); writes go through."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The full tensor; with "fsdp" every process must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def set_local(target: Tensor, full: Tensor) -> None:
    """Copy this process's part of `full`, which all processes hold, into `target`."""
    if isinstance(target, DTensor):
        parts = distribute_tensor(full, target.device_mesh, target.placements, src_data_rank=None)
        local(target).copy_(local(parts))
    else:
        target.copy_(full)

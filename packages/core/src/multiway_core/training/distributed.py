"""One process or many: who this process is, what all of them agree on, and how the model is spread over them.

"ddp" keeps a whole copy of the model in every process and adds the gradients up after the backward pass. It
needs no wrapper, so an objective may call any method of the model. "fsdp" (FSDP2, `fully_shard`) spreads
parameters, gradients and optimizer state; an objective must then enter the model through `forward`, or
through methods announced with `torch.distributed.fsdp.register_fsdp_forward_method`, and the shards of a step
must use the same parameters.

What is exact: the shards of a step and all randomness in them are the same however many processes there are;
only the order in which gradients are added can differ. Two processes add as one process with accumulation 2
does (in fp32 on one kind of CPU the weights are the same bit for bit); more processes agree up to rounding.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from multiway_core.errors import ConfigError
from multiway_core.training.config import Parallel

Value = TypeVar("Value")


class World:
    """The processes of a run. With `parallel="none"` every operation is the identity."""

    def __init__(self, parallel: Parallel, device: str | torch.device) -> None:
        self.parallel = parallel
        self.device = torch.device(device)
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if parallel == "none":
            if started > 1:
                raise ConfigError(
                    f"torchrun started {started} processes, training parallel must be 'ddp' or 'fsdp'"
                )
            self.rank, self.size = 0, 1
            return
        if "RANK" not in os.environ:
            raise ConfigError(
                f"training parallel {parallel!r} needs torchrun: torchrun --nproc-per-node N ..."
            )
        if self.device.type == "cuda":
            self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(self.device)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            atexit.register(_leave)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def spread(self, model: nn.Module) -> None:
        """Give every process the first one's weights; with "fsdp" shard them, in place.

        Shards are the items of the model's `nn.ModuleList`s (its blocks) and the rest. A model that the
        caller has sharded already is left as it is. Weights travel in their own dtype and autocast casts them
        where it would in one process, so that a sharded run computes the same numbers.
        """
        if self.parallel == "none" or isinstance(model, FSDPModule):
            return
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor.detach(), src=0)
        if self.parallel == "fsdp":
            mesh = init_device_mesh(self.device.type, (self.size,))
            lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
            # A shared block once; a list in a list has no forward of its own, only its items have.
            shared = dict.fromkeys(block for items in lists for block in items)
            blocks = [block for block in shared if not isinstance(block, nn.ModuleList | nn.ModuleDict)]
            for module in (*reversed(blocks), model):  # inner before outer
                fully_shard(module, mesh=mesh)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make every gradient the sum over the processes ("fsdp" has averaged them in the backward pass)."""
        if self.parallel == "fsdp":
            gradients = [local(p.grad) for p in parameters if p.grad is not None]
            if gradients:
                torch._foreach_mul_(gradients, float(self.size))
        if self.parallel != "ddp":
            return
        # A parameter that only some processes used counts as zero in the others; one that none used stays
        # without a gradient, as in one process.
        parameters = list(parameters)
        used = torch.tensor([p.grad is not None for p in parameters], dtype=torch.uint8, device=self.device)
        dist.all_reduce(used, op=dist.ReduceOp.MAX)
        for parameter, is_used in zip(parameters, used.tolist(), strict=True):
            if is_used and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets([p.grad for p in parameters if p.grad is not None]):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat)
            sizes = [gradient.numel() for gradient in bucket]
            for gradient, piece in zip(bucket, flat.split(sizes), strict=True):
                gradient.copy_(piece.view_as(gradient))

    def barrier(self) -> None:
        """Wait for all processes."""
        self.gather(None)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process does the block before the others, which find the files that it made."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def from_main(self, value: Value) -> Value:
        """The main process's value, in every process."""
        if self.size == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Value) -> list[Value]:
        """Every process's value, in every process."""
        if self.size == 1:
            return [value]
        box: list[Any] = [None] * self.size
        dist.all_gather_object(box, value)
        return box


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor (all of it, when it is not spread); writes go through."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The full tensor; with "fsdp" every process must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _buckets(gradients: list[Tensor], max_elements: int = 8_000_000) -> Iterable[list[Tensor]]:
    """Groups of one dtype and about 32 MB (fp32), to send few large messages instead of many small ones."""
    bucket: list[Tensor] = []
    for gradient in sorted(gradients, key=lambda gradient: str(gradient.dtype)):
        full = sum(item.numel() for item in bucket) + gradient.numel() > max_elements
        if bucket and (full or bucket[0].dtype != gradient.dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket


def _leave() -> None:
    """Give the group back before the interpreter ends."""
    if dist.is_initialized():
        dist.destroy_process_group()
        # Gloo's threads outlive the group, which FSDP's meshes keep. One that still has tensors of the last collective
        # to free needs the interpreter's lock; it would abort a process that is on its way out.
        time.sleep(0.2)

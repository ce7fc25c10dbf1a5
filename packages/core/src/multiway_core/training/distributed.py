"""The processes of a run: who this one is, and what all of them agree on.

The shards of a step and all randomness in them are the same however many processes there are; only the order in which
gradients are added can differ. Two processes add as one process with accumulation 2 does (in fp32 on one kind of CPU
the weights are the same bit for bit); more processes agree up to rounding.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from multiway_core.errors import ConfigError
from multiway_core.training.config import Parallel

Value = TypeVar("Value")
_PREPARATION = timedelta(days=1)


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
        # Data may take the main process hours to prepare; a step that takes so long is a fault.
        self.patient = dist.new_group(backend="gloo", timeout=_PREPARATION)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all processes, for a day at most."""
        if self.size > 1:
            dist.barrier(self.patient)

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


def _leave() -> None:
    """Give the group back before the interpreter ends."""
    if dist.is_initialized():
        dist.destroy_process_group()
        # Gloo's threads outlive the group, which FSDP's meshes keep. One that still has tensors of the last collective
        # to free needs the interpreter's lock; it would abort a process that is on its way out.
        time.sleep(0.2)

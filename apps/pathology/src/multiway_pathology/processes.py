"""One slide over several processes (LongNet, section 3): `torchrun --nproc-per-node 2 -m multiway_pathology ...`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from multiway_vision_language.longvit.model import LongViT


@contextmanager
def split_over_processes(model: LongViT) -> Iterator[bool]:
    """Let the processes of torchrun, if there are some, share the sequence; whether this one is to speak."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    dist.init_process_group("gloo")
    try:
        model.split_sequence(dist.group.WORLD)
        yield dist.get_rank() == 0
    finally:
        model.split_sequence(None)
        dist.destroy_process_group()

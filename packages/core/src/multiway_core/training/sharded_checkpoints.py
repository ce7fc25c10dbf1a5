"""The tensors of an "fsdp" checkpoint: a file for each process, through `torch.distributed.checkpoint`.

Apart from `checkpoints.py`, and imported only where such files are, because that module takes seconds to import.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException


def write(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors, each process its own parts. Every process calls it. Raises OSError."""
    with _os_errors():
        writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
        dcp.save(_detached(tensors), storage_writer=writer)


def read_into(folder: Path, tensors: Mapping[str, Tensor], *, spread: bool) -> None:
    """Copy the files' tensors into `tensors`; `spread`: they are sharded, and every process calls it.

    Raises OSError, SafetensorError.
    """
    with _os_errors(), warnings.catch_warnings():  # that there is one process is known
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        reader = dcp.HuggingFaceStorageReader(str(folder))
        dcp.load(_detached(tensors), storage_reader=reader, no_dist=not spread)


def shapes_in(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the whole tensors by name. Raises OSError, SafetensorError."""
    entries = dcp.HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: tuple(entry.size) for name, entry in entries.items()}  # type: ignore[union-attr]


def _detached(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in tensors.items()}


@contextmanager
def _os_errors() -> Iterator[None]:
    try:
        yield
    except CheckpointException as error:  # str() of it holds every process's traceback
        raise OSError("; ".join(str(failure[0]) for failure in error.failures.values())) from error

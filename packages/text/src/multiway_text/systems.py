"""The systems of this package that a checkpoint can be of: which module reads it, and which configuration trains.

A system is added with one line in ``SYSTEMS``. Its module has ``load(path, *, dtype, device)`` and its networks are
:class:`~multiway_text.causal_lm.CausalLM`, or offer the same calls (:class:`Network`).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from multiway_core import config
from multiway_core.errors import CheckpointError
from multiway_core.generation import StaticKVCache
from torch import Tensor

from multiway_text import gguf


class Network(Protocol):
    """What a language model is used through. Shapes: see :class:`multiway_text.causal_lm.CausalLM`."""

    def hidden(self, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor: ...
    def logits(self, hidden: Tensor) -> Tensor: ...
    def new_cache(self, batch_size: int, max_length: int) -> StaticKVCache: ...
    def prefill(self, tokens_BT: Tensor, cache: StaticKVCache, valid_BT: Tensor | None = None) -> Tensor: ...
    def decode(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor: ...


@dataclass(frozen=True)
class System:
    """One system.

    Attributes:
        model_type: what ``config.json`` calls it.
        module: its checkpoint module, imported when it is needed.
        gguf: how the architecture's name in a GGUF file begins, where that is read.
        pads: batches of unequal rows may be padded on the left.
    """

    model_type: str
    module: str
    gguf: str | None = None
    pads: bool = True

    def load(self, path: Path, *, dtype: torch.dtype, device: torch.device | str) -> Any:
        """The network, in evaluation mode. Raises CheckpointError, ConfigError."""
        return importlib.import_module(self.module).load(path, dtype=dtype, device=device)


SYSTEMS = (
    System("bitnet", "multiway_text.bitnet.checkpoint", gguf="bitnet"),
    System("llama", "multiway_text.llama.checkpoint", gguf="llama"),
)


def registered() -> dict[str, System]:
    """The systems by model type."""
    return {system.model_type: system for system in SYSTEMS}


def find(path: Path) -> tuple[System, Path, gguf.GGUFFile | None]:
    """The system of a checkpoint, the path its module reads, and the open GGUF file if it is one.

    ``path``: a folder with ``config.json``, a folder with one GGUF file, or a GGUF file. Raises CheckpointError.
    """
    path = Path(path)
    if path.is_dir() and not (path / "config.json").is_file():
        files = sorted(path.glob("*.gguf"))
        if not files:
            raise CheckpointError(f"{path}: neither a config.json nor a GGUF file is in it")
        if len(files) > 1:
            names = ", ".join(file.name for file in files[:4])
            raise CheckpointError(f"{path}: holds several GGUF files ({names}): name one")
        path = files[0]
    if path.is_file() and path.suffix == ".gguf":
        file = gguf.read(path)
        architecture = file.get("general.architecture", str)
        for system in SYSTEMS:
            if system.gguf is not None and architecture.startswith(system.gguf):
                return system, path, file
        raise CheckpointError(f"{path}: its architecture is {architecture!r}; {_known(gguf_only=True)}")
    if path.is_file():
        raise CheckpointError(f"{path}: expected a folder with config.json, or a .gguf file")
    model_type = config.read_json(path / "config.json").get("model_type")
    system = registered().get(model_type) if isinstance(model_type, str) else None
    if system is None:
        raise CheckpointError(f"{path / 'config.json'}: model_type is {model_type!r}; {_known()}")
    return system, path, None


def _known(gguf_only: bool = False) -> str:
    names = [s.gguf if gguf_only else s.model_type for s in SYSTEMS if not gguf_only or s.gguf]
    return f"known are {', '.join(sorted(filter(None, names)))}"

"""The systems of this package that a checkpoint can be of: which module reads it, and which configuration trains.

A system is added with one entry in ``SYSTEMS``. Its ``checkpoint`` has ``load(path, *, dtype, device)`` and
``save(model, folder)``, its ``config.json`` a ``model_type``, and its networks are
:class:`~multiway_text.causal_lm.CausalLM` or offer the same calls (:class:`Network`).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from multiway_core import config
from multiway_core.errors import CheckpointError, InputError
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_text import gguf
from multiway_text.tokenizer import TextTokenizer


class Network(Protocol):
    """What a language model is used through. Shapes: see :class:`multiway_text.causal_lm.CausalLM`."""

    def hidden(self, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor: ...
    def logits(self, hidden: Tensor) -> Tensor: ...
    def new_cache(self, batch_size: int, max_length: int) -> StaticKVCache: ...
    def prefill(self, tokens_BT: Tensor, cache: StaticKVCache, valid_BT: Tensor | None = None) -> Tensor: ...
    def decode(self, tokens_BT: Tensor, cache: StaticKVCache) -> Tensor: ...


SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 128, "num_layers": 4, "num_heads": 4},
    "small": {"hidden_size": 256, "num_layers": 6, "num_heads": 4},
    "medium": {"hidden_size": 512, "num_layers": 8, "num_heads": 8},
}
"""Sizes to train from nothing on a small machine: about 1, 5 and 27 million parameters beside the embedding."""


HEAD = object()
"""In ``System.extra``: the width of a head."""


@dataclass(frozen=True)
class System:
    """One system.

    Attributes:
        model_type: what ``config.json`` calls it.
        folder: its module, with ``checkpoint`` (load, save), ``config`` and ``model``.
        classes: the configuration's class and the network's, to build new ones.
        gguf: how the architecture's name in a GGUF file begins, where that is read.
        pads: batches of unequal rows may be padded on the left.
        ternary: runs packed, and trains with master weights (``packed=False``).
        positions: the configuration's field for the longest sequence, if it has one.
        extra: further fields of its configuration, as multiples of ``hidden_size`` (float) or as they are (int).
    """

    model_type: str
    folder: str
    classes: tuple[str, str]
    gguf: str | None = None
    pads: bool = True
    ternary: bool = False
    positions: str | None = "max_positions"
    extra: tuple[tuple[str, Any], ...] = ()

    def load(self, path: Path, *, dtype: torch.dtype, device: torch.device | str) -> Any:
        """The network, in evaluation mode. Raises CheckpointError, ConfigError."""
        return self._module("checkpoint").load(path, dtype=dtype, device=device)

    def load_to_train(self, path: Path) -> Any:
        """The network in float32 with weights that learn. Raises CheckpointError."""
        more = {"packed": False} if self.ternary else {}
        return self._module("checkpoint").load(path, dtype=torch.float32, **more)

    def save_trained(self, model: Any, folder: Path) -> None:
        """Write what was trained; of a ternary system with packed weights, which is what runs. Raises OutputError."""
        self._module("checkpoint").save(model, folder)

    def new(self, size: str, vocab_size: int, max_positions: int) -> Any:
        """A network with random weights, to be trained. Raises InputError for an unknown size."""
        if size not in SIZES:
            raise InputError(f"size {size!r} is unknown; known are {', '.join(SIZES)}")
        values: dict[str, Any] = {**SIZES[size], "vocab_size": vocab_size, "tied_embeddings": True}
        for name, value in self.extra:
            if value is HEAD:
                value = values["hidden_size"] // values["num_heads"]
            values[name] = int(value * values["hidden_size"]) if isinstance(value, float) else value
        if self.positions is not None:
            values[self.positions] = max_positions
        config_class = getattr(self._module("config"), self.classes[0])
        network = getattr(self._module("model"), self.classes[1])
        model = network(config_class(**values), **({"packed": False} if self.ternary else {}))
        # Of a tied matrix: torch's own 1 would make every first prediction extreme.
        nn.init.normal_(model.embedding.weight, std=values["hidden_size"] ** -0.5)
        return model

    def _module(self, name: str) -> Any:
        return importlib.import_module(f"{self.folder}.{name}")


SYSTEMS = (
    System(
        "bitnet",
        "multiway_text.bitnet",
        ("BitNetConfig", "BitNet"),
        gguf="bitnet",
        ternary=True,
        extra=(("num_kv_heads", 2), ("inner_size", 3.0)),
    ),
    System(
        "llama",
        "multiway_text.llama",
        ("LlamaConfig", "Llama"),
        gguf="llama",
        extra=(("num_kv_heads", 2), ("inner_size", 3.0), ("head_dim", HEAD)),
    ),
)


def registered() -> dict[str, System]:
    """The systems by model type."""
    return {system.model_type: system for system in SYSTEMS}


def named(model_type: str) -> System:
    """A system by model type. Raises InputError."""
    if model_type not in registered():
        raise InputError(f"system {model_type!r} is unknown; known are {', '.join(sorted(registered()))}")
    return registered()[model_type]


def tokenizer_of(path: Path) -> TextTokenizer:
    """The tokenizer beside or inside a checkpoint. Raises CheckpointError."""
    _, path, file = find(path)
    if file is not None and "tokenizer.ggml.tokens" in file.metadata:
        return TextTokenizer.from_gguf(file)
    return TextTokenizer.from_file(path if path.is_dir() else path.parent)


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

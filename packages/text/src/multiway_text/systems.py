"""The systems of this package that a checkpoint can be of: which module reads it, and which configuration trains.

A system is added with one entry in ``SYSTEMS``. Its ``checkpoint`` has ``load(path, *, dtype, device)`` and
``save(model, folder)``, and its networks are :class:`~multiway_blocks.text_decoder.CausalLM` or offer the same calls
(:class:`Network`).
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from multiway_core import config, files
from multiway_core.errors import CheckpointError, InputError
from multiway_core.generation import StaticKVCache
from multiway_core.tokenization import TextTokenizer
from torch import Tensor, nn

from multiway_text import gguf, gguf_tokenizer


class Network(Protocol):
    """What a language model is used through. Shapes: see :class:`multiway_blocks.text_decoder.CausalLM`."""

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


CONFIG_FILE, MARKER_FILE = "config.json", "system.json"
"""The hub's; and ours, which names the system where its own files do not."""

HEAD, HEADS = object(), object()
"""In ``System.extra``: the width of a head, and their number."""


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
        extra: further fields of its configuration: multiples of ``hidden_size`` (float), else as they are.
        config_file: what the published layout has in place of ``config.json``.
        runs_integers: what a GGUF file holds in blocks of integers runs in a byte a weight where no dtype is asked for.
        objective: "module:function" of a loss of its own: (model, tokens (B, T)) -> with ``total``, ``num_tokens``.
    """

    model_type: str
    folder: str
    classes: tuple[str, str]
    gguf: str | None = None
    pads: bool = True
    ternary: bool = False
    positions: str | None = "max_positions"
    extra: tuple[tuple[str, Any], ...] = ()
    config_file: str | None = None
    objective: str | None = None
    runs_integers: bool = False

    def load(self, path: Path, *, dtype: torch.dtype | None, device: torch.device | str) -> Any:
        """The network, in evaluation mode; ``dtype`` None only with ``runs_integers``.

        Raises CheckpointError, ConfigError.
        """
        return self._module("checkpoint").load(path, dtype=dtype, device=device)

    def load_to_train(self, path: Path) -> Any:
        """The network in float32 with weights that learn. Raises CheckpointError."""
        more = {"packed": False} if self.ternary else {}
        return self._module("checkpoint").load(path, dtype=torch.float32, **more)

    def save_trained(self, model: Any, folder: Path) -> None:
        """Write what was trained; of a ternary system with packed weights, which is what runs. Raises OutputError."""
        self._module("checkpoint").save(model, folder)
        path = folder / CONFIG_FILE
        if not path.is_file() or "model_type" not in config.read_json(path):
            files.write_text(folder / MARKER_FILE, json.dumps({"model_type": self.model_type}) + "\n")

    def new(self, size: str, vocab_size: int, max_positions: int) -> Any:
        """A network with random weights, to be trained. Raises InputError for an unknown size."""
        if size not in SIZES:
            raise InputError(f"size {size!r} is unknown; known are {', '.join(SIZES)}")
        values: dict[str, Any] = {**SIZES[size], "vocab_size": vocab_size, "tied_embeddings": True}
        for name, value in self.extra:
            if value in (HEAD, HEADS):
                heads = values["num_heads"]
                value = heads if value is HEADS else values["hidden_size"] // heads
            values[name] = int(value * values["hidden_size"]) if isinstance(value, float) else value
        if self.positions is not None:
            values[self.positions] = max_positions
        config_class = getattr(self._module("config"), self.classes[0])
        network = getattr(self._module("model"), self.classes[1])
        model = network(config_class(**values), **({"packed": False} if self.ternary else {}))
        # Of a tied matrix: with torch's own deviation of 1 every first prediction would be extreme.
        nn.init.normal_(model.embedding.weight, std=model.embedding_std)
        return model

    def loss(self) -> Any:
        """The system's own training loss; None where plain next-token cross-entropy is all."""
        if self.objective is None:
            return None
        module, _, function = self.objective.partition(":")
        return getattr(importlib.import_module(module), function)

    def _module(self, name: str) -> Any:
        return importlib.import_module(f"{self.folder}.{name}")


SYSTEMS = (
    System(
        "bitnet",
        "multiway_text.decoders.bitnet",
        ("BitNetConfig", "BitNet"),
        gguf="bitnet",
        ternary=True,
        extra=(("num_kv_heads", 2), ("inner_size", 3.0)),
    ),
    System(
        "llama",
        "multiway_text.decoders.llama",
        ("LlamaConfig", "Llama"),
        gguf="llama",
        runs_integers=True,
        extra=(("num_kv_heads", 2), ("inner_size", 3.0), ("head_dim", HEAD)),
    ),
    System(
        "retnet",
        "multiway_text.decoders.retnet",
        ("RetNetConfig", "RetNet"),
        positions=None,
        extra=(("value_size", 1.5), ("inner_size", 1.5)),
    ),
    System(
        "magneto",
        "multiway_text.decoders.magneto",
        ("MagnetoConfig", "Magneto"),
        positions="trained_length",
        extra=(("inner_size", 4.0),),
    ),
    System(
        "yoco",
        "multiway_text.decoders.yoco",
        ("YocoConfig", "Yoco"),
        extra=(("num_self_heads", HEADS), ("num_kv_heads", 2), ("inner_size", 3.0)),
        config_file="params.json",
    ),
    System(
        "longnet",
        "multiway_text.decoders.longnet",
        ("LongNetConfig", "LongNet"),
        extra=(("inner_size", 4.0), ("segment_lengths", (64, 256, 1024)), ("dilations", (1, 2, 4))),
    ),
    System(
        "mh_moe",
        "multiway_text.decoders.mh_moe",
        ("MHMoEConfig", "MHMoE"),
        positions=None,
        extra=(("inner_size", 3.0), ("expert_size", 1.5), ("split_heads", 2), ("experts_per_token", 2)),
        objective="multiway_text.decoders.mh_moe.objective:language_loss",
    ),
)


def registered() -> dict[str, System]:
    """The systems by model type, as far as their folders are there."""
    return {system.model_type: system for system in SYSTEMS if importlib.util.find_spec(system.folder)}


def named(model_type: str) -> System:
    """A system by model type. Raises InputError."""
    if model_type not in registered():
        raise InputError(f"arch {model_type!r} is unknown; known are {', '.join(sorted(registered()))}")
    return registered()[model_type]


def tokenizer_of(path: Path) -> TextTokenizer:
    """The tokenizer beside or inside a checkpoint. Raises CheckpointError."""
    _, path, file = find(path)
    if file is not None and "tokenizer.ggml.tokens" in file.metadata:
        return gguf_tokenizer.read(file)
    return TextTokenizer.from_folder(path if path.is_dir() else path.parent)


def find(path: Path) -> tuple[System, Path, gguf.GGUFFile | None]:
    """The system of a checkpoint, the path its module reads, and the open GGUF file if it is one.

    ``path``: a folder with ``config.json``, a folder with one GGUF file, or a GGUF file. Raises CheckpointError.
    """
    path = Path(path)
    if path.is_dir() and (named_by := _named_by(path)) is not None:
        return named_by, path, None
    if path.is_dir() and not (path / CONFIG_FILE).is_file():
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
    model_type = config.read_json(path / CONFIG_FILE).get("model_type")
    known = registered()
    if not isinstance(model_type, str) or model_type not in known:
        raise CheckpointError(f"{path / 'config.json'}: model_type is {model_type!r}; {_known()}")
    return known[model_type], path, None


def _named_by(folder: Path) -> System | None:
    """The system of a folder that says it otherwise than by ``config.json``: a marker of ours, or its own file."""
    marker = folder / MARKER_FILE
    if marker.is_file():
        model_type = config.read_json(marker).get("model_type")
        if model_type not in registered():
            raise CheckpointError(f"{marker}: model_type is {model_type!r}; {_known()}")
        return registered()[model_type]
    for system in registered().values():
        if system.config_file is not None and (folder / system.config_file).is_file():
            return system
    return None


def _known(gguf_only: bool = False) -> str:
    there = registered().values()
    names = [s.gguf if gguf_only else s.model_type for s in there if not gguf_only or s.gguf]
    return f"known are {', '.join(sorted(filter(None, names)))}"

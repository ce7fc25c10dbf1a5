"""Folders with TorchScale's flags in ``config.json`` and its tensor names in the checkpoint beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from multiway_core import checkpoint, config, files
from multiway_core.checkpoint import RuleTable
from multiway_core.errors import CheckpointError

from multiway_text.checkpoint_files import check_layers

Model = TypeVar("Model", bound=torch.nn.Module)


@dataclass(frozen=True)
class TorchScaleLayout(Generic[Model]):
    """How a network's folder is written.

    Attributes:
        model_type: what ``config.json`` says it is.
        config_class, model_class: of ours; the model takes the configuration.
        rules: tensor names, theirs and ours.
        keys: flag -> our field; flags that are absent keep our default.
        only: flags that mean another network unless they have this value (or are absent).
    """

    model_type: str
    config_class: type
    model_class: Callable[[Any], Model]
    rules: RuleTable
    keys: Mapping[str, str]
    only: Mapping[str, Any]

    def load(
        self, path: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Model:
        """The model in a folder with ``config.json`` and a checkpoint, in evaluation mode. Raises CheckpointError."""
        path = Path(path)
        own: Any = config.from_dict(self.config_class, self._read_flags(path), where=f"{path}/config.json")
        check_layers(path, own.num_layers, checkpoint.read(path))
        with checkpoint.on_meta():
            model = self.model_class(own)
        checkpoint.load(model, path, rules=self.rules, dtype=dtype, device=device)
        return model.to(device).eval()

    def save(self, model: Model, folder: Path, *, dtype: torch.dtype | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors``. Raises OutputError."""
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.save(model, folder, rules=self.rules, dtype=dtype)
        values = config.to_dict(model.config)
        flags = {flag: values[name] for flag, name in self.keys.items()}
        content = {"model_type": self.model_type, **flags, **self.only}
        files.write_text(folder / "config.json", json.dumps(content, indent=2) + "\n")

    def _read_flags(self, folder: Path) -> dict[str, Any]:
        """Our fields from ``config.json``. Raises CheckpointError, ConfigError for what is not JSON."""
        where = folder / "config.json"
        published = config.read_json(where)
        if published.get("model_type") != self.model_type:
            raise CheckpointError(
                f"{where}: model_type is {published.get('model_type')!r}, expected {self.model_type!r}"
            )
        for flag, value in self.only.items():
            if published.get(flag, value) != value:
                raise CheckpointError(
                    f"{where}: {flag} is {published[flag]!r}, and only {value!r} is supported"
                )
        return {name: published[flag] for flag, name in self.keys.items() if flag in published}

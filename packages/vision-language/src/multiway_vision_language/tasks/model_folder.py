"""Model folders of BEiT-3, VLMo and DiDE with the head of one task: `config.json`, tensors, the tokenizer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from multiway_core import checkpoint, config, files
from multiway_core.errors import CheckpointError, ConfigError, InputError
from multiway_core.tokenization import TextTokenizer
from torch import nn

from multiway_vision_language.beit3 import checkpoint as beit3_checkpoint
from multiway_vision_language.beit3.config import PRESETS as BEIT3
from multiway_vision_language.dide.config import PRESETS as DIDE
from multiway_vision_language.dide.model import DiDE, DiDEForRetrieval
from multiway_vision_language.multiway.config import MultiwayConfig
from multiway_vision_language.multiway.fusion import FusionClassifier
from multiway_vision_language.multiway.tasks import Task
from multiway_vision_language.multiway.text_first import TextFirstConfig
from multiway_vision_language.tasks.processor import PairProcessor
from multiway_vision_language.vlmo.config import PRESETS as VLMO
from multiway_vision_language.vlmo.model import VLMoForRetrieval

Arch = Literal["beit3", "vlmo", "vilt", "dide"]
"""``vilt`` is the fusion encoder that teaches ``dide``."""
SIZES: dict[Arch, dict[str, Any]] = {
    "beit3": dict(BEIT3),
    "vlmo": dict(VLMO),
    "vilt": dict(DIDE),
    "dide": dict(DIDE),
}
HEADS: dict[Arch, tuple[Task, ...]] = {
    "beit3": ("retrieval", "vqa", "nlvr2", "caption", "imagenet"),
    "vlmo": ("retrieval", "vqa", "nlvr2"),
    "vilt": ("vqa", "nlvr2"),
    "dide": ("retrieval", "vqa", "nlvr2"),
}
MODEL_TYPE = "multiway"
_SHAPES: dict[Arch, type] = {
    "beit3": MultiwayConfig, "vlmo": TextFirstConfig, "vilt": TextFirstConfig, "dide": TextFirstConfig,
}  # fmt: skip


@dataclass(frozen=True)
class HeadedModel:
    """A network with what it needs to be used: its task, the labels of its head, and its processor."""

    arch: Arch
    task: Task
    network: Any
    processor: PairProcessor
    labels: tuple[str, ...] = ()


def new_network(arch: Arch, task: Task, sizes: Any, labels: int) -> nn.Module:
    """The network of an architecture for a task. Raises ConfigError: it has no head for that."""
    if task not in HEADS[arch]:
        fitting = ", ".join(name for name, tasks in HEADS.items() if task in tasks)
        raise ConfigError(f"{arch} has heads for {', '.join(HEADS[arch])}; {task} is for {fitting}")
    if arch == "beit3":
        return beit3_checkpoint.new_model(sizes, task, labels)
    if task == "retrieval":
        return DiDEForRetrieval(sizes) if arch == "dide" else VLMoForRetrieval(sizes)
    kind = DiDE if arch == "dide" else FusionClassifier
    return kind(sizes, labels, pictures=2 if task == "nlvr2" else 1)


def save(model: HeadedModel, folder: Path) -> None:
    """Write the folder. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model.network, folder)
    model.processor.tokenizer.save(folder)
    content = {
        "model_type": MODEL_TYPE,
        "arch": model.arch,
        "task": model.task,
        "labels": list(model.labels),
        "sizes": config.to_dict(model.network.config),
    }
    files.write_text(folder / "config.json", json.dumps(content, indent=2) + "\n")


def load(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> HeadedModel:
    """What :func:`save` wrote, in evaluation mode. Raises ConfigError, CheckpointError."""
    path = folder / "config.json"
    found = config.read_json(path)
    if found.get("model_type") != MODEL_TYPE:
        raise CheckpointError(f"{path}: model_type is {found.get('model_type')!r}, expected {MODEL_TYPE!r}")
    arch, task, labels = found.get("arch"), found.get("task"), found.get("labels", [])
    if arch not in HEADS or task not in HEADS[arch] or not isinstance(labels, list):
        raise ConfigError(
            f"{path}: arch is {arch!r} and task {task!r}; expected one of {', '.join(HEADS)} and its tasks"
        )
    sizes: Any = config.from_dict(_SHAPES[arch], found.get("sizes", {}), where=f"{path}: sizes")
    with checkpoint.on_meta():
        network = new_network(arch, task, sizes, len(labels))
    checkpoint.load(network, folder, dtype=dtype, device=device)
    tokenizer = TextTokenizer.from_folder(folder)
    processor = PairProcessor(tokenizer, image_size=sizes.image_size, max_text=min(sizes.max_text, 64))
    return HeadedModel(arch, task, network.to(device).eval(), processor, tuple(map(str, labels)))


def require_task(model: HeadedModel, wanted: Task, name: str) -> None:
    """Raise InputError, with the published files that would do, for a head of another task."""
    if model.task != wanted:
        raise InputError(beit3_checkpoint.wrong_task(name, model.task, wanted))

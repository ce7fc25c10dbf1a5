"""Checkpoints of language models: names in folders of our own, checks before and behind loading."""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path
from typing import TypeVar

import torch
from multiway_core import config
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError, InputError
from torch import nn

Config = TypeVar("Config")

OWN_NAMES = RuleTable(
    [
        Rule("layers.{rest*}", "decoder.layers.{rest*}"),
        Rule("norm.{rest*}", "decoder.norm.{rest*}"),
        Rule("{rest*}", "{rest*}"),
    ]
)
"""Names in the folders of systems without a published layout <-> those of a `multiway_blocks.text_decoder.CausalLM`."""


def check_layers(path: Path, num_layers: int, tensors: Sized) -> None:
    """Refuse a configuration with more layers than the checkpoint has tensors, before anything is built of it."""
    if num_layers > len(tensors):
        raise CheckpointError(
            f"{path}: {num_layers} layers are asked for, and there are {len(tensors)} tensors"
        )


def read_config(kind: type[Config], path: Path) -> Config:
    """The configuration in a file. Raises ConfigError; InputError, with the file's name, if its sizes do not fit."""
    try:
        return config.load(kind, path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def non_finite(module: nn.Module) -> list[str]:
    """Names of the weights and buffers with values that are NaN or infinite."""
    # A sum is one pass over the memory, and is not finite where any summand is not.
    return [
        name
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]
        if tensor.is_floating_point() and not torch.isfinite(tensor.detach().sum(dtype=torch.float32))
    ]


def require_finite(path: Path, module: nn.Module) -> None:
    """Refuse weights that are not finite, naming the first tensor and the file. Raises InputError."""
    for name in non_finite(module):
        raise InputError(f"{path}: {name} has values that are not finite; the file is damaged")

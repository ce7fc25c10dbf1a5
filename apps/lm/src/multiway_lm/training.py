"""The ``train`` command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multiway_core import hub
from multiway_core.app import pick_device
from multiway_core.errors import InputError


def train_model(
    paths: Sequence[str],
    output: Path,
    *,
    field: str,
    arch: str,
    size: str,
    vocab_size: int,
    init_from: str | None,
    steps: int,
    learning_rate: float,
    length: int,
    batch_size: int,
    max_tokens: int | None,
    minutes: float | None,
    device: str,
    seed: int,
) -> dict[str, Any]:
    """Run :func:`multiway_text.training.train`; its numbers. Raises InputError without the training extra."""
    try:
        from multiway_core.training import TrainConfig
        from multiway_text import systems
        from multiway_text.training import Run, train
    except ModuleNotFoundError as error:
        raise InputError(f"training needs {error.name}: pip install 'multiway-lm[training]'") from error
    systems.named(arch)
    if size not in systems.SIZES:
        raise InputError(f"--size {size}: known are {', '.join(systems.SIZES)}")
    config = TrainConfig(
        steps=steps,
        learning_rate=learning_rate,
        warmup_steps=min(steps // 10, 200),
        final_learning_rate_ratio=0.1,
        seed=seed,
    )
    run = Run(
        config,
        arch,
        size,
        vocab_size,
        length,
        batch_size,
        None if init_from is None else hub.resolve(init_from),
        max_tokens,
    )
    return train(output, paths, run, field=field, device=str(pick_device(device)), minutes=minutes)

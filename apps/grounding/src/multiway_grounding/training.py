"""The ``train`` command: fine-tuning on captions with boxes."""

from __future__ import annotations

from pathlib import Path

from multiway_core.app import pick_device
from multiway_core.errors import InputError


def fine_tune(
    output: Path,
    *,
    data: Path | None,
    start_from: str | None,
    epochs: float,
    learning_rate: float,
    batch_size: int,
    freeze_tower: bool,
    minutes: float | None,
    device: str,
    seed: int,
) -> Path:
    """Run ``multiway_vision_language.kosmos2.finetuning.train``; the folder of the model that it wrote.

    Raises:
        InputError: no data file or model given, or the training extra is not installed.
        DataError: a bad row of the data file.
    """
    if data is None or start_from is None:
        missing = "--data FILE.jsonl" if data is None else "--start-from MODEL (a folder or a hub id)"
        raise InputError(f"train needs {missing}")
    try:
        from multiway_vision_language.kosmos2 import finetuning
    except ModuleNotFoundError as error:
        raise InputError(
            f"training needs {error.name}: pip install 'multiway-grounding[training]'"
        ) from error
    return finetuning.train(
        output,
        data=data,
        start_from=start_from,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        freeze_tower=freeze_tower,
        minutes=minutes,
        device=str(pick_device(device)),
        seed=seed,
    )

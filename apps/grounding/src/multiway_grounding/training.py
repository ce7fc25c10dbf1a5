"""The ``train`` command: fine-tuning on captions with boxes, and the recipe of the bundled model."""

from __future__ import annotations

from pathlib import Path

from multiway_core.app import pick_device
from multiway_core.errors import InputError

FINE_TUNE = "fine-tune"


def fine_tune(
    output: Path,
    *,
    data: Path | None,
    init_from: str | None,
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
    if data is None or init_from is None:
        missing = "--data FILE.jsonl" if data is None else "--init-from MODEL (a folder or a hub id)"
        raise InputError(f"--preset {FINE_TUNE} needs {missing}")
    try:
        from multiway_vision_language.kosmos2 import finetuning
    except ModuleNotFoundError as error:
        raise InputError(
            f"training needs {error.name}: pip install 'multiway-grounding[training]'"
        ) from error
    return finetuning.train(
        output,
        data=data,
        init_from=init_from,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        freeze_tower=freeze_tower,
        minutes=minutes,
        device=str(pick_device(device)),
        seed=seed,
    )


def train_small(output: Path, *, preset: str, assets: Path | None, minutes: float | None, seed: int) -> Path:
    """Run ``multiway_vision_language.kosmos2_small.recipe.train``; the folder of the model that it wrote.

    Raises:
        InputError: no folder of pictures given, or the training extra is not installed.
        ConfigError: no such preset.
    """
    if assets is None:
        raise InputError(f"--preset {preset} needs --assets DIR, the folder of pictures to train on")
    if not assets.is_dir():
        raise InputError(f"--assets {assets}: no such folder")
    try:
        from multiway_vision_language.kosmos2_small import recipe
    except ModuleNotFoundError as error:
        raise InputError(
            f"training needs {error.name}: pip install 'multiway-grounding[training]'"
        ) from error
    return recipe.train(preset, assets, output, seed=seed, minutes=minutes)

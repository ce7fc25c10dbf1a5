"""The ``train`` command: the recipe of the bundled model, run from here."""

from __future__ import annotations

from pathlib import Path

from multiway_core.app import pick_device
from multiway_core.errors import InputError


def train_reader(
    output: Path,
    *,
    preset: str,
    minutes: float | None,
    start_from: Path | None,
    compiled: bool,
    device: str,
    seed: int,
) -> Path:
    """Run ``multiway_document.kosmos2_5.recipe.train``; the folder of the model that it wrote.

    Raises:
        InputError: no such preset or folder, or the training extra is not installed.
    """
    if start_from is not None and not start_from.is_dir():
        raise InputError(f"--start-from {start_from}: no such folder")
    try:
        from multiway_document.kosmos2_5 import recipe
    except ModuleNotFoundError as error:
        raise InputError(f"training needs {error.name}: pip install 'multiway-ocr[training]'") from error
    return recipe.train(
        output,
        preset=preset,
        seed=seed,
        minutes=minutes,
        device=str(pick_device(device)),
        compiled=compiled,
        start_from=start_from,
    )

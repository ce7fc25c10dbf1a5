"""The ``train`` command: the recipe of the bundled models, run from here."""

from __future__ import annotations

from pathlib import Path

from multiway_core import hub
from multiway_core.app import pick_device
from multiway_core.errors import InputError


def train_detector(
    output: Path,
    *,
    preset: str,
    minutes: float | None,
    init_from: str | None,
    device: str,
    seed: int,
) -> Path:
    """Run a recipe of ``multiway_event_vision.recipes``; the folder of the model that it wrote.

    Raises InputError: no such preset or folder, or the training extra is not installed; ConfigError, CheckpointError.
    """
    try:
        from multiway_core.training import TrainOptions, choose, run
        from multiway_event_vision.recipes import RECIPES
    except ModuleNotFoundError as error:
        raise InputError(
            f"training needs {error.name}: pip install 'multiway-event-detection[training]'"
        ) from error
    if init_from is not None:
        hub.resolve(init_from)  # before anything is written
    options = TrainOptions(
        output, init_from=init_from, seed=seed, minutes=minutes, device=str(pick_device(device))
    )
    return run(choose(RECIPES, preset), options).folder

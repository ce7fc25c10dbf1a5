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
    """Run ``multiway_event_vision.ssla_det.recipe.train``; the folder of the model that it wrote.

    Raises InputError: no such preset or folder, or the training extra is not installed; ConfigError, CheckpointError.
    """
    try:
        from multiway_event_vision.ssla_det import recipe
    except ModuleNotFoundError as error:
        raise InputError(
            f"training needs {error.name}: pip install 'multiway-event-detection[training]'"
        ) from error
    if preset not in recipe.RECIPES:
        raise InputError(f"--preset {preset}: expected {', '.join(recipe.RECIPES)}")
    start = None if init_from is None else hub.resolve(init_from)
    if start is not None and not start.is_dir():
        raise InputError(f"--init-from {init_from}: expected a model folder")
    where = str(pick_device(device))
    return recipe.train(preset, output, seed=seed, device=where, minutes=minutes, start=start)

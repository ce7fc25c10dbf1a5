"""The ``train`` command: the recipes of the bundled model and of question answering, run from here."""

from __future__ import annotations

from pathlib import Path

from multiway_core.app import pick_device
from multiway_core.errors import InputError

CHAT = "chat"
CHAT_EPOCHS, CHAT_LEARNING_RATE = 3.0, 2e-4


def train_answers(
    output: Path,
    *,
    data: Path | None,
    init_from: Path | None,
    epochs: float | None,
    learning_rate: float | None,
    minutes: float | None,
    device: str,
    seed: int,
) -> Path:
    """Run ``multiway_document.kosmos2_5.chat.train``; the folder of the model that it wrote.

    Raises:
        InputError: no data file or model given, or the training extra is not installed.
        DataError: a bad row of the data file.
    """
    if data is None or init_from is None:
        missing = "--data FILE.jsonl" if data is None else "--init-from MODEL (a folder or a hub id)"
        raise InputError(f"--preset {CHAT} needs {missing}")
    try:
        from multiway_document.kosmos2_5 import chat
    except ModuleNotFoundError as error:
        raise InputError(f"training needs {error.name}: pip install 'multiway-ocr[training]'") from error
    return chat.train(
        output,
        data=data,
        init_from=str(init_from),
        epochs=CHAT_EPOCHS if epochs is None else epochs,
        learning_rate=CHAT_LEARNING_RATE if learning_rate is None else learning_rate,
        minutes=minutes,
        device=str(pick_device(device)),
        seed=seed,
    )


def train_reader(
    output: Path,
    *,
    preset: str,
    minutes: float | None,
    init_from: Path | None,
    compiled: bool,
    device: str,
    seed: int,
) -> Path:
    """Run ``multiway_document.kosmos2_5.recipe.train``; the folder of the model that it wrote.

    Raises:
        InputError: no such preset or folder, or the training extra is not installed.
    """
    if init_from is not None and not init_from.is_dir():
        raise InputError(f"--init-from {init_from}: no such folder")
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
        init_from=init_from,
    )

"""The ``train`` command: the recipe of the package, with its own options."""

from __future__ import annotations

from collections.abc import Sequence

from multiway_core.errors import InputError

from multiway_tts.model import PROGRAM


def train(arguments: Sequence[str]) -> None:
    """Run ``multiway_speech.vibevoice.train`` with its options. Raises InputError without the training extra."""
    try:
        from multiway_speech.vibevoice.train import main
    except ModuleNotFoundError as error:
        raise InputError(f"training needs {error.name}: pip install '{PROGRAM}[training]'") from error
    main(list(arguments))

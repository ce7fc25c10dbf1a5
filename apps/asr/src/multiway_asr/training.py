"""The ``train`` command: the recipe of the bundled recognizer, run from here."""

from __future__ import annotations

from collections.abc import Sequence

from multiway_core.errors import InputError


def train_recognizer(arguments: Sequence[str]) -> None:
    """Run :func:`multiway_speech.vibevoice_asr.train.main` with these arguments.

    Raises InputError: the training extra is not installed. Wrong arguments end the process with exit code 2.
    """
    try:
        import multiway_speech.vibevoice_asr.train as recipe
    except ImportError as error:
        raise InputError(f"training needs {error.name}: pip install 'multiway-asr[training]'") from error
    recipe.main(list(arguments))

"""The ``distill`` command: a thin way to the recipe in ``multiway_text.bitdistill``."""

from __future__ import annotations

from pathlib import Path

from multiway_core import hub
from multiway_core.errors import InputError


def distill(teacher: str, output: Path, *, prompts: Path | None, field: str, minutes: float | None) -> Path:
    """Distil a teacher into a ternary model folder ``output/model``; ``output/work`` keeps what takes long.

    Raises InputError: this installation lacks the recipe or the training extra; ModelNotFoundError.
    """
    try:
        from multiway_text.bitdistill import recipe
        from multiway_text.bitdistill.prompts import Prompt
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("multiway_text.bitdistill"):
            raise InputError("this installation of multiway-text has no BitDistill recipe") from error
        raise InputError(f"distilling needs {error.name}: pip install 'multiway-lm[training]'") from error
    path = hub.resolve(teacher)
    asked = None
    if prompts is not None:
        from multiway_text.documents import TextFiles

        asked = [Prompt(document.text) for document in TextFiles([prompts], field=field)]
    recipe.run(
        path,
        output / "model",
        output / "work",
        asked=asked,
        stop_after_seconds=None if minutes is None else 60 * minutes,
    )
    return output / "model"

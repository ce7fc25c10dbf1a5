"""Texts from the command line's files, and what is said about those that are empty or too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import InputError

from multiway_encoder.app import APP

if TYPE_CHECKING:
    from multiway_text.encoder.pipeline import EncoderPipeline


@dataclass(frozen=True)
class Texts:
    """Texts, where each stands (``file:line``), and the second texts of pairs, if there are any."""

    texts: list[str]
    names: list[str]
    pairs: list[str] | None = None


def read_texts(
    inputs: Sequence[str],
    *,
    field: str = "text",
    pair_field: str | None = None,
    whole_files: bool = False,
    drop_empty: bool = False,
) -> Texts:
    """Texts of files; ``drop_empty`` leaves out those without a character.

    Raises InputError (there is none), DataError (file and line).
    """
    from multiway_text.encoder.rows import read_rows

    texts, names, pairs = [], [], []
    for row in read_rows(inputs, whole_files=whole_files):
        text = row.text(field, "--field")
        if drop_empty and not text.strip():
            continue
        texts.append(text)
        names.append(row.where)
        if pair_field is not None:
            pairs.append(row.text(pair_field, "--pair-field"))
    if not texts:
        raise InputError(f"{', '.join(inputs)}: no text")
    empty = [name for text, name in zip(texts, names, strict=True) if not text.strip()]
    if len(empty) == len(texts):
        raise InputError(f"{', '.join(inputs)}: all {len(texts)} texts are empty")
    if empty:
        APP.note(f"{_count(empty)} empty; the model's answer to them means nothing")
    return Texts(texts, names, None if pair_field is None else pairs)


def refuse_empty(texts: Sequence[str]) -> None:
    """Raises InputError, naming the first empty text."""
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise InputError(f"text {number} of {len(texts)} is empty, and has no meaning to compare")


def note_long(texts: Texts, truncated: Sequence[int], advice: str) -> None:
    """Say which texts the model did not see whole."""
    if truncated:
        APP.note(
            f"{_count([texts.names[row] for row in truncated])} too long: the beginning counts; {advice}"
        )


def pipeline_of(model: ModelOptions) -> EncoderPipeline:
    """The pipeline of ``--model``, and on standard error what its file is noted for."""
    pipeline: Any = load_pipeline(APP, model)
    APP.note(*pipeline.notes)
    return pipeline


def _count(names: Sequence[str]) -> str:
    more = "" if len(names) == 1 else f" and {len(names) - 1} more"
    return f"{names[0]}{more}:"

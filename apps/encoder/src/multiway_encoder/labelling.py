"""The ``classify`` and ``tag`` commands."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from typing import Any

from multiway_core.app import ModelOptions, write_stdout

from multiway_encoder.inputs import note_long, pipeline_of, read_texts

_GROUP = 256  # texts whose results are written together


def classify_files(
    inputs: Sequence[str],
    model: ModelOptions,
    *,
    field: str,
    pair_field: str | None,
    whole_files: bool,
    json: bool,
) -> None:
    """A line a text: label, probability, where it stands; or all as JSON lines. Raises InputError, DataError."""
    texts = read_texts(inputs, field=field, pair_field=pair_field, whole_files=whole_files)
    pipeline = pipeline_of(model)
    cut: list[int] = []
    for start in range(0, len(texts.texts), _GROUP):
        rows = slice(start, start + _GROUP)
        found = pipeline.classify(texts.texts[rows], None if texts.pairs is None else texts.pairs[rows])
        cut += [start + place for place, item in enumerate(found) if item.truncated]
        named = zip(texts.names[rows], found, strict=True)
        if json:
            write_stdout("".join(_json_line(name, item) for name, item in named))
        else:
            write_stdout("".join(f"{item.label}\t{item.scores[0]:.3f}\t{name}\n" for name, item in named))
    note_long(texts, cut, "split it into shorter texts")


def tag_files(
    inputs: Sequence[str], model: ModelOptions, *, field: str, whole_files: bool, json: bool
) -> None:
    """A line a thing that was found: label, its words, where it stands; or JSON lines. Raises as above."""
    texts = read_texts(inputs, field=field, whole_files=whole_files)
    pipeline = pipeline_of(model)
    for name, text in zip(texts.names, texts.texts, strict=True):
        found = pipeline.tag([text])[0]
        if json:
            write_stdout(_json_line(name, found))
        else:
            write_stdout("".join(f"{span.label}\t{span.text}\t{name}\n" for span in found.spans))


def _json_line(name: str, item: Any) -> str:
    return json_module.dumps({"source": name, **item.to_json()}, ensure_ascii=False) + "\n"

"""The commands that read texts: from files to the pipeline to standard output."""

from __future__ import annotations

import json as json_
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelOptions, counting, load_pipeline, write_stdout
from multiway_core.errors import InputError

from multiway_summarization.app import APP
from multiway_summarization.options import DecodingOptions

if TYPE_CHECKING:
    from multiway_text.encoder.rows import Row

_TOGETHER = 64  # texts whose windows share batches, and whose results are printed at once


def read(inputs: Sequence[str], field: str, lines: bool) -> list[tuple[Row, str]]:
    """(row, text). Raises InputError for no text at all or an empty one, DataError with file and line."""
    from multiway_text.encoder.rows import read_rows

    found = []
    for row in read_rows(inputs, whole_files=not lines):
        text = row.text(field, "--field")
        if not text.strip():
            if lines and list(row.fields) == ["text"]:
                continue  # an empty line between texts
            raise InputError(f"{row.where}: the text is empty")
        found.append((row, text))
    if not found:
        raise InputError(f"{', '.join(inputs)}: no text")
    return found


def write_titles(
    inputs: Sequence[str],
    model: ModelOptions,
    decoding: DecodingOptions,
    *,
    field: str,
    lines: bool,
    json: bool,
    language: str | None,
    source_language: str | None,
) -> None:
    """What ``title`` does."""
    from multiway_summarization.models import title_writer

    rows = read(inputs, field, lines)
    write = title_writer(load_pipeline(APP, model), decoding, language, source_language)
    for group in _groups(rows):
        titles = write([text for _, text in group])
        _write(((row, found.title, found) for (row, _), found in zip(group, titles, strict=True)), json)


def write_summaries(
    inputs: Sequence[str],
    model: ModelOptions,
    decoding: DecodingOptions,
    *,
    sentences: int,
    field: str,
    lines: bool,
    json: bool,
) -> None:
    """What ``summarize`` does."""
    rows = read(inputs, field, lines)
    pipeline = load_pipeline(APP, model)
    for number, (row, text) in enumerate(rows):
        found = pipeline.summarize(text, sentences, decoding.decoding())
        gap = "\n" if number and not json else ""
        _write([(row, f"{gap}{found.title}\n{found.text}", found)], json)


def write_questions(
    inputs: Sequence[str],
    model: ModelOptions,
    decoding: DecodingOptions,
    *,
    answer: str | None,
    answer_field: str,
    field: str,
    lines: bool,
    json: bool,
) -> None:
    """What ``ask`` does."""
    rows = read(inputs, field, lines)
    items = []
    for row, text in rows:
        own = answer if answer is not None else row.fields.get(answer_field, "")
        if not isinstance(own, str):
            raise InputError(f"{row.where}: {answer_field}: expected text, got {type(own).__name__}")
        if own not in text:
            raise InputError(
                f"{row.where}: the answer {own!r} does not stand in the passage; copy it from there"
            )
        items.append((text, own, None))
    pipeline = load_pipeline(APP, model)
    with counting("asking") as on_progress:
        for start in range(0, len(items), _TOGETHER):
            found = pipeline.questions(items[start : start + _TOGETHER], decoding.decoding())
            named = zip(rows[start : start + _TOGETHER], found, strict=True)
            _write(((row, one.question, one) for (row, _), one in named), json)
            on_progress(start + len(found), len(items))


def _groups(rows: Sequence[tuple[Row, str]]) -> Iterator[Sequence[tuple[Row, str]]]:
    with counting("writing") as on_progress:
        for start in range(0, len(rows), _TOGETHER):
            yield rows[start : start + _TOGETHER]
            on_progress(min(start + _TOGETHER, len(rows)), len(rows))


def _write(results: Iterable[tuple[Row, str, Any]], json: bool) -> None:
    """One line a result: the text, or JSON with where the source stands."""
    for row, text, found in results:
        line = json_.dumps({"source": row.where, **found.to_json()}, ensure_ascii=False) if json else text
        write_stdout(line + "\n")

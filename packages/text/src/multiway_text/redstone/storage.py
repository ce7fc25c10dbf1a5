"""Records on disk: Parquet files and JSON lines with zstd, read back as they were written; and texts of others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.errors import DataError
from multiway_core.files import atomic_write

from multiway_text.documents import TextFiles, read_lines
from multiway_text.redstone.record import Record

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ("language", "language_score", "archive", "offset", "date", "extractor")
_ROWS = 1000
Write = Callable[[dict[str, Any]], None]
JSON_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst")


def row_of(record: Record) -> dict[str, Any]:
    """A record as a row: what every page has in columns, the rest as JSON in ``meta``."""
    meta = {name: value for name, value in record.meta.items() if name not in (*_COLUMNS, "charset")}
    row = {name: record.meta.get(name) for name in _COLUMNS}
    return row | {
        "id": record.id,
        "uri": record.uri,
        "text": record.text.encode("utf-8", "replace").decode(),
        "meta": json.dumps(meta, ensure_ascii=False, default=str),
        "drop_reason": record.drop_reason,
    }


def schema(*more: tuple[str, str]) -> pa.Schema:
    """The columns of a record's row, and more of them as (name, Arrow type)."""
    import pyarrow as pa

    names = {"text": "large_string", "language_score": "double", "offset": "int64"}
    fields = [(name, names.get(name, "string")) for name in ("id", "uri", "text", *_COLUMNS, "meta")]
    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in (*fields, *more)])


@contextmanager
def parquet_file(path: Path, columns: pa.Schema) -> Iterator[Write]:
    """Takes rows for a Parquet file (zstd), whole or not at all; keys that are no column are left out.

    Raises OutputError.
    """
    import pyarrow as pa
    from pyarrow import parquet

    held: list[dict[str, Any]] = []
    with atomic_write(path) as file, parquet.ParquetWriter(file, columns, compression="zstd") as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(held, columns))
            held.clear()

        def write(row: dict[str, Any]) -> None:
            held.append(row)
            if len(held) == _ROWS:
                flush()

        yield write
        if held:
            flush()


@contextmanager
def json_lines_file(path: Path) -> Iterator[Write]:
    """Takes rows for a file of JSON lines (zstd), with what ``meta`` holds beside the columns. Raises OutputError."""
    import pyarrow as pa

    with atomic_write(path) as file, pa.output_stream(file.name, compression="zstd") as packed:

        def write(row: dict[str, Any]) -> None:
            row = {name: row[name] for name in ("id", "uri", "text", *_COLUMNS)} | json.loads(row["meta"])
            packed.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")

        yield write


def read_records(path: Path) -> Iterator[Record]:
    """The records of a part (Parquet, JSON lines) or of a file of dropped ones. Raises DataError."""
    if path.name.endswith(JSON_LINES):
        for number, line in read_lines(path):
            row = _parsed(line)
            if not isinstance(row, dict) or not {"id", "uri", "text"} <= row.keys():
                raise DataError(f"{path}:{number}: not a record of a build")
            yield _record(row.pop("id"), row.pop("uri"), row.pop("text"), row)
        return
    for batch in batches(path):
        for row in batch.to_pylist():
            meta = {name: row[name] for name in _COLUMNS} | json.loads(row["meta"])
            yield _record(row["id"], row["uri"], row["text"], meta, row.get("drop_reason") or "")


def batches(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """A Parquet file in pieces. Raises DataError."""
    from pyarrow import ArrowInvalid, parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(_ROWS, columns=columns)
    except (ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a file of records: {error}") from error


def read_texts(path: Path, fields: tuple[str, ...] = ("text",)) -> Iterator[Record]:
    """Texts that others wrote (JSON lines and Parquet with a field ``text``, plain text).

    A row's other fields come along as ``meta["source"]``, its ``uri`` or ``url`` as the address. A line that is no JSON
    object with a text is a record that is dropped: ``archive: ...``. Raises DataError: the file cannot be read, or has
    no column ``text``.

    Args:
        fields: where the text may be, the first of them that a row has; only ``text`` leaves the source.
    """
    for number, row in _text_rows(path, fields):
        meta = {"archive": path.name, "offset": number}
        text = next((row[name] for name in fields if name in row), None) if isinstance(row, dict) else None
        if not isinstance(text, str):
            reason = "no JSON object with a field text, which is text"
            yield Record(f"{path.name}:{number}", "", meta=meta, drop_reason=f"archive: {reason}")
        elif text.strip():
            digest = hashlib.sha1(text.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
            uri = next((row[key] for key in ("uri", "url") if isinstance(row.get(key), str)), "")
            source = {key: value for key, value in row.items() if key != "text"}
            yield Record(f"sha1:{digest}", uri, text=text, meta=meta | ({"source": source} if source else {}))


def _text_rows(path: Path, fields: tuple[str, ...]) -> Iterator[tuple[int, Any]]:
    """(number from 1, row) of a file of texts; what is no JSON is None."""
    if path.name.endswith(JSON_LINES):
        yield from ((number, _parsed(line)) for number, line in read_lines(path, "replace") if line.strip())
    elif path.suffix == ".parquet":
        number = 0
        for batch in batches(path):
            if not set(fields) & set(batch.schema.names):
                raise DataError(f"{path}: no column 'text'; there are {', '.join(batch.schema.names[:8])}")
            for row in batch.to_pylist():
                number += 1
                row = {key: value for key, value in row.items() if value is not None}
                yield number, row if set(fields) & row.keys() else row | {"text": ""}
    else:
        for number, document in enumerate(TextFiles([path])):
            yield number, {"text": document.text}


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _record(name: str, uri: str, text: str, meta: dict[str, Any], drop_reason: str = "") -> Record:
    known = {key: value for key, value in meta.items() if value is not None}
    return Record(name, uri, text=text, meta=known, drop_reason=drop_reason)

"""Rows of the files that people have: JSONL, CSV, TSV, Parquet, plain text (a line is a row), standard input.

Files ending in ``.gz`` are unpacked on the way.

Whatever is wrong is a DataError that names the file, the line, and what would be right.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from multiway_core.data_files import shown
from multiway_core.errors import DataError, InputError

from multiway_text.documents import find_files

STDIN = "-"
_TEXT = "text"
csv.field_size_limit(1 << 30)


@dataclass(frozen=True)
class Row:
    """The fields of a row, and where it stands: ``file:line``."""

    fields: dict[str, Any]
    where: str

    def text(self, name: str, option: str | None = None) -> str:
        """A field that is text. Raises DataError, which tells by what ``option`` of the command another is named."""
        if name not in self.fields:
            there = ", ".join(map(str, list(self.fields)[:8]))
            advice = "" if option is None else f"; {option} names another"
            raise DataError(f"{self.where}: no field {name!r}; there are {there}{advice}")
        value = self.fields[name]
        if not isinstance(value, str):
            raise DataError(f"{self.where}: {name}: expected text, got {shown(value)}")
        return value

    def label(self, name: str) -> str:
        """A field that is text, a number, or true or false, as text. Raises DataError."""
        value = self.fields.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
        if isinstance(value, bool | int | float):
            return str(value)
        raise DataError(f"{self.where}: expected a label in {name!r}, got {shown(value)}")


def read_rows(
    paths: Sequence[str], *, whole_files: bool = False, columns: Sequence[str] | None = None
) -> Iterator[Row]:
    """The rows of files, folders, globs and ``-``; text has the field ``text``, a line (or a whole file) a row.

    Empty lines of text files are rows (so that vectors stand where their lines do), those of JSONL are not.
    ``columns``: names for tables whose first line is a row already.
    Raises InputError for a path that leads nowhere, DataError.
    """
    for path in paths:
        if path == STDIN:
            yield from _lines(sys.stdin.buffer.read(), "standard input", whole_files)
            continue
        for file in [Path(path)] if Path(path).is_file() else find_files([path]):
            yield from _of_file(file, whole_files, columns)


def read_bytes(file: Path) -> bytes:
    """A file's content, unpacked where its name ends in ``.gz``. Raises DataError."""
    try:
        data = file.read_bytes()
        return gzip.decompress(data) if file.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error


def _of_file(file: Path, whole: bool, columns: Sequence[str] | None) -> Iterator[Row]:
    kind = Path(file.name.removesuffix(".gz")).suffix.lower()
    if kind == ".parquet":
        yield from _parquet(file)
    elif kind in (".csv", ".tsv"):
        text = _decoded(read_bytes(file), str(file), 1)
        stream = io.StringIO(text, newline="")
        yield from _table(stream, str(file), "\t" if kind == ".tsv" else ",", columns)
    elif kind in (".jsonl", ".ndjson"):
        yield from _json_lines(read_bytes(file), str(file))
    else:
        yield from _lines(read_bytes(file), str(file), whole)


def _lines(data: bytes, where: str, whole: bool) -> Iterator[Row]:
    if whole:
        yield Row({_TEXT: _decoded(data, where, 1)}, where)
        return
    lines = data.split(b"\n")
    for number, line in enumerate(lines[:-1] if not lines[-1] else lines, 1):
        yield Row({_TEXT: _decoded(line.removesuffix(b"\r"), where, number)}, f"{where}:{number}")


def _decoded(data: bytes, where: str, line: int) -> str:
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line += data.count(b"\n", 0, error.start)
        raise DataError(f"{where}:{line}: not UTF-8 text") from error


def _json_lines(data: bytes, where: str) -> Iterator[Row]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        place = f"{where}:{number}"
        try:
            value = json.loads(_decoded(line, where, number))
        except (json.JSONDecodeError, RecursionError) as error:
            reason = getattr(error, "msg", "nested too deeply")
            raise DataError(
                f'{place}: not JSON ({reason}); expected an object a line, {{"text": "..."}}'
            ) from error
        if isinstance(value, str):
            value = {_TEXT: value}
        if not isinstance(value, dict):
            raise DataError(f'{place}: expected an object, {{"text": "..."}}, got {shown(value)}')
        yield Row(value, place)


def _table(stream: IO[str], where: str, delimiter: str, columns: Sequence[str] | None) -> Iterator[Row]:
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    reader = csv.reader(stream, delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    names = list(columns or ())
    try:
        for cells in reader:
            if not names:
                names = [cell.strip() for cell in cells]
                if len(set(names)) < len(names) or not all(names):
                    raise DataError(
                        f"{where}:1: expected names of columns, each once, such as text and label; "
                        "for a table without them give --columns text,label"
                    )
            elif cells:
                place = f"{where}:{reader.line_num}"
                if len(cells) != len(names):
                    raise DataError(f"{place}: {len(cells)} cells, expected {len(names)}: {', '.join(names)}")
                yield Row(dict(zip(names, cells, strict=True)), place)
    except csv.Error as error:
        raise DataError(f"{where}:{reader.line_num}: not a table: {error}") from error


def _parquet(file: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ModuleNotFoundError as error:
        raise InputError("Parquet files need pyarrow: pip install 'multiway-text[parquet]'") from error
    try:
        with parquet.ParquetFile(file) as source:
            number = 0
            for batch in source.iter_batches(1024):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(fields, f"{file}:{number}")
    except (ArrowInvalid, OSError) as error:
        raise DataError(f"{file}: not a Parquet file: {error}") from error

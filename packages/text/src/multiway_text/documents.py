"""Texts from files, as a stream: txt, JSONL and Parquet, from files, folders and globs, to be resumed at any place.

A text file is one document; one larger than ``PIECE`` comes in several, cut at line ends, so that no file has to fit
the memory. A JSONL line and a Parquet row are a document each. Files ending in ``.gz`` or ``.zst`` are
unpacked on the way.
"""

from __future__ import annotations

import glob as glob_module
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from multiway_core.data_files import shown
from multiway_core.errors import DataError, InputError

SUFFIXES = (".txt", ".md", ".jsonl", ".ndjson", ".parquet", ".txt.gz", ".jsonl.gz", ".jsonl.zst")
PIECE = 1 << 20
"""Characters, about, of a piece of a large text file."""
HELD_OUT = 20
"""One in so many documents is held out of a training."""
LONGEST_LINE = 64 << 20
_PARQUET_ROWS = 1024


@dataclass(frozen=True)
class Position:
    """Where a stream is: the next document is the one with index ``row`` of file ``file`` (both from 0)."""

    file: int = 0
    row: int = 0


@dataclass(frozen=True)
class Document:
    """A text, where it comes from (``file`` or ``file:row``), and where the stream goes on behind it."""

    text: str
    name: str
    next: Position = Position()


class TextFiles:
    """The documents of files; iterating starts at ``position``.

    Args:
        paths: files, folders (searched for ``SUFFIXES``), globs. Order: as given, sorted inside a folder or glob.
        field: where the text is in rows of JSONL and Parquet; a dotted path leads into objects of JSONL.
        position: where to begin; ``Document.next`` of the last one taken resumes behind it.

    Raises InputError at once for a path that leads nowhere; DataError, when it is reached, for a damaged file.
    """

    def __init__(
        self, paths: Sequence[str | Path], *, field: str = "text", position: Position = Position()
    ) -> None:
        self.files = find_files(paths)
        self.field, self.position = field, position
        if not 0 <= position.file <= len(self.files) or position.row < 0:
            raise InputError(f"position {position} is outside of {len(self.files)} files")

    def __iter__(self) -> Iterator[Document]:
        for number in range(self.position.file, len(self.files)):
            path = self.files[number]
            first = self.position.row if number == self.position.file else 0
            rows = _rows_of(path, self.field, first)
            try:
                held = next(rows, None)
                while held is not None:
                    following = next(rows, None)
                    row, text, name = held
                    end = following is None
                    yield Document(text, name, Position(number + 1) if end else Position(number, row + 1))
                    held = following
            except (OSError, EOFError, zlib.error) as error:
                raise DataError(f"cannot read {path}: {error}") from error


def find_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files that paths, folders and globs mean. Raises InputError for one that means none."""
    if not paths:
        raise InputError("no file was given")
    found: list[Path] = []
    for given in paths:
        path = Path(given)
        try:
            is_folder, is_file = path.is_dir(), path.is_file()
        except (OSError, ValueError) as error:
            raise InputError(f"{str(given)[:100]!r} is no path: {error}") from error
        if is_folder:
            inside = sorted(
                file
                for file in path.rglob("*")
                if file.name.endswith(SUFFIXES) and not file.name.startswith(".") and file.is_file()
            )
            if not inside:
                raise InputError(f"{given}: the folder holds no file of {', '.join(SUFFIXES)}")
            found += inside
        elif is_file:
            found.append(path)
        else:
            matches = sorted(glob_module.glob(str(given), recursive=True))  # noqa: PTH207 absolute ones too
            files = [Path(match) for match in matches if os.path.isfile(match)]  # noqa: PTH113
            if not files:
                raise InputError(f"{given}: no such file, and nothing matches")
            found += files
    return found


def _rows_of(path: Path, field: str, first: int) -> Iterator[tuple[int, str, str]]:
    """(row, text, name) of a file from a row on; rows without text are left out."""
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    if name.endswith(".parquet"):
        yield from _parquet(path, field, first)
    elif name.endswith((".jsonl", ".ndjson")):
        yield from _json_lines(path, field, first)
    else:
        for row, text in enumerate(_pieces(path)):
            if row >= first and text.strip():
                yield row, text, str(path) if row == 0 else f"{path}:{row}"


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".zst":
        try:
            import pyarrow
        except ModuleNotFoundError as error:
            raise InputError(".zst files need pyarrow: pip install 'multiway-text[parquet]'") from error
        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def read_lines(path: Path, errors: str = "strict") -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end) of a UTF-8 file, which may be compressed. Raises DataError.

    errors: ``strict`` refuses a line that is not UTF-8, ``replace`` puts U+FFFD where it is not.
    """
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                text = _decoded(line, path, number - 1, errors).rstrip("\r\n")
                yield number, text.removeprefix("\ufeff") if number == 1 else text
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _pieces(path: Path) -> Iterator[str]:
    """A text file in pieces that end with a line (or, in a very long line, anywhere)."""
    number = 0
    with _open(path) as file:
        while lines := file.readlines(PIECE):
            text = _decoded(b"".join(lines), path, number)
            number += len(lines)
            yield (
                text.removeprefix("\ufeff").replace("\r\n", "\n")
                if number == len(lines)
                else text.replace("\r\n", "\n")
            )


def _decoded(data: bytes, path: Path, line: int, errors: str = "strict") -> str:
    try:
        return data.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        line += data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8 text") from error


def _json_lines(path: Path, field: str, first: int) -> Iterator[tuple[int, str, str]]:
    keys = field.split(".")
    with _open(path) as file:
        row = 0
        while line := file.readline(LONGEST_LINE + 1):
            where = f"{path}:{row + 1}"
            if len(line) > LONGEST_LINE:
                raise DataError(f"{where}: a line of more than {LONGEST_LINE >> 20} MB")
            if row >= first and line.strip():
                text = _field(_parsed(line, path, row, where), keys, field, where)
                if text.strip():
                    yield row, text, where
            row += 1


def _parsed(line: bytes, path: Path, row: int, where: str) -> Any:
    try:
        return json.loads(_decoded(line, path, row))
    except (json.JSONDecodeError, RecursionError) as error:
        reason = getattr(error, "msg", "nested too deeply")
        raise DataError(
            f'{where}: not JSON ({reason}); expected an object a line, such as {{"text": "..."}}'
        ) from error


def _field(value: Any, keys: Sequence[str], field: str, where: str) -> str:
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            there = (
                f"it has {', '.join(map(str, list(value)[:8]))}" if isinstance(value, dict) else "no object"
            )
            raise DataError(
                f"{where}: no field {field!r} ({there}); expected an object with the text there, "
                "or name its field (--field)"
            )
        value = value[key]
    if not isinstance(value, str):
        raise DataError(f"{where}: the field {field!r}: expected text, got {shown(value)}")
    return value


def _parquet(path: Path, field: str, first: int) -> Iterator[tuple[int, str, str]]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ModuleNotFoundError as error:
        raise InputError("Parquet files need pyarrow: pip install 'multiway-text[parquet]'") from error
    try:
        file = parquet.ParquetFile(path)
    except (ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from error
    with file:
        names = file.schema_arrow.names
        if field not in names:
            raise DataError(f"{path}: no column {field!r}; there are {', '.join(names[:8])}")
        # Whole row groups before the first row are not read.
        row, groups = 0, list(range(file.num_row_groups))
        while groups and row + file.metadata.row_group(groups[0]).num_rows <= first:
            row += file.metadata.row_group(groups.pop(0)).num_rows
        try:
            for batch in file.iter_batches(_PARQUET_ROWS, row_groups=groups, columns=[field]):
                for value in batch.column(0).to_pylist():
                    if not isinstance(value, str | None):
                        raise DataError(f"{path}: the column {field!r} is not text")
                    if row >= first and value and value.strip():
                        yield row, value, f"{path}:{row + 1}"
                    row += 1
        except ArrowInvalid as error:
            raise DataError(f"{path}: damaged: {error}") from error


def documents(paths: Sequence[str | Path], *, field: str = "text") -> Iterable[Document]:
    """The documents of files; without any, the documentation that comes with Python. Raises as `TextFiles`."""
    if paths:
        return TextFiles(paths, field=field)
    from pydoc_data.topics import topics

    return [Document(text, f"pydoc:{name}") for name, text in sorted(topics.items())]


@dataclass(frozen=True)
class Split:
    """The documents that are trained on, or those that are held out: every `HELD_OUT`-th."""

    source: Iterable[Document]
    held_out: bool

    def __iter__(self) -> Iterator[Document]:
        for number, document in enumerate(self.source):
            if (number % HELD_OUT == HELD_OUT - 1) == self.held_out:
                yield document

    def texts(self) -> Iterable[str]:
        """The texts alone; to be gone through as often as one likes."""
        return _Texts(self)


@dataclass(frozen=True)
class _Texts:
    documents: Iterable[Document]

    def __iter__(self) -> Iterator[str]:
        return (document.text for document in self.documents)

"""A build on disk: each input becomes one intermediate file, duplicates are found over all, each becomes one part.

Every file is written whole or not at all, so a finished file is the ledger: a stopped build redoes the inputs that have
none. What a part holds depends on the inputs alone, not on who worked on them or in which order.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.errors import DataError
from multiway_core.files import atomic_write

from multiway_text.documents import TextFiles
from multiway_text.redstone.archive import read_archive
from multiway_text.redstone.duplicates import duplicates
from multiway_text.redstone.minhash import MinHash, hash64
from multiway_text.redstone.pipeline import Pipeline
from multiway_text.redstone.record import Record

ARCHIVES = (".warc", ".warc.gz", ".wet", ".wet.gz")
PAGES = (".html", ".htm", ".xhtml")
# Parquet files, whose names keep them out of what a training reads from the folder.
WORK, DROPPED = "work/{:05}.records", "dropped/{:05}.records"
_COLUMNS = ("language", "language_score", "archive", "offset", "date", "extractor")
_ROWS = 1000


def read_input(path: Path) -> Iterator[Record]:
    """The records of an archive, of one HTML page, or of a text file (JSONL, Parquet, plain). Raises InputError."""
    if path.name.endswith(ARCHIVES):
        yield from read_archive(path)
    elif path.suffix in PAGES:
        html = path.read_bytes()
        yield Record(f"sha1:{hashlib.sha1(html).hexdigest()}", path.name, html, meta={"archive": path.name})
    else:
        for document in TextFiles([path]):
            row = document.name[len(str(path)) :].lstrip(":")
            name = hashlib.sha1(document.text.encode("utf-8", "replace")).hexdigest()
            meta = {"archive": path.name, "offset": int(row or 0)}
            yield Record(f"sha1:{name}", "", text=document.text, meta=meta)


def work_on(path: Path, target: Path, pipeline: Pipeline, minhash: MinHash | None) -> dict[str, Any]:
    """Write one input's records behind the stages, dropped ones too, with the band keys of the kept ones.

    Returns what is told about it: ``pages``, ``kept`` and ``seconds``. Raises InputError, OutputError.
    """
    start, counts = time.monotonic(), Counter[str]()

    def rows() -> Iterator[dict[str, Any]]:
        for record in pipeline(read_input(path)):
            counts["kept" if not record.drop_reason else "dropped"] += 1
            row = _row(record)
            if minhash is not None and not record.drop_reason:
                row["bands"] = _bands(record, minhash).tobytes()
            yield row

    write_records(target, rows())
    return {"pages": counts.total(), "kept": counts["kept"], "seconds": time.monotonic() - start}


def find_duplicates(files: Sequence[Path]) -> list[dict[int, str]]:
    """For each intermediate file its kept records that are duplicates: row -> id of the record that stays.

    The one with the least hash of its id stays, so that the choice depends on no order.
    """
    names: list[str] = []
    places: list[tuple[int, int]] = []
    keys: list[np.ndarray] = []
    for number, file in enumerate(files):
        row = 0
        for batch in _batches(file, ["id", "bands"]):
            for name, bands in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                if bands is not None:
                    names.append(name)
                    places.append((number, row))
                    keys.append(np.frombuffer(bands, np.uint64))
                row += 1
    repeats: list[dict[int, str]] = [{} for _ in files]
    if names:
        found = duplicates(np.array([hash64(name) for name in names], np.uint64), np.stack(keys))
        for i in np.flatnonzero(found != np.arange(len(found))):
            number, row = places[i]
            repeats[number][row] = names[found[i]]
    return repeats


def finish(source: Path, number: int, output: Path, repeats: dict[int, str], form: str) -> dict[str, Any]:
    """Write an input's part (``form``: parquet or jsonl.zst) and its dropped records; its summary for the report."""
    part = output / f"part-{number:05}.{form}"
    summary = Summary()
    write_records(
        output / DROPPED.format(number), (row for row in _judged(source, repeats) if row["drop_reason"])
    )

    def kept() -> Iterator[dict[str, Any]]:
        for row in _judged(source, repeats):
            summary.add(row)
            if not row["drop_reason"]:
                yield row

    if form == "parquet":
        write_records(part, kept(), keep_reason=False)
    else:
        _write_lines(part, kept())
    return summary.to_json()


def read_records(path: Path) -> Iterator[Record]:
    """The records of a part or of a file of dropped ones. Raises DataError."""
    for batch in _batches(path, None):
        for row in batch.to_pylist():
            meta = json.loads(row.pop("meta")) | {
                name: row[name] for name in _COLUMNS if row[name] is not None
            }
            yield Record(
                row["id"], row["uri"], text=row["text"], meta=meta, drop_reason=row.get("drop_reason") or ""
            )


class Summary:
    """Counts for the report: reasons, languages, lengths, and the first records of each archive's problems."""

    NAMED = 20

    def __init__(self) -> None:
        self.pages = self.kept = self.characters = 0
        self.reasons, self.languages, self.lengths = Counter[str](), Counter[str](), Counter[int]()
        self.bad: list[str] = []

    def add(self, row: dict[str, Any]) -> None:
        self.pages += 1
        self.languages[row["language"] or "?"] += 1
        reason = row["drop_reason"]
        if not reason:
            self.kept += 1
            self.characters += len(row["text"])
            self.lengths[len(row["text"]).bit_length()] += 1
            return
        self.reasons["duplicate" if reason.startswith("duplicate:") else reason] += 1
        if reason.startswith(("archive:", "extraction: over")) and len(self.bad) < self.NAMED:
            self.bad.append(f"{row['archive']}, offset {row['offset']}: {reason}")

    def to_json(self) -> dict[str, Any]:
        return {
            "pages": self.pages,
            "kept": self.kept,
            "characters": self.characters,
            "dropped": dict(self.reasons.most_common()),
            "languages": dict(self.languages.most_common()),
            "characters_log2": {str(key): self.lengths[key] for key in sorted(self.lengths)},
            "bad_records": self.bad,
        }


def merged(summaries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One summary of several."""
    total = Summary()
    for item in summaries:
        total.pages, total.kept = total.pages + item["pages"], total.kept + item["kept"]
        total.characters += item["characters"]
        total.reasons.update(item["dropped"])
        total.languages.update(item["languages"])
        total.lengths.update({int(key): count for key, count in item["characters_log2"].items()})
        total.bad += item["bad_records"]
    return total.to_json()


def write_records(path: Path, rows: Iterable[dict[str, Any]], *, keep_reason: bool = True) -> None:
    """Rows as a Parquet file (zstd), atomically. Raises OutputError."""
    import pyarrow as pa
    from pyarrow import parquet

    fields = [("id", pa.string()), ("uri", pa.string()), ("text", pa.large_string())]
    fields += [("language", pa.string()), ("language_score", pa.float64()), ("archive", pa.string())]
    fields += [
        ("offset", pa.int64()),
        ("date", pa.string()),
        ("extractor", pa.string()),
        ("meta", pa.string()),
    ]
    if keep_reason:
        fields += [("drop_reason", pa.string()), ("bands", pa.binary())]
    schema = pa.schema(fields)
    with atomic_write(path) as file, parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        held: list[dict[str, Any]] = []
        for row in rows:
            held.append(row)
            if len(held) == _ROWS:
                writer.write_table(pa.Table.from_pylist(held, schema))
                held = []
        if held:
            writer.write_table(pa.Table.from_pylist(held, schema))


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    import pyarrow as pa

    with atomic_write(path) as file, pa.output_stream(file.name, compression="zstd") as packed:
        for row in rows:
            row = {name: row[name] for name in ("id", "uri", "text", *_COLUMNS)} | json.loads(row["meta"])
            packed.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


def _judged(source: Path, repeats: dict[int, str]) -> Iterator[dict[str, Any]]:
    number = 0
    for batch in _batches(source, None):
        for row in batch.to_pylist():
            if number in repeats:
                row["drop_reason"] = f"duplicate: of {repeats[number]}"
            row["bands"] = None
            yield row
            number += 1


def _batches(path: Path, columns: list[str] | None) -> Iterator[Any]:
    from pyarrow import ArrowInvalid, parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(_ROWS, columns=columns)
    except (ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a file of records: {error}") from error


def _row(record: Record) -> dict[str, Any]:
    meta = {name: value for name, value in record.meta.items() if name not in (*_COLUMNS, "charset")}
    row = {name: record.meta.get(name) for name in _COLUMNS}
    text = record.text.encode("utf-8", "replace").decode()
    return row | {
        "id": record.id,
        "uri": record.uri,
        "text": text,
        "meta": json.dumps(meta, ensure_ascii=False),
        "drop_reason": record.drop_reason,
        "bands": None,
    }


def _bands(record: Record, minhash: MinHash) -> np.ndarray:
    signature = minhash.signature(record.text)
    if signature is None:  # too short to compare: a duplicate of itself alone
        return np.full(minhash.bands, hash64(record.id), np.uint64)
    return minhash.band_keys(signature)

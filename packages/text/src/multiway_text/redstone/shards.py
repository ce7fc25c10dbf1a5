"""A build on disk: each input becomes one intermediate file, repeats are found over all, each becomes one part.

Every step is a job that reads files and writes files, each whole or not at all, so that any engine may run it anywhere:
a job for each input (`work_on`), for each band of the signatures (`group_band`), for each share of the lines
(`group_lines`), and for each part (`finish`). `connect` alone sees all pairs. A finished file is the ledger: a stopped
build redoes the inputs that have none. What a part holds depends on the inputs alone, not on who worked on them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.files import atomic_write, write_text

from multiway_text.redstone.archive import read_archive
from multiway_text.redstone.duplicates import band_edges, line_hashes, repeated_lines, representatives
from multiway_text.redstone.minhash import MinHash, hash64
from multiway_text.redstone.pipeline import Pipeline
from multiway_text.redstone.record import Record
from multiway_text.redstone.storage import batches, json_lines_file, parquet_file, read_texts, row_of, schema

ARCHIVES = (".warc", ".warc.gz", ".wet", ".wet.gz")
PAGES = (".html", ".htm", ".xhtml")
# Parquet files, whose names keep them out of what a training reads from the folder.
WORK, DROPPED = "work/{:05}.records", "dropped/{:05}.records"


@dataclass(frozen=True)
class Repeats:
    """What counts as a repeat in a build.

    Attributes:
        minhash: near-duplicate documents go by it; None: they stay.
        lines: whether lines go that stand in another document, or before in the same one.
    """

    minhash: MinHash | None = field(default_factory=MinHash)
    lines: bool = False


def read_input(path: Path) -> Iterator[Record]:
    """The records of an archive, of one HTML page, or of a text file (JSONL, Parquet, plain). Raises InputError."""
    if path.name.endswith(ARCHIVES):
        yield from read_archive(path)
    elif path.suffix in PAGES:
        html = path.read_bytes()
        yield Record(f"sha1:{hashlib.sha1(html).hexdigest()}", path.name, html, meta={"archive": path.name})
    else:
        yield from read_texts(path)


def work_on(path: Path, target: Path, pipeline: Pipeline, repeats: Repeats = Repeats()) -> dict[str, Any]:
    """Write one input's records behind the stages, dropped ones too, with the hashes that repeats are found by.

    Returns what is told about it: ``pages``, ``kept`` and ``seconds``. Raises InputError, OutputError.
    """
    start, counts = time.monotonic(), Counter[str]()
    bands = repeats.minhash.bands if repeats.minhash else 0

    hashes = [(name, "uint64") for name in ("hash", *_bands(bands))]
    columns = schema(("drop_reason", "string"), *hashes, ("lines", "binary"))
    with parquet_file(target, columns) as write:
        for record in pipeline(read_input(path)):
            counts["kept" if not record.drop_reason else "dropped"] += 1
            row = row_of(record)
            if not record.drop_reason:
                row["hash"] = hash64(record.id)
                if repeats.minhash:
                    row |= zip(_bands(bands), _keys(record, repeats.minhash).tolist(), strict=True)
                if repeats.lines:
                    row["lines"] = line_hashes(record.text).tobytes()
            write(row)
    return {"pages": counts.total(), "kept": counts["kept"], "seconds": time.monotonic() - start}


def group_band(works: Sequence[Path], band: int, target: Path) -> None:
    """Write the pairs of documents that one band connects: `band_edges`, documents counted over all files."""
    (name,) = _bands(band + 1)[band:]
    _save(target, band_edges(*_columns(works, "hash", name)))


def connect(works: Sequence[Path], edges: Sequence[Path]) -> None:
    """Write beside each intermediate file which of its rows are duplicates: row -> id of the record that stays.

    The one with the least hash of its id stays, so that the choice depends on no order.
    """
    hashes, rows = _columns(works, "hash"), []
    for work in works:
        rows.append([row for row, value in enumerate(_values(work, "hash")) if value is not None])
    stays = representatives(hashes[0], map(np.load, edges))
    ends = np.cumsum([len(found) for found in rows])
    names: dict[int, str] = {}
    wanted = set(stays[stays != np.arange(len(stays))].tolist())
    for work, found, end in zip(works, rows, ends, strict=True):
        first = int(end) - len(found)
        if wanted & set(range(first, int(end))):
            ids = list(_values(work, "id"))
            names |= {first + i: ids[row] for i, row in enumerate(found) if first + i in wanted}
    for work, found, end in zip(works, rows, ends, strict=True):
        first = int(end) - len(found)
        told = {row: names[stays[first + i]] for i, row in enumerate(found) if stays[first + i] != first + i}
        write_text(_duplicates_of(work), json.dumps(told))


def group_lines(works: Sequence[Path], share: int, shares: int, target: Path) -> None:
    """Write the repeated lines of those whose hash falls into a share: (file, row, line) of each, int64 (3, R)."""
    found: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    for number, work in enumerate(works):
        gone = _read_duplicates(work)
        for row, (owner, data) in enumerate(zip(_values(work, "hash"), _values(work, "lines"), strict=True)):
            if data is None or row in gone:
                continue
            hashes = np.frombuffer(data, np.uint64)
            (lines,) = np.nonzero(hashes % np.uint64(shares) == share)
            place = np.full((3, len(lines)), [[number], [row], [0]])
            place[2] = lines
            found.append(np.concatenate((place.astype(np.uint64), hashes[None, lines])))
            owners.append(np.full(len(lines), owner, np.uint64))
    all_ = np.concatenate([np.zeros((4, 0), np.uint64), *found], axis=1)
    is_repeat = repeated_lines(all_[3], np.concatenate([np.zeros(0, np.uint64), *owners]))
    _save(target, all_[:3, is_repeat].astype(np.int64))


def divide_lines(works: Sequence[Path], shares: Sequence[Path]) -> None:
    """Write beside each intermediate file which of its lines go, of what `group_lines` has found."""
    found = np.concatenate([np.zeros((3, 0), np.int64), *map(np.load, shares)], axis=1)
    for number, work in enumerate(works):
        _save(work.with_suffix(".lines.npy"), found[1:, found[0] == number])


def finish(source: Path, number: int, output: Path, form: str) -> dict[str, Any]:
    """Write an input's part (``form``: parquet or jsonl.zst) and its dropped records; its summary for the report."""
    part = output / f"part-{number:05}.{form}"
    dropped = output / DROPPED.format(number)
    summary = Summary()
    with (
        parquet_file(part, schema()) if form == "parquet" else json_lines_file(part) as keep,
        parquet_file(dropped, schema(("drop_reason", "string"))) as drop,
    ):
        for row in _judged(source):
            summary.add(row)
            (drop if row["drop_reason"] else keep)(row)
    return summary.to_json()


class Summary:
    """Counts for the report: reasons, languages, lengths, and the first records of each archive's problems."""

    NAMED = 20

    def __init__(self) -> None:
        self.pages = self.kept = self.characters = self.repeated_lines = 0
        self.reasons, self.languages, self.lengths = Counter[str](), Counter[str](), Counter[int]()
        self.bad: list[str] = []

    def add(self, row: dict[str, Any]) -> None:
        self.pages += 1
        self.languages[row["language"] or "?"] += 1
        self.repeated_lines += row["repeated_lines"]
        reason = row["drop_reason"]
        if not reason:
            self.kept += 1
            self.characters += len(row["text"])
            self.lengths[len(row["text"]).bit_length()] += 1
            return
        self.reasons["duplicate" if reason.startswith("duplicate:") else reason] += 1
        if (
            reason.startswith(("archive:", "response: a page", "extraction: over"))
            and len(self.bad) < self.NAMED
        ):
            self.bad.append(f"{row['archive']}, offset {row['offset']}: {reason}")

    def to_json(self) -> dict[str, Any]:
        return {
            "pages": self.pages,
            "kept": self.kept,
            "characters": self.characters,
            "repeated_lines": self.repeated_lines,
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
        total.repeated_lines += item["repeated_lines"]
        total.reasons.update(item["dropped"])
        total.languages.update(item["languages"])
        total.lengths.update({int(key): count for key, count in item["characters_log2"].items()})
        total.bad += item["bad_records"]
    return total.to_json()


def _judged(source: Path) -> Iterator[dict[str, Any]]:
    """The rows of an intermediate file without their repeats."""
    repeats = _read_duplicates(source)
    path = source.with_suffix(".lines.npy")
    rows, lines = np.load(path) if path.is_file() else np.zeros((2, 0), np.int64)
    order = np.argsort(rows, kind="stable")
    rows, lines, number = rows[order], lines[order], 0
    for batch in batches(source):
        for row in batch.to_pylist():
            gone = set(lines[slice(*np.searchsorted(rows, [number, number + 1]))].tolist())
            row["repeated_lines"] = len(gone)
            if number in repeats:
                row["drop_reason"] = f"duplicate: of {repeats[number]}"
            elif gone:
                kept = [line for i, line in enumerate(row["text"].split("\n")) if i not in gone]
                if any(map(str.strip, kept)):
                    row["text"] = "\n".join(kept)
                else:
                    row["drop_reason"] = "duplicate: of lines elsewhere"
            yield row
            number += 1


def _duplicates_of(work: Path) -> Path:
    return work.with_suffix(".duplicates.json")


def _read_duplicates(work: Path) -> dict[int, str]:
    path = _duplicates_of(work)
    return {int(row): name for row, name in json.loads(path.read_text()).items()} if path.is_file() else {}


def _save(path: Path, array: np.ndarray) -> None:
    with atomic_write(path) as file:
        np.save(file, array)


def _columns(works: Sequence[Path], *names: str) -> list[np.ndarray]:
    """Columns of hashes (uint64) of all files' kept records."""
    parts: list[list[np.ndarray]] = [[np.zeros(0, np.uint64)] for _ in names]
    for work in works:
        for batch in batches(work, list(names)):
            for part, column in zip(parts, batch.columns, strict=True):
                part.append(column.drop_null().to_numpy(zero_copy_only=False))
    return [np.concatenate(part) for part in parts]


def _values(work: Path, name: str) -> Iterator[Any]:
    for batch in batches(work, [name]):
        yield from batch.column(0).to_pylist()


def _bands(count: int) -> list[str]:
    return [f"band_{band:02}" for band in range(count)]


def _keys(record: Record, minhash: MinHash) -> np.ndarray:
    signature = minhash.signature(record.text)
    if signature is None:  # too short to compare: a duplicate of itself alone
        return np.full(minhash.bands, hash64(record.id), np.uint64)
    return minhash.band_keys(signature)

"""RedStone's published index: the pages of archives that are worth extracting, by ``cc_path`` and ``uri``."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from multiway_core.errors import DataError
from multiway_core.files import atomic_write

from multiway_text.redstone.archive import Limits, members

Index = Mapping[str, frozenset[str]]
"""``cc_path`` -> addresses."""
_TARGET = re.compile(r"^WARC-Target-URI:(.*)$", re.MULTILINE | re.IGNORECASE)


def read_index(paths: Iterable[Path]) -> dict[str, frozenset[str]]:
    """The index in Parquet files with the columns ``cc_path`` and ``uri``. Raises DataError: a file is none."""
    from pyarrow import ArrowException, parquet

    found: dict[str, set[str]] = {}
    for path in paths:
        try:
            with parquet.ParquetFile(path) as file:
                names = file.schema_arrow.names
                if not {"cc_path", "uri"} <= set(names):
                    raise DataError(f"{path}: no columns cc_path and uri; there are {', '.join(names[:8])}")
                for batch in file.iter_batches(columns=["cc_path", "uri"]):
                    for place, uri in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                        if not isinstance(place, str) or not isinstance(uri, str):
                            raise DataError(f"{path}: cc_path and uri must be text in every row")
                        found.setdefault(place, set()).add(uri)
        except (ArrowException, OSError) as error:
            raise DataError(f"{path}: not a Parquet file: {error}") from error
    return {place: frozenset(uris) for place, uris in found.items()}


def write_index(path: Path, index: Index) -> None:
    """Write an index, sorted by ``cc_path`` and ``uri``. Raises OutputError."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = sorted((place, uri) for place, uris in index.items() for uri in uris)
    columns = [pa.array([row[i] for row in rows], pa.string()) for i in range(2)]
    with atomic_write(path) as file:
        parquet.write_table(pa.table(columns, names=["cc_path", "uri"]), file, compression="zstd")


def wanted_records(archive: BinaryIO, uris: frozenset[str]) -> Iterator[bytes]:
    """The records of these addresses in an archive that is packed by record, each as a gzip member."""
    for _, data, problem in members(archive, Limits().unpacked):
        head = data.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
        found = _TARGET.search(head)
        if not problem and found and found[1].strip().strip("<>") in uris and "WARC-Type: response" in head:
            yield gzip.compress(data, mtime=0)

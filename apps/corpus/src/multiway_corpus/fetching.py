"""Pages by an index: fetched from where the archives lie, and the index of what was built."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote, urljoin
from urllib.request import urlopen

from multiway_core.app import BatchLog
from multiway_core.errors import InputError
from multiway_core.files import atomic_write
from multiway_text.redstone.index import read_index, wanted_records, write_index
from multiway_text.redstone.storage import read_records

from multiway_corpus.app import APP
from multiway_corpus.building import read_report

TIMEOUT = 60.0


def fetch(indexes: Sequence[Path], output: Path, base_url: str, limit: int | None, log: BatchLog) -> int:
    """How many archives are there at the end. Raises DataError for an index that is none; failures go to the log."""
    wanted = sorted(read_index(indexes).items())[:limit]
    done = 0
    for place, uris in wanted:
        # The name is a digest: what an index says is never used as a path.
        target = output / f"{hashlib.sha1(place.encode()).hexdigest()[:16]}.warc.gz"
        if not target.is_file():
            try:
                found = _fetch(urljoin(base_url, quote(place.lstrip("/"))), target, uris)
            except (OSError, URLError, ValueError) as error:
                log.fail(place, f"{place}: cannot be fetched: {getattr(error, 'reason', error)}")
                continue
            APP.note(f"{place}: {found:,} of {len(uris):,} pages")
        done += 1
    return done


def index_of(source: Path, output: Path, prefix: str) -> int:
    """Write the index of the pages that a build has kept; how many they are. Raises InputError."""
    read_report(source)
    found: dict[str, set[str]] = {}
    for part in sorted(source.glob("part-*")):
        for record in read_records(part):
            if record.uri:
                found.setdefault(prefix + record.meta["archive"], set()).add(record.uri)
    if not found:
        raise InputError(f"{source}: no page with an address")
    write_index(output, {place: frozenset(uris) for place, uris in found.items()})
    return sum(map(len, found.values()))


def _fetch(address: str, target: Path, uris: frozenset[str]) -> int:
    with tempfile.TemporaryFile() as archive:
        with urlopen(address, timeout=TIMEOUT) as response:
            shutil.copyfileobj(response, archive, 1 << 20)
        archive.seek(0)
        count = 0
        with atomic_write(target) as file:
            for member in wanted_records(archive, uris):
                file.write(member)
                count += 1
    return count

"""Deduplication of 10^5 to 10^7 signatures: seconds, peak memory, and whether the planted groups come out.

Signatures are random; one in five repeats another one's rows in at least one band, as near-duplicates do. They are
written as the intermediate files of a build, and go through its steps: 17 bands, then the components. One process a
size; another one plants.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness

FILES = 10


def plant(folder: Path, count: int, seed: int) -> None:
    """Write intermediate files of records without texts, and each record's group: the index of the one it repeats."""
    import pyarrow as pa
    from pyarrow import parquet

    rng = np.random.default_rng(seed)
    keys = rng.integers(1, 1 << 63, (count, 17), dtype=np.uint64)
    copies = rng.permutation(count)[: count // 5]
    originals = np.setdiff1d(np.arange(count), copies, assume_unique=True)
    group = np.arange(count)
    group[copies] = rng.choice(originals, len(copies))
    is_equal = rng.random((len(copies), 17)) < 0.3
    is_equal[np.arange(len(copies)), rng.integers(0, 17, len(copies))] = True
    keys[copies] = np.where(is_equal, keys[group[copies]], keys[copies])
    hashes = rng.permutation(count).astype(np.uint64) * np.uint64(11400714819323198485)
    np.save(folder / "group.npy", group)
    for number, rows in enumerate(np.array_split(np.arange(count), FILES)):
        columns = {f"band_{band:02}": keys[rows, band] for band in range(17)}
        table = pa.table({"id": pa.array(map(str, rows)), "hash": hashes[rows], **columns})
        parquet.write_table(table, folder / f"{number:05}.records")


def measure(count: int, seed: int) -> dict[str, Any]:
    """One size: times of the bands and of the components, memory, pairs found of those planted."""
    from multiway_text.redstone import shards

    with tempfile.TemporaryDirectory() as name:
        planting = get_context("spawn").Process(target=plant, args=(Path(name), count, seed))
        planting.start()
        planting.join()
        works, group = sorted(Path(name).glob("*.records")), np.load(Path(name, "group.npy"))
        start = time.process_time()
        edges = [Path(name, f"{band}.npy") for band in range(17)]
        for band, path in enumerate(edges):
            shards.group_band(works, band, path)
        bands = time.process_time() - start
        shards.connect(works, edges)
        whole = time.process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found = [json.loads(path.with_suffix(".duplicates.json").read_text()) for path in works]
        sizes = [len(rows) for rows in np.array_split(np.arange(count), FILES)]
        first = np.cumsum([0, *sizes])
        stays = np.arange(count)
        for number, told in enumerate(found):
            rows = np.array(list(map(int, told)), np.int64)
            stays[first[number] + rows] = np.array(list(map(int, told.values())), np.int64)
        # The same partition: every planted group has one representative, and no two groups share one.
        pairs = np.unique(np.stack((group, stays)), axis=1)
        return {
            "signatures": count,
            "bands_cpu_seconds": bands,
            "components_cpu_seconds": whole - bands,
            "peak_MB": peak,
            "duplicates": int((stays != np.arange(count)).sum()),
            "the planted partition": len(pairs[0]) == len(np.unique(group)) == len(np.unique(stays)),
        }


def main() -> None:
    parser: argparse.ArgumentParser = harness.parser(__doc__, "text")
    parser.add_argument("--counts", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.seed)))
        return
    results = []
    for count in options.counts:
        command = [
            sys.executable,
            "-m",
            "benchmarks.text.corpus_dedup",
            "--one",
            str(count),
            "--seed",
            str(options.seed),
        ]
        results.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    seconds = [item["bands_cpu_seconds"] + item["components_cpu_seconds"] for item in results]
    ends = [math.log(item["signatures"]) for item in results]
    exponent = float(np.polyfit(ends, np.log(seconds), 1)[0]) if len(results) > 1 else float("nan")
    rows = [
        [
            f"{item['signatures']:,}",
            f"{item['bands_cpu_seconds']:.1f}",
            f"{item['components_cpu_seconds']:.1f}",
            f"{item['peak_MB']:.0f}",
            f"{item['duplicates']:,}",
            str(item["the planted partition"]),
        ]
        for item in results
    ]
    head = ["signatures", "bands, CPU s", "components, CPU s", "peak MB", "duplicates", "as planted"]
    page = f"{harness.table(head, rows)}\n\nCPU seconds grow with the {exponent:.2f}th power of the count.\n"
    values = {"results": results, "exponent": exponent}
    harness.save(options.output, "corpus-dedup", harness.provenance("corpus-dedup") | values, page)


if __name__ == "__main__":
    main()

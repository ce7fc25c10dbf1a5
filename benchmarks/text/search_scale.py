"""An index of 10,000, then 100,000, then 1,000,000 passages on one machine: time, memory, latency, recall.

Real: the texts of ``--data`` (rows with title and body), their vectors by the bundled model, whose speed is measured
alone, and the queries, which are titles of ``--queries``. Synthetic: the passages. The vector of a passage is that of a
real one, plus half of another's, plus a third of Gaussian noise, made to length 1; its text are sentences of the same
two. So words have the frequencies of real text, and vectors lie about as close; a passage means nothing.

    python -m benchmarks.text.search_scale --data descriptions.train.jsonl --queries descriptions.test.jsonl

Recall@10 of vectors: of the ten nearest by exact comparison, how many a query gets. Of BM25: of the ten best by all
passages with any of its words ("all terms"), the same; and what share of their scores its own ten have.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.evaluation.machine import peak_rss_bytes
from multiway_text.search import lexical, store, vectors
from multiway_text.search.chunks import Chunk, sentences
from multiway_text.search.pipeline import SearchPipeline
from multiway_text.search.store import Index, as_unit
from multiway_text.search.vectors import nearest_rows

from benchmarks import harness

MODES = ("dense", "bm25", "hybrid")
MEASURED = (*MODES, "all terms")
BLOCK = 5000
FEW = 50  # queries by all terms


def texts_of(path: Path, count: int) -> list[str]:
    """Title and body of every n-th row."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    rows = rows[:: max(1, len(rows) // count)][:count]
    return [f"{row['title']}. {row['body']}" for row in rows]


def blocks(
    texts: list[str], real_NE: np.ndarray, start: int, end: int
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Synthetic passages [start, end) with their vectors; see the module's description."""
    parts = [[text[a:b] for a, b in sentences(text)] for text in texts]
    for first in range(start, end, BLOCK):
        random = np.random.default_rng((1, first))
        size = min(BLOCK, end - first)
        one, other = random.integers(len(texts), size=(2, size))
        noise_NE = as_unit(random.standard_normal((size, real_NE.shape[1]), np.float32))
        made = [
            " ".join(random.permutation([*parts[a][:4], *parts[b][:2]]))
            for a, b in zip(one, other, strict=True)
        ]
        yield made, as_unit(real_NE[one] + real_NE[other] / 2 + noise_NE / 3)


def fill(index: Index, texts: list[str], real_NE: np.ndarray, start: int, end: int) -> dict[str, float]:
    """CPU seconds of what the database takes and of the graph; making the passages is not counted."""
    spent = 0.0
    with index.writing():
        for first, (made, made_NE) in enumerate(blocks(texts, real_NE, start, end)):
            begin = time.process_time()
            with index.transaction():
                for row, (text, vector_E) in enumerate(zip(made, made_NE, strict=True)):
                    name = f"{start + first * BLOCK + row:07}"
                    document = index.begin(name, "text", len(text), 0, "", whole=True)
                    index.add(document, [Chunk(text, 0, len(text))], vector_E[None])
                    index.set(document, sections=1)
            spent += time.process_time() - begin
        begin = time.process_time()
        vectors.extend_graph(index)
        graph = time.process_time() - begin
    return {"database": spent, "graph": graph}


def latencies(folder: Path, queries: list[str]) -> dict[str, Any]:
    """CPU seconds of queries in each mode, in a process of its own, with its memory; passages are not highlighted."""
    pipeline = SearchPipeline.from_pretrained("bundled:minilm-l6")
    pipeline.embed(queries)
    before = resident_bytes()
    found: dict[str, Any] = {}
    with pipeline.open(folder) as index:
        contenders: dict[str, Callable[[str], object]] = {
            mode: lambda query, mode=mode: pipeline.query(index, query, mode=mode, highlight=False)  # type: ignore[misc]
            for mode in MODES
        }
        contenders["all terms"] = lambda query: index.lexical(lexical.match(query), 10, candidates=1 << 40)
        for mode, ask in contenders.items():
            times = []
            for query in queries[:FEW] if mode == "all terms" else queries:
                begin = time.process_time()
                ask(query)
                times.append(time.process_time() - begin)
            found[mode] = {
                "first": times[0],
                "p50": float(np.median(times)),
                "p95": float(np.quantile(times, 0.95)),
                "max": max(times),
            }
        memory = resident_bytes() - before
        return found | {"memory": memory, "bm25_kept": bm25_kept(index, queries[:FEW])}


def bm25_kept(index: Index, queries: list[str]) -> dict[str, float]:
    """Of the ten best of all passages with any word, how many BM25 finds, and its share of their scores."""
    recalls, shares = [], []
    for terms in filter(None, map(lexical.match, queries)):
        best, own = (
            dict(index.lexical(terms, 10, candidates=count)) for count in (1 << 40, store.CANDIDATES)
        )
        recalls.append(len(best.keys() & own.keys()) / len(best))
        shares.append(sum(own.values()) / sum(best.values()))
    return {"recall": float(np.mean(recalls)), "score": float(np.mean(shares))}


def resident_bytes() -> int:
    """Of this process now, with the pages of the graph's file that it has touched; on Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def recall(folder: Path, queries_NE: np.ndarray) -> float:
    """Of the ten nearest vectors by exact comparison."""
    with Index(folder) as index:
        search = vectors.VectorSearch(index)
        found = [{number for number, _ in search.nearest(query_E, 10)} for query_E in queries_NE]
        del search
        gc.collect()
        ids, stored_ME = index.vectors()
        places_NK, _ = nearest_rows(queries_NE, stored_ME, 10, exact=len(ids))
        return float(
            np.mean(
                [len(one & set(ids[row].tolist())) / 10 for one, row in zip(found, places_NK, strict=True)]
            )
        )


def exponent(sizes: list[int], values: list[float]) -> float:
    """Of a power of the size, by least squares of logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-9)), 1)[0])


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--data", type=Path, required=True, metavar="FILE")
    parser.add_argument("--queries", type=Path, required=True, metavar="FILE")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--embedded", type=int, default=10_000)
    parser.add_argument("--asked", type=int, default=200)
    parser.add_argument("--measure", type=Path, metavar="INDEX", help="only the latencies, as JSON")
    options = parser.parse_args()
    titles = [text.partition(". ")[0] for text in texts_of(options.queries, options.asked)]
    if options.measure is not None:
        print(json.dumps(latencies(options.measure, titles)))
        return
    pipeline = SearchPipeline.from_pretrained("bundled:minilm-l6")
    texts = texts_of(options.data, options.embedded)
    begin = time.process_time()
    real_NE = pipeline.embed(texts)
    embedding = len(texts) / (time.process_time() - begin)
    queries_NE = pipeline.embed(titles, prompt="query")
    print(f"{embedding:.0f} passages a CPU second embedded", flush=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="search-scale-") as folder:
        output, start = Path(folder, "index"), 0
        for size in options.sizes:
            with pipeline.open(output, create=True) as index:
                spent = fill(index, texts, real_NE, start, size)
            command = [sys.executable, "-m", "benchmarks.text.search_scale", "--measure", str(output)]
            command += [
                "--data",
                str(options.data),
                "--queries",
                str(options.queries),
                "--asked",
                str(options.asked),
            ]
            asked = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            rows.append(
                {
                    "passages": size,
                    "added": size - start,
                    "seconds": spent,
                    "bytes": sum(path.stat().st_size for path in output.iterdir()),
                    "indexing_peak_memory": peak_rss_bytes(),
                    "query": asked,
                    "recall": recall(output, queries_NE),
                }
            )
            start = size
            report = harness.provenance("search-scale") | {
                "embedded_per_second": embedding,
                "rows": rows,
                "growth": growth(rows),
            }
            harness.save(options.output, "search-scale", report, page(report))


def growth(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Of the latencies, as powers of the size."""
    sizes = [row["passages"] for row in rows]
    return {
        f"{mode} {which}": exponent(sizes, [row["query"][mode][which] for row in rows])
        for mode in MEASURED
        for which in ("p50", "p95")
        if len(rows) > 1
    }


def page(report: dict[str, Any]) -> str:
    """The tables."""
    made = {
        "passages": lambda row: f"{row['passages']:,}",
        "into the database, passages/s": lambda row: f"{row['added'] / row['seconds']['database']:,.0f}",
        "into the graph, passages/s": lambda row: (
            f"{row['added'] / row['seconds']['graph']:,.0f}" if row["passages"] > vectors.EXACT else "–"
        ),
        "on disk, MB": lambda row: f"{row['bytes'] / 1e6:,.0f}",
        "peak memory of the index's process, MB": lambda row: f"{row['indexing_peak_memory'] / 1e6:,.0f}",
        "memory of a querying process, MB": lambda row: f"{row['query']['memory'] / 1e6:,.0f}",
        "recall@10 of vectors, %": lambda row: f"{100 * row['recall']:.1f}",
        "recall@10 of BM25, %": lambda row: f"{100 * row['query']['bm25_kept']['recall']:.1f}",
        "its share of the scores, %": lambda row: f"{100 * row['query']['bm25_kept']['score']:.1f}",
    }
    rows = [[cell(row) for cell in made.values()] for row in report["rows"]]
    sizes = [f"{row['passages']:,}" for row in report["rows"]]
    asked = [
        [
            f"{mode} {which}",
            *(f"{1000 * row['query'][mode][which]:.1f}" for row in report["rows"]),
            f"{report['growth'].get(f'{mode} {which}', float('nan')):.2f}",
        ]
        for mode in MEASURED
        for which in ("p50", "p95")
    ]
    described = (__doc__ or "").split("\n\n")
    return (
        f"# An index of a million passages\n\n{described[1]}\n\n{described[3]}\n\n"
        f"Embedding: {report['embedded_per_second']:.0f} passages a CPU second, one thread.\n\n"
        f"{harness.table(list(made), rows, 0)}"
        "\n\nPassages/s are of CPU seconds of one process; what a size has more than the one before. The process that "
        f"makes the index also holds the synthetic passages. BM25 scores at most {store.CANDIDATES:,} passages.\n\n"
        f"{harness.table(['a query, CPU ms', *sizes, 'grows by the power'], asked)}"
    )


if __name__ == "__main__":
    main()

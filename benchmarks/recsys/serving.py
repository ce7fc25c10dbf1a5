"""Serving news recommendations: latency and throughput with 100,000 news in the index, and what the index misses.

    python -m benchmarks.recsys.serving [--model bundled:news-portal] [--news 100000] [--requests 200] [--output DIR]

The catalogue is written by the simulator's generator, and its readers are simulated too; network, text features, click
graph, chains and index are the real ones. A request is what `NewsRecommender.recommend` does: history -> reader vector
-> candidates from the index -> exact scores -> filters and diversity -> ten news. Measured are

* latency one request after the other, by what is asked for (scores; what a score is made of; explanations with their
  checks), with the approximate index and with exact search;
* time a request in batches, and requests a second of two processes with one thread each;
* recall of the approximate index: the share of the exact best 10, 100 and 200 that it finds.

Wall times grow when other work shares the cores, so CPU milliseconds stand beside them.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np

if TYPE_CHECKING:
    from multiway_recsys.pipeline import NewsRecommender

TOP = 10
BATCHES = (1, 8, 32)
RECALL_AT = (10, 100, 200)
DETAILS = ("score", "parts", "explanation")


def note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def catalogue(
    model: str, num_news: int, num_readers: int, seed: int
) -> tuple[NewsRecommender, dict[str, float]]:
    """The model over a simulated portal of ``num_news`` articles; seconds of CPU that each step took."""
    from multiway_recsys.pipeline import NewsRecommender
    from multiway_recsys.simulator import PortalConfig, TextBank, simulate
    from multiway_recsys.simulator.headlines import lexicon, write_article

    recommender = NewsRecommender.from_pretrained(model)
    source = recommender.parts.text
    assert source is not None
    rng = np.random.default_rng([seed, 17])
    topics = lexicon()
    rows = rng.permutation(np.arange(num_news) % len(topics)).astype(np.int32)
    articles = [write_article(int(row), rng) for row in rows]
    titles, abstracts = tuple(a.title for a in articles), tuple(a.abstract for a in articles)
    seconds, started = {}, time.process_time()
    vectors = source.features(titles, abstracts, title_length=30, abstract_length=0)["text_vectors"]
    seconds["text features of all news"] = time.process_time() - started
    bank = TextBank(
        titles=titles,
        abstracts=abstracts,
        categories=tuple(topics[row].category for row in rows),
        subcategories=tuple(topics[row].name for row in rows),
        entities=tuple(a.entities for a in articles),
        topics=rows,
        vectors=vectors,
    )
    portal = simulate(PortalConfig(num_users=num_readers, seed=seed), bank)
    started = time.process_time()
    recommender = recommender.over(portal.news, portal.splits["test"])
    recommender = at_the_end(recommender)
    seconds["text features, click graph, chains, vectors"] = time.process_time() - started
    return recommender, seconds


def at_the_end(recommender: NewsRecommender) -> NewsRecommender:
    """The recommender at a moment at which all its news are out."""
    published = recommender.published_N
    assert published is not None
    about = replace(recommender.parts.about, until=int(published.max()))
    return type(recommender)(
        recommender.name, replace(recommender.parts, about=about), encoded=recommender.encoded
    )


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    return {f"p{p}": float(np.percentile(milliseconds, p)) for p in (50, 95, 99)} | {
        "mean": float(np.mean(milliseconds))
    }


def latencies(
    recommender: NewsRecommender, histories: list[list[str]], rules: Any, detail: Any
) -> dict[str, Any]:
    recommender.recommend(histories[0], top=TOP, rules=rules, detail=detail)
    wall, cpu = [], []
    for history in histories:
        w, c = time.perf_counter(), time.process_time()
        recommender.recommend(history, top=TOP, rules=rules, detail=detail)
        wall.append(1000 * (time.perf_counter() - w))
        cpu.append(1000 * (time.process_time() - c))
    return {"wall_ms": percentiles(wall), "cpu_ms": percentiles(cpu)}


def batched(
    recommender: NewsRecommender, histories: list[list[str]], rules: Any, size: int
) -> dict[str, float]:
    w, c = time.perf_counter(), time.process_time()
    for start in range(0, len(histories), size):
        recommender.recommend_many(histories[start : start + size], top=TOP, rules=rules)
    return {
        "wall_ms_a_request": 1000 * (time.perf_counter() - w) / len(histories),
        "cpu_ms_a_request": 1000 * (time.process_time() - c) / len(histories),
    }


def two_processes(recommender: NewsRecommender, histories: list[list[str]], rules: Any) -> dict[str, float]:
    """Two forked workers share the vectors and the index; each answers all requests in batches of 32."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    barrier = context.Barrier(3)

    def work() -> None:
        barrier.wait()
        results.put(batched(recommender, histories, rules, 32))

    workers = [context.Process(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    barrier.wait()
    started = time.perf_counter()
    found = [results.get() for _ in workers]
    seconds = time.perf_counter() - started
    for worker in workers:
        worker.join()
    cpu = float(np.mean([row["cpu_ms_a_request"] for row in found]))
    return {
        "requests_a_second_wall": 2 * len(histories) / seconds,
        "cpu_ms_a_request": cpu,
        "requests_a_second_of_two_free_cores": 2 * 1000 / cpu,
    }


def recalls(recommender: NewsRecommender, histories: list[list[str]], rules: Any) -> dict[str, float]:
    from multiway_recsys.data.tables import Ragged
    from multiway_recsys.glocim.scoring import user_vectors
    from multiway_recsys.serving.index import NewsIndex

    approximate = recommender.index(None, rules)
    exact = NewsIndex(approximate.vectors_Nd, approximate.rows_N, approximate=False)
    rows = [recommender.rows_of(history)[0] for history in histories]
    users = user_vectors(recommender.model, recommender.encoded, Ragged.from_rows(rows)).numpy()
    if approximate.vectors_Nd.shape[1] > users.shape[1]:  # the popularity term's place
        users = np.concatenate([users, np.ones((len(users), 1), np.float32)], axis=1)
    count = max(RECALL_AT)
    pairs = list(zip(approximate.search(users, count), exact.search(users, count), strict=True))
    return {
        f"recall@{k}": float(np.mean([len(set(a[0][:k]) & set(e[0][:k])) / k for a, e in pairs]))
        for k in RECALL_AT
    }


def table(report: dict[str, Any]) -> str:
    lines = [
        "| request | index | p50 ms | p95 ms | p99 ms | CPU ms, p50 | CPU ms, p99 |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for kind, details in report["latency"].items():
        for detail, row in details.items():
            wall, cpu = row["wall_ms"], row["cpu_ms"]
            cells = [f"{wall[key]:.1f}" for key in ("p50", "p95", "p99")]
            cells += [f"{cpu[key]:.1f}" for key in ("p50", "p99")]
            lines.append(f"| {detail} | {kind} | " + " | ".join(cells) + " |")
    lines += ["", "| batch | wall ms a request | CPU ms a request |", "|--:|--:|--:|"]
    for size, row in report["batches"].items():
        lines.append(f"| {size} | {row['wall_ms_a_request']:.2f} | {row['cpu_ms_a_request']:.2f} |")
    both = report["two_processes"]
    lines += [
        "",
        f"Two processes, batches of 32: {both['requests_a_second_wall']:.0f} requests a second as the machine was; "
        f"{both['cpu_ms_a_request']:.2f} CPU ms a request, which is "
        f"{both['requests_a_second_of_two_free_cores']:.0f} a second on two free cores.",
        "",
        "Recall of the approximate index: "
        + ", ".join(f"{value:.4f} ({key.removeprefix('recall')})" for key, value in report["recall"].items())
        + ".",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__, "recsys")
    parser.add_argument("--model", default="bundled:news-portal")
    parser.add_argument("--news", type=int, default=100_000)
    parser.add_argument("--readers", type=int, default=4_000)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()

    import torch
    from multiway_core.evaluation.machine import peak_rss_bytes
    from multiway_recsys.serving.index import NewsIndex
    from multiway_recsys.serving.reranking import RerankingOptions

    torch.set_num_threads(1)
    note("catalogue")
    recommender, seconds = catalogue(options.model, options.news, options.readers, options.seed)
    config = recommender.model.config
    name = (
        options.model
        if options.model.startswith("bundled:")
        else f"a trained model {config.hidden_size} wide"
    )
    rules = RerankingOptions(max_age_days=100_000)  # the whole catalogue is live
    note("index")
    cpu = time.process_time()
    index = recommender.index(None, rules)
    seconds["approximate index"] = time.process_time() - cpu
    lengths = recommender.readers.histories.lengths
    some = np.random.default_rng(options.seed).permutation(np.flatnonzero(lengths > 0))[: options.requests]
    histories = [recommender.history_of(recommender.readers.ids[row]) for row in some]
    note("recall")
    recall = recalls(recommender, histories, rules)
    latency: dict[str, dict[str, Any]] = {"approximate": {}, "exact": {}}
    for detail in DETAILS:
        note(f"latency: {detail}")
        latency["approximate"][detail] = latencies(recommender, histories, rules, detail)
    batches = {str(size): batched(recommender, histories, rules, size) for size in BATCHES}
    both = two_processes(recommender, histories, rules)
    note("exact search")
    (key,) = (key for key, value in recommender._indices.items() if value is index)
    recommender._indices[key] = NewsIndex(index.vectors_Nd, index.rows_N, approximate=False)
    latency["exact"]["score"] = latencies(recommender, histories, rules, "score")
    report = {
        **harness.provenance("news-serving"),
        "model": name,
        "news_in_index": len(index),
        "vector_size": index.vectors_Nd.shape[1],
        "requests": len(histories),
        "history_length": {"mean": float(lengths[some].mean()), "max": int(lengths[some].max())},
        "edges": recommender.parts.graph.num_edges,
        "cpu_seconds": seconds,
        "peak_rss_bytes": peak_rss_bytes(),
        "latency": latency,
        "batches": batches,
        "two_processes": both,
        "recall": recall,
        "seed": options.seed,
    }
    steps = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    page = (
        "# Serving news recommendations\n\n"
        f"{len(index):,} simulated news in the index ({index.vectors_Nd.shape[1]} numbers each), {name}, "
        f"{len(histories)} requests of simulated readers ({lengths[some].mean():.0f} clicks on average), top {TOP}; "
        f"one thread, {report['machine']['cpu']}, load average {report['machine']['load_average']:.1f}, "
        f"{harness.STARTED_AT}. "
        f"Made once, in CPU seconds: {steps}.\n\n" + table(report) + "\n"
    )
    harness.save(options.output, "news-serving", report, page)


if __name__ == "__main__":
    main()

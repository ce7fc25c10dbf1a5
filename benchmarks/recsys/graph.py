"""Building the click graph and choosing long chains: ours, the papers' code, and networkx; seconds and peak memory.

    python -m benchmarks.recsys.graph [--edges 100000 1000000 10000000] [--budget 240] [--output DIR]

The log is generated (seeded): readers who move through time, news that are read around their publication, a few of
them by many. One news a 20 edges; vectors of 400 numbers. Every measurement is a process of its own: seconds of CPU and
of wall time without imports and without making the log, and the peak resident set above that of the log.

* **ours, default rule**: graph, co-readers of the next 20 clicks, and chains of 8 steps from every news.
* **ours, intended rule**: graph and chains of 6 steps as the released code means them; the work of the two peers.
* **ours, streamed**: graph and co-readers from chunks of the log through the disk, memory bounded.
* **papers' code**: a Counter over Python tuples; for every news a search through all edges for its neighbours
  (`torch.where`, `torch.sort`), as GLORY and GLoCIM do; then a walk from every news with one product a step, as the
  released encoder does for every click of every batch. Written anew after the published code.
* **networkx**: a DiGraph, the neighbours of every news sorted once, and the same walk.

A peer that would take longer than `--budget` CPU seconds is measured on its first nodes, in a random order, after the
whole graph was counted; the rest is extrapolated in proportion, and marked so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import numpy as np
from multiway_recsys.data.tables import Ragged
from multiway_recsys.graph import INTENDED, ClickGraph, CoReaders, select_chains
from multiway_recsys.graph.streaming import HistoryChunk, build_from_log

EDGES_PER_NEWS = 20
CLICKS_PER_EDGE = 1.2
MEAN_HISTORY = 32
WIDTH = 400
STEPS, BRANCHES = 6, 3
SIDES = {
    "default": "ours, default rule",
    "intended": "ours, intended rule",
    "streamed": "ours, streamed",
    "papers": "papers' code",
    "networkx": "networkx",
}
PEERS = ("papers", "networkx")
TARGETS = {"seconds": 90.0, "peak_gib": 6.0, "times_faster": 50.0, "edges": 10_000_000}


def made_log(edges: int, seed: int = 0) -> tuple[Ragged, int]:
    """Histories with about `edges` distinct steps, and the number of news."""
    generator = np.random.default_rng(seed)
    num_news = edges // EDGES_PER_NEWS + 1
    clicks = int(edges * CLICKS_PER_EDGE)
    lengths = 2 + generator.geometric(1 / (MEAN_HISTORY - 2), clicks // MEAN_HISTORY)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    total = int(offsets[-1])
    # A reader comes by every few hours of a month, and reads what came out within the last days, good news rather.
    pause = generator.exponential(1 / 150, total)
    elapsed = np.cumsum(pause)
    elapsed -= np.repeat(elapsed[offsets[:-1]], lengths)
    moment = np.repeat(generator.random(len(lengths)), lengths) + elapsed
    day = (num_news - 1) / 30
    age = generator.exponential(1.0, total) * day
    published = (moment * (num_news - 1) - age) % (num_news - 1)
    # Every hundredth news is a hit that takes a fifth of the clicks around it, as in MIND.
    hit = generator.random(total) < 0.2
    published = np.where(hit, published // 100 * 100, published)
    return Ragged(1 + published.astype(np.int32), offsets), num_news


def made_vectors(num_news: int) -> np.ndarray:
    """(news, 400) float16, as news vectors are kept: 200 topics and noise."""
    generator = np.random.default_rng(1)
    topics = generator.standard_normal((200, WIDTH), dtype=np.float32)
    vectors = np.empty((num_news, WIDTH), np.float16)
    noise = generator.standard_normal(
        (8192, WIDTH), dtype=np.float32
    )  # drawn once: it takes longer than the rest
    for low in range(0, num_news, 8192):
        part = vectors[low : low + 8192]
        part[:] = topics[generator.integers(0, 200, len(part))] + noise[: len(part)]
    vectors[0] = 0
    return vectors


def run_default(log: Ragged, num_news: int, stage: Callable[[str], None], _: float) -> dict[str, Any]:
    graph = ClickGraph.build(log, None, num_news)
    stage("graph")
    co_readers = CoReaders.build(log, None, num_news)
    stage("co_readers")
    chains = select_chains(graph, co_readers, made_mapped_vectors(num_news))
    stage("chains")
    return {"edges": graph.num_edges, "chain_news": int((chains > 0).sum())}


def run_intended(log: Ragged, num_news: int, stage: Callable[[str], None], _: float) -> dict[str, Any]:
    graph = ClickGraph.build(log, None, num_news, direction="in")
    stage("graph")
    chains = select_chains(graph, None, made_mapped_vectors(num_news), config=INTENDED)
    stage("chains")
    return {"edges": graph.num_edges, "chain_news": int((chains > 0).sum())}


def run_streamed(log: Ragged, num_news: int, stage: Callable[[str], None], _: float) -> dict[str, Any]:
    users = np.arange(len(log))
    chunks = (
        HistoryChunk(log.take(rows), rows)
        for rows in np.array_split(users, max(1, len(log.values) // 1_000_000))
    )
    with tempfile.TemporaryDirectory() as place:
        made = build_from_log(chunks, num_news, Path(place) / "graph", partitions=32, scratch=Path(place))
        edges = made.graph.num_edges
    stage("graph")
    return {"edges": edges}


def run_papers(log: Ragged, num_news: int, stage: Callable[[str], None], budget: float) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    vectors = torch.from_numpy(made_mapped_vectors(num_news).astype(np.float32))
    stage("vectors")
    steps: list[tuple[int, int]] = []
    for row in range(len(log)):
        steps.extend(pairwise(log[row].tolist()))
    weights = Counter(steps)
    unique = list(weights.keys())
    edge_index = torch.tensor(list(zip(*unique, strict=True)), dtype=torch.long)
    edge_attr = torch.tensor([weights[edge] for edge in unique], dtype=torch.long)
    stage("graph")
    order = 1 + np.random.default_rng(2).permutation(num_news - 1)
    neighbours: dict[int, list[int]] = {}

    def neighbours_of(node: int) -> None:
        edges = torch.where(edge_index[1] == node)[0]
        _, indices = torch.sort(edge_attr[edges], descending=True)
        neighbours[node] = edge_index[0][edges][indices].tolist()

    done = _until(budget, order.tolist(), neighbours_of)
    stage("neighbours")
    # The walk needs the neighbours of every news that it comes to; where they were cut short, they come from our graph.
    if done < num_news - 1:
        graph = ClickGraph.build(log, None, num_news, direction="in")
        neighbours = {node: graph.neighbours(node)[:BRANCHES].tolist() for node in range(1, num_news)}
        stage("vectors")

    def walk(node: int) -> None:
        current, here = vectors[node].unsqueeze(0), node
        for _ in range(STEPS):
            group = neighbours[here][:BRANCHES]
            if not group:
                break
            scores = torch.matmul(vectors[group], current.t())
            here = group[torch.max(scores, 0)[1].item()]

    walked = _until(budget, order.tolist(), walk)
    stage("chains")
    return {"edges": len(unique), "done": {"neighbours": done, "chains": walked}}


def run_networkx(log: Ragged, num_news: int, stage: Callable[[str], None], budget: float) -> dict[str, Any]:
    import networkx

    vectors = made_mapped_vectors(num_news).astype(np.float32)
    stage("vectors")
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(1, num_news))
    for row in range(len(log)):
        for one, other in pairwise(log[row].tolist()):
            if graph.has_edge(one, other):
                graph[one][other]["weight"] += 1
            else:
                graph.add_edge(one, other, weight=1)
    stage("graph")
    order = 1 + np.random.default_rng(2).permutation(num_news - 1)

    neighbours: dict[int, list[int]] = {}

    def neighbours_of(node: int) -> None:
        before = sorted(graph.predecessors(node), key=lambda other: -graph[other][node]["weight"])
        neighbours[node] = before[:BRANCHES]

    done = _until(budget, order.tolist(), neighbours_of)
    stage("neighbours")
    if done < num_news - 1:
        raise RuntimeError(f"{done} of {num_news - 1} news within {budget} s: give a larger --budget")

    def walk(node: int) -> None:
        here = node
        for _ in range(STEPS):
            group = neighbours[here]
            if not group:
                break
            here = group[int(np.argmax(vectors[group] @ vectors[node]))]

    walked = _until(budget, order.tolist(), walk)
    stage("chains")
    return {"edges": graph.number_of_edges(), "done": {"neighbours": done, "chains": walked}}


def _until(budget: float, nodes: list[int], step: Callable[[int], Any]) -> int:
    """Nodes done before the CPU time is up."""
    end = time.process_time() + budget
    for done, node in enumerate(nodes):
        if time.process_time() > end:
            return done
        step(node)
    return len(nodes)


_VECTORS: dict[str, Path] = {}


def made_mapped_vectors(num_news: int) -> np.ndarray:
    """The vectors of this run, mapped from their file."""
    vectors = np.load(_VECTORS["path"], mmap_mode="r")
    if len(vectors) != num_news:
        raise RuntimeError("the vectors are those of another size")
    return vectors


def status_bytes(key: str) -> int:
    for row in Path("/proc/self/status").read_text().splitlines():
        if row.startswith(key + ":"):
            return int(row.split()[1]) * 1024
    raise RuntimeError(f"this system does not tell {key}")


def work(side: str, folder: Path, budget: float) -> dict[str, Any]:
    """Measure one side in this fresh process."""
    import importlib

    for name in {"papers": ["torch"], "networkx": ["networkx"]}.get(side, []):
        importlib.import_module(name)
    log = Ragged(np.load(folder / "values.npy"), np.load(folder / "offsets.npy"))
    num_news = int(np.load(folder / "num_news.npy"))
    _VECTORS["path"] = folder / "vectors.npy"
    stages: dict[str, dict[str, float]] = {}
    marks = [time.process_time(), time.perf_counter()]

    def stage(name: str) -> None:
        now = [time.process_time(), time.perf_counter()]
        stages[name] = {"cpu_seconds": now[0] - marks[0], "wall_seconds": now[1] - marks[1]}
        marks[:] = [time.process_time(), time.perf_counter()]

    before = status_bytes("VmRSS")
    runs = {
        "default": run_default,
        "intended": run_intended,
        "streamed": run_streamed,
        "papers": run_papers,
        "networkx": run_networkx,
    }
    made = runs[side](log, num_news, stage, budget)
    stages.pop("vectors", None)  # reading what is given is nobody's work
    for name, done in made.pop("done", {}).items():
        stages[name]["nodes_done"] = done
        stages[name]["nodes"] = num_news - 1
    return made | {
        "stages": stages,
        "num_news": num_news,
        "clicks": len(log.values),
        "before_rss_bytes": before,
        "peak_rss_bytes": status_bytes("VmHWM"),
    }


def total(run: dict[str, Any], key: str = "cpu_seconds") -> float:
    """Seconds of all stages, those that were cut short in proportion to their nodes."""
    return sum(
        part[key] * part.get("nodes", 1) / part.get("nodes_done", 1) for part in run["stages"].values()
    )


def is_extrapolated(run: dict[str, Any]) -> bool:
    return any(part.get("nodes_done", 1) < part.get("nodes", 1) for part in run["stages"].values())


def measure(
    edges: int, sides: list[str], budget: float, scratch: Path | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each side and its numbers, as they are measured."""
    with tempfile.TemporaryDirectory(prefix="news-graph-", dir=scratch) as place:
        folder = Path(place)
        log, num_news = made_log(edges)
        np.save(folder / "values.npy", log.values)
        np.save(folder / "offsets.npy", log.offsets)
        np.save(folder / "num_news.npy", num_news)
        np.save(folder / "vectors.npy", made_vectors(num_news))
        for side in sides:
            command = [
                sys.executable,
                "-m",
                __spec__.name,
                "--worker",
                side,
                "--scratch",
                place,
                "--budget",
                str(budget),
            ]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            run = json.loads(done.stdout.splitlines()[-1])
            run |= {"load_average": os.getloadavg()[0], "budget_cpu_seconds": budget}
            print(edges, side, f"{total(run):.2f} CPU-s", run, file=sys.stderr)
            yield side, run


def exponent(sizes: list[int], seconds: list[float]) -> float | None:
    """Slope of log seconds over log edges."""
    if len(sizes) < 2:
        return None
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def summary(runs: dict[int, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Growth of every side, factors over the peers for the same work, and whether the targets are met."""
    growth = {}
    for side in SIDES:
        sizes = [size for size in runs if side in runs[size]]
        growth[side] = exponent(
            [runs[size][side]["edges"] for size in sizes], [total(runs[size][side]) for size in sizes]
        )
    factors = {
        str(size): {
            side: total(sides[side]) / total(sides["intended"])
            for side in PEERS
            if side in sides and "intended" in sides
        }
        for size, sides in runs.items()
    }
    return {"growth_exponent": growth, "times_faster_than": factors, "targets": TARGETS}


def table(runs: dict[int, dict[str, dict[str, Any]]], made: dict[str, Any]) -> str:
    lines = [
        "| edges | news | | graph, CPU-s | neighbours / co-readers | chains | all, CPU-s | wall s | peak RSS, MiB | "
        "over ours (intended) |",
        "|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for size, sides in runs.items():
        for side, run in sides.items():

            def cell(*names: str, run: dict[str, Any] = run) -> str:
                for name in names:
                    if name in run["stages"]:
                        part = run["stages"][name]
                        share = part.get("nodes", 1) / part.get("nodes_done", 1)
                        return (
                            ("*~" if share > 1 else "")
                            + f"{part['cpu_seconds'] * share:.2f}"
                            + "*" * (share > 1)
                        )
                return "–"

            mark = "*" if is_extrapolated(run) else ""
            factor = made["times_faster_than"][str(size)].get(side)
            lines.append(
                f"| {run['edges']:,} | {run['num_news'] - 1:,} | {SIDES[side]} | {cell('graph')} | "
                f"{cell('neighbours', 'co_readers')} | {cell('chains')} | "
                f"{mark}{'~' * bool(mark)}{total(run):.2f}{mark} | "
                f"{mark}{'~' * bool(mark)}{total(run, 'wall_seconds'):.1f}{mark} | "
                f"{run['peak_rss_bytes'] / 2**20:.0f} | {'–' if factor is None else f'{factor:.0f} x'} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__, "recsys")
    parser.add_argument("--edges", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument(
        "--peer-edges", type=int, default=1_000_000, help="peers are left out where there are more edges"
    )
    parser.add_argument("--budget", type=float, default=240.0, help="CPU seconds for each loop of a peer")
    parser.add_argument(
        "--scratch", type=Path, help="where the logs lie for a while; default: the system's choice"
    )
    parser.add_argument(
        "--add", action="store_true", help="keep what the report in --output holds of other sizes and sides"
    )
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        answers.write(json.dumps(work(options.worker, options.scratch, options.budget)) + "\n")
        answers.flush()
        return
    runs: dict[int, dict[str, dict[str, Any]]] = {}
    if options.add:
        earlier = json.loads((options.output / "news-graph.json").read_text(encoding="utf-8"))
        runs = {int(edges): sides for edges, sides in earlier["runs"].items()}
    for edges in options.edges:
        sides = [side for side in options.sides if side not in PEERS or edges <= options.peer_edges]
        for side, run in measure(edges, sides, options.budget, options.scratch):
            runs.setdefault(edges, {})[side] = run
            write_report(runs, options.output)
    print((options.output / "news-graph.md").read_text(encoding="utf-8"))


def write_report(runs: dict[int, dict[str, dict[str, Any]]], output: Path) -> None:
    """Both files, after every measurement: the larger sizes take long."""

    runs = {size: {side: runs[size][side] for side in SIDES if side in runs[size]} for size in sorted(runs)}
    made = summary(runs)
    report = {
        **harness.provenance("news-graph"),
        **made,
        "runs": {str(size): sides for size, sides in runs.items()},
    }
    growth = ", ".join(
        f"{SIDES[side]} {value:.2f}" for side, value in made["growth_exponent"].items() if value is not None
    )
    found = [run["load_average"] for sides in runs.values() for run in sides.values()]
    loads = f"{min(found):.0f} to {max(found):.0f}"
    budget = max(run["budget_cpu_seconds"] for sides in runs.values() for run in sides.values())
    page = (
        "# Click graph and long chains\n\n"
        f"Generated logs, vectors of {WIDTH} numbers; every line a fresh process, one thread, seconds of CPU; "
        f"{report['machine']['cpu']}, shared with other work (load {loads}), {harness.STARTED_AT}. "
        f"*~Italics*: extrapolated in proportion from the nodes done within at most {budget:.0f} CPU-s. "
        "Peak RSS counts the process, its log, and what it touched of mapped files: vectors, and sorted runs where "
        "streamed.\n\n"
        + table(runs, made)
        + f"\n\nGrowth exponent (log CPU seconds over log edges): {growth or 'needs two sizes'}.\n"
    )
    harness.save(output, "news-graph", report, page)


if __name__ == "__main__":
    main()

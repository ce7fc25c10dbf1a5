"""The three engines of SSLA-Det on one core: time an event, of all sizes, on a sensor of 304 x 240 pixels.

    python -m benchmarks.event_vision.engines [--events 200000] [--repeats 3] [--models ssla-s ssla-b ...]
        [--output DIR]

The stream is drawn here: textured bars that cross the sensor, and noise, 250,000 events a second. Weights are random;
they do not change the work. Measured are

* `event`: slices of 1 ms pushed to the event engine, which walks through them one event after another;
* `single`: every event pushed by a call of its own from Python: CPU and wall time of each call (median, p99);
* `event, numpy`: what runs where there is no C++ compiler (on 2,000 events, at the smallest size);
* `micro-batch`: slices of 1, 10 and 50 ms; compiled, and in plain PyTorch (10 ms);
* `window`: windows of 100 ms computed at once, each read once;
* `read`: a read-out (peek of every waiting cell, head on every active cell) after every 10 ms.

CPU times, because other work may share the machine; the median of the repeats, with the models taken in turn.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import torch
from multiway_core.evaluation.machine import installed_versions
from multiway_event_vision.ssla_det.config import PRESETS
from multiway_event_vision.ssla_det.cost import cost_of, thinned_flops
from multiway_event_vision.ssla_det.engines.engine import Engine
from multiway_event_vision.ssla_det.engines.event import EventEngine
from multiway_event_vision.ssla_det.engines.micro_batch import MicroBatchEngine
from multiway_event_vision.ssla_det.engines.window import WindowEngine
from multiway_event_vision.ssla_det.model import SslaDet, build

HEIGHT, WIDTH = 240, 304
EVENTS_A_SECOND = 250_000
Stream = tuple[np.ndarray, ...]


def note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def draw_stream(events: int, seed: int = 0) -> Stream:
    """(t, x, y, p): six bars of 10 to 60 pixels that move at 60 to 260 pixels a second, and 5 % noise."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, events * 1_000_000 // EVENTS_A_SECOND, events))
    bar = rng.integers(0, 6, events)
    start, speed = rng.uniform(0, WIDTH, 6), rng.uniform(60, 260, 6) * rng.choice([-1, 1], 6)
    top, length, thick = rng.uniform(0, 180, 6), rng.uniform(10, 60, 6), rng.integers(2, 12, 6)
    x = start[bar] + speed[bar] * t / 1e6 + rng.integers(0, thick[bar]) + rng.normal(0, 0.7, events)
    y = top[bar] + rng.uniform(0, length[bar])
    noise = rng.random(events) < 0.05
    x[noise], y[noise] = rng.uniform(0, WIDTH, noise.sum()), rng.uniform(0, HEIGHT, noise.sum())
    p = (bar + (rng.random(events) < 0.1)) % 2
    return t, (np.floor(x) % WIDTH).astype(np.int64), np.clip(y, 0, HEIGHT - 1).astype(np.int64), p


def slices(stream: Stream, microseconds: int) -> list[Stream]:
    cuts = np.searchsorted(stream[0], np.arange(0, stream[0][-1] + microseconds, microseconds))
    cuts = np.append(cuts, len(stream[0]))
    return [tuple(a[i:j] for a in stream) for i, j in pairwise(cuts) if j > i]


def seconds_of(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def push_all(engine: Engine, pieces: list[Stream]) -> float:
    """CPU seconds; the first tenth is not counted."""
    first = len(pieces) // 10
    for piece in pieces[:first]:
        engine.push(*piece)
    return seconds_of(lambda: [engine.push(*piece) for piece in pieces[first:]]) / sum(
        len(piece[0]) for piece in pieces[first:]
    )


def push_singly(model: SslaDet, stream: Stream) -> dict[str, float]:
    """CPU and wall seconds of a call, median and p99; the first hundred are not counted."""
    engine = EventEngine(model, HEIGHT, WIDTH)
    cpu, wall = [], []
    for i in range(len(stream[0])):
        piece = tuple(a[i : i + 1] for a in stream)
        start, wall_start = time.process_time(), time.perf_counter()
        engine.push(*piece)
        cpu.append(time.process_time() - start)
        wall.append(time.perf_counter() - wall_start)
    return {
        f"single {clock} {name}": float(np.percentile(times[100:], percent))
        for clock, times in (("CPU", cpu), ("wall", wall))
        for name, percent in (("median", 50), ("p99", 99))
    }


def windows(model: SslaDet, stream: Stream) -> float:
    pieces = slices(stream, 100_000)
    engine = WindowEngine(model, HEIGHT, WIDTH)

    def run() -> None:
        for piece in pieces:
            engine.reset()
            engine.push(*piece)
            engine.read()

    return seconds_of(run) / len(stream[0])


def reads(model: SslaDet, stream: Stream) -> tuple[float, dict[str, float]]:
    """CPU seconds of a read-out, and operations an event with a read-out every 10 ms."""
    engine = EventEngine(model, HEIGHT, WIDTH)
    spent, pieces = 0.0, slices(stream, 10_000)
    for piece in pieces:
        engine.push(*piece)
        spent += seconds_of(engine.predict)
    cost = cost_of(model.config, engine.work)
    names = ("mean", "p50", "p99", "max", "peeks", "head", "worst")
    return spent / len(pieces), {name: getattr(cost, name) for name in names} | {
        "formula": thinned_flops(model.config)
    }


def measure(name: str, stream: Stream) -> dict[str, Any]:
    model = build(PRESETS[name])
    few = tuple(a[:5000] for a in stream)
    result: dict[str, Any] = {}
    result["event"] = push_all(EventEngine(model, HEIGHT, WIDTH), slices(stream, 1000))
    for milliseconds in (1, 10, 50):
        engine = MicroBatchEngine(model, HEIGHT, WIDTH)
        result[f"micro-batch {milliseconds} ms"] = push_all(engine, slices(stream, milliseconds * 1000))
    engine = MicroBatchEngine(model, HEIGHT, WIDTH)
    engine.native = False
    result["micro-batch 10 ms, PyTorch"] = push_all(engine, slices(stream, 10_000))
    result["window 100 ms"] = windows(model, stream)
    result |= push_singly(model, few)
    result["read"], result["flops"] = reads(model, stream)
    if name == "ssla-s":
        numpy_engine = EventEngine(model, HEIGHT, WIDTH)
        numpy_engine.native = False
        result["event, numpy"] = push_all(numpy_engine, slices(tuple(a[:2000] for a in stream), 1000))
    return result


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each number."""
    return {
        key: middle([run[key] for run in runs])
        if isinstance(value, dict)
        else float(np.median([r[key] for r in runs]))
        for key, value in runs[0].items()
    }


def page(report: dict[str, Any]) -> str:
    results = report["results"]
    rows = [
        ("event engine, us an event", "event", 1e6),
        ("event engine, thousand events a second", "event", None),
        ("one call an event, median us", "single CPU median", 1e6),
        ("one call an event, p99 us", "single CPU p99", 1e6),
        ("one call an event, wall time, p99 us", "single wall p99", 1e6),
        ("event engine in numpy, us an event", "event, numpy", 1e6),
        *((f"micro-batch of {n} ms, us an event", f"micro-batch {n} ms", 1e6) for n in (1, 10, 50)),
        ("micro-batch of 10 ms in plain PyTorch, us an event", "micro-batch 10 ms, PyTorch", 1e6),
        ("window of 100 ms with its read-out, us an event", "window 100 ms", 1e6),
        ("read-out every 10 ms, ms each", "read", 1e3),
    ]
    lines = [f"| | {' | '.join(results)} |", "|---|" + "---|" * len(results)]
    for title, key, scale in rows:
        values = [r.get(key) for r in results.values()]
        cells = [
            "" if v is None else f"{1 / v / 1e3:.0f}" if scale is None else f"{v * scale:.3g}" for v in values
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    for title, key in (
        ("MFLOP an event, state updates, mean", "mean"),
        ("p50", "p50"),
        ("p99", "p99"),
        ("max", "max"),
        ("peeks, shared out", "peeks"),
        ("head, shared out", "head"),
        ("an event through all levels and the head", "worst"),
    ):
        cells = [f"{result['flops'][key] / 1e6:.3g}" for result in results.values()]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    machine = report["machine"]
    return (
        f"# Engines of SSLA-Det\n\n{machine['cpu']}, one thread, load average {machine['load_average']:.1f},"
        f" {report['when']}; {report['events']:,} events at {EVENTS_A_SECOND:,} a second on {WIDTH} x {HEIGHT} pixels;"
        f" median of {report['repeats']} repeats. CPU times where not said otherwise."
        " `benchmarks/event_vision/engines.py`, weights folded, float32.\n\n" + "\n".join(lines) + "\n"
    )


def main() -> None:
    parser = harness.parser(__doc__, "event_vision")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--models", nargs="+", default=["ssla-s", "ssla-b", "ssla-m", "ssla-l"], choices=list(PRESETS)
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    stream = draw_stream(options.events)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in options.models}
    for repeat in range(options.repeats):
        for name in options.models:
            runs[name].append(measure(name, stream))
            note(f"{repeat + 1}/{options.repeats} {name}: {runs[name][-1]['event'] * 1e6:.2f} us an event")
        write(runs, options)


def write(runs: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    """The report of the repeats so far."""
    report = {
        "when": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": harness.machine(),
        "versions": installed_versions(),
        "events": options.events,
        "repeats": len(runs[options.models[0]]),
        "results": {name: middle(found) for name, found in runs.items()},
        "runs": runs,
    }
    harness.save(options.output, "event-engines", report, page(report))


if __name__ == "__main__":
    main()

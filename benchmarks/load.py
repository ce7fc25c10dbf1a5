"""A hundred clients for a minute on a server or a demo of this machine: answers, latency, and whether memory grows.

``python -m benchmarks.load`` starts each of ``--what`` in a process of its own on a free port of loopback, warms it up,
and lets ``--clients`` ask it one request after another. A server answers 429 when more wait than its queue holds: those
are counted by themselves, and the client asks again after a moment. Memory is the resident set of the process.
"""

from __future__ import annotations

import asyncio
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks import harness

EXAMPLES = Path(__file__).parents[1] / "examples"
Ask = Callable[[httpx.AsyncClient, str, random.Random], Awaitable[int]]


async def complete(client: httpx.AsyncClient, url: str, generator: random.Random) -> int:
    """Four tokens of the bundled language model."""
    body = {"model": "lm-tiny", "prompt": f"The number {generator.randrange(1000)} is", "max_tokens": 4}
    return (await client.post(f"{url}/v1/completions", json=body)).status_code


async def lists(client: httpx.AsyncClient, url: str, generator: random.Random) -> int:
    """The lists and counters, which need no model."""
    return (await client.get(url + generator.choice(["/health", "/metrics", "/v1/models"]))).status_code


async def page(client: httpx.AsyncClient, url: str, generator: random.Random) -> int:
    """A visitor of a demo: the page, its settings, and a call that its queue takes or refuses."""
    statuses = [(await client.get(url + path)).status_code for path in ("/", "/config")]
    return max(statuses)


@dataclass(frozen=True)
class Case:
    """A program that listens, and what a client asks it."""

    name: str
    command: tuple[str, ...]
    ask: Ask


CASES = (
    Case("multiway-lm serve", ("multiway_lm", "serve"), complete),
    Case("multiway serve", ("multiway", "serve"), lists),
    Case("multiway-lm demo", ("multiway_lm", "demo"), page),
    Case("multiway-event-detection demo", ("multiway_event_detection", "demo"), page),
)


def resident(pid: int) -> float:
    """MB in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


async def load(case: Case, url: str, pid: int, clients: int, seconds: float) -> dict[str, Any]:
    """Statuses, latencies of answers with 200, and memory every second."""
    statuses: Counter[str] = Counter()
    latencies: list[float] = []
    memory: list[float] = []
    end = time.monotonic() + seconds

    async def one(number: int, client: httpx.AsyncClient) -> None:
        generator = random.Random(number)
        while time.monotonic() < end:
            started = time.monotonic()
            try:
                status = str(await case.ask(client, url, generator))
            except httpx.HTTPError as error:
                status = type(error).__name__
            statuses[status] += 1
            if status == "200":
                latencies.append(time.monotonic() - started)
            else:
                await asyncio.sleep(0.2 + 0.3 * generator.random())

    async def watch() -> None:
        while time.monotonic() < end:
            memory.append(round(resident(pid), 1))
            await asyncio.sleep(1)

    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(timeout=120, limits=limits, trust_env=False) as client:
        await case.ask(client, url, random.Random(0))
        await asyncio.gather(watch(), *(one(number, client) for number in range(clients)))
    latencies.sort()
    half = len(memory) // 2
    return {
        "name": case.name, "clients": clients, "seconds": seconds, "statuses": dict(statuses),
        "p50": _quantile(latencies, 0.5), "p99": _quantile(latencies, 0.99),
        "memory_half": max(memory[:half], default=0), "memory_end": memory[-1], "memory": memory,
    }  # fmt: skip


def _quantile(values: list[float], share: float) -> float | None:
    return round(values[min(len(values) - 1, int(share * len(values)))], 3) if values else None


def run(case: Case, clients: int, seconds: float) -> dict[str, Any]:
    """Start the program, load it, end it."""
    port = ("--port", "0") if case.command[1] == "serve" else ()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", *case.command, *port], stdout=subprocess.DEVNULL, stderr=errors
        )
        try:
            url = None
            for _ in range(1200):
                errors.seek(0)
                if url := re.search(r"http://[0-9.]+:\d+", errors.read()):
                    break
                if process.poll() is not None:
                    raise SystemExit(f"{case.name} does not start")
                time.sleep(0.25)
            assert url is not None
            found = asyncio.run(load(case, url[0], process.pid, clients, seconds))
            process.send_signal(signal.SIGINT)
            process.wait(60)
            return found
        finally:
            process.kill()


def main() -> None:
    parser = harness.parser(__doc__, "trust")
    parser.add_argument("--what", nargs="*", default=[case.name for case in CASES], metavar="NAME")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    results = [run(case, options.clients, options.seconds) for case in CASES if case.name in options.what]
    rows = [
        [
            f"`{r['name']}`", r["statuses"].get("200", 0), r["statuses"].get("429", 0),
            sum(count for status, count in r["statuses"].items() if status not in ("200", "429")),
            f"{r['p50']} s", f"{r['p99']} s", r["memory_half"], r["memory_end"],
        ]
        for r in results
    ]  # fmt: skip
    heads = [
        "program",
        "answers",
        "refused (429)",
        "failed",
        "p50",
        "p99",
        "MB, most of the first half",
        "MB at the end",
    ]
    title = f"# {options.clients} clients for {options.seconds:.0f} s\n\n"
    harness.save(
        options.output,
        "load",
        harness.provenance("load") | {"results": results},
        title + harness.table(heads, rows),
    )


if __name__ == "__main__":
    main()

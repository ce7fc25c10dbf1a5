"""100 clients at once on this machine: `multiway-encoder serve`, and sentence-transformers behind FastAPI.

Every client sends its sentences one after another, each as a request of its own, to the OpenAI API's route; latencies
are the clients'. The two servers run in turn, never at once, on the loopback interface; the peer is an ordinary
endpoint that calls `SentenceTransformer.encode`, in FastAPI's pool of threads.

    peers/bin/python -m benchmarks.text.embedding_serving --ag-news DIR

in the peers' environment of `embedding_speed`, with `-e apps/encoder` and httpx beside. Texts: AG News' dev file.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from multiway_core import hub

from benchmarks import harness
from benchmarks.text import embedding_sets
from benchmarks.text.embedding_speed import ORIGINAL, peers

OURS = "bundled:minilm-l6"


def peer(port: int) -> None:
    """Serve sentence-transformers, until killed."""
    import uvicorn
    from fastapi import FastAPI
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(hub.resolve(ORIGINAL)), device="cpu")
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/embeddings")
    def embeddings(body: dict[str, Any]) -> dict[str, Any]:
        vector = model.encode(body["input"])
        return {"object": "list", "data": [{"index": 0, "embedding": vector.tolist()}]}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


async def load(port: int, texts: list[str], clients: int, duration: float) -> list[float]:
    """Seconds of each request; no client begins one after ``duration`` seconds."""
    import httpx

    seconds: list[float] = []
    end = time.perf_counter() + duration

    async def client(own: list[str]) -> None:
        # A pool of 100 connections would cost more than the server; so would 100 TLS contexts, which HTTP does not use.
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=300, verify=False
        ) as connection:
            for text in itertools.cycle(own):
                start = time.perf_counter()
                if start > end:
                    return
                answer = await connection.post("/v1/embeddings", json={"model": OURS, "input": text})
                answer.raise_for_status()
                seconds.append(time.perf_counter() - start)

    await asyncio.gather(*(client(texts[number::clients]) for number in range(clients)))
    return seconds


def megabytes(process: subprocess.Popen[bytes]) -> float:
    """Resident memory."""
    told = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", told)
    return int(found[1]) / 1024 if found else 0.0


def cpu(process: subprocess.Popen[bytes]) -> float:
    """CPU seconds so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def measure(
    command: list[str], port: int, texts: list[str], clients: int, duration: float
) -> dict[str, float]:
    """One server for ``duration`` seconds, behind a fifth of that to warm up."""
    import httpx

    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(600):
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).is_success:
                        break
                except httpx.TransportError:
                    time.sleep(0.5)
            httpx.post(
                f"http://127.0.0.1:{port}/v1/embeddings",
                json={"model": OURS, "input": texts[0]},
                timeout=300,
            ).raise_for_status()
            idle = megabytes(server)
            asyncio.run(load(port, texts, clients, duration / 5))
            spent, start = cpu(server), time.perf_counter()
            seconds = sorted(asyncio.run(load(port, texts, clients, duration)))
            wall = time.perf_counter() - start
            return {
                "p50": statistics.median(seconds),
                "p99": seconds[int(0.99 * len(seconds))],
                "requests_per_second": len(seconds) / wall,
                "server_cpu_ms_per_request": 1000 * (cpu(server) - spent) / len(seconds),
                "megabytes_before": idle,
                "megabytes_after": megabytes(server),
            }
        finally:
            server.terminate()


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--ag-news", type=Path, metavar="DIR")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--texts", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=25.0, help="of load a server and round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peer", type=int, metavar="PORT", help="be the peer's server")
    options = parser.parse_args()
    if options.peer:
        peer(options.peer)
        return
    if options.ag_news is None:
        parser.error("--ag-news is needed")
    texts = embedding_sets.sentences(embedding_sets.ag_news(options.ag_news), options.texts)
    runs: dict[str, list[dict[str, float]]] = {
        "multiway-encoder serve": [],
        "sentence-transformers, FastAPI": [],
    }
    for _ in range(options.rounds):
        for name, found in runs.items():
            port = free_port()
            ours = ["-m", "multiway_encoder", "serve", "--port", str(port), "--max-queue", "200"]
            other = ["-m", "benchmarks.text.embedding_serving", "--peer", str(port)]
            command = [sys.executable, *(ours if name.startswith("multiway") else other)]
            found.append(measure(command, port, texts, options.clients, options.seconds))
    medians = {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]}
        for name, found in runs.items()
    }
    report = harness.provenance("embedding-serving") | {
        "clients": options.clients,
        "seconds": options.seconds,
        "peers": peers(),
        "runs": runs,
        "medians": medians,
    }
    rows = [
        [
            name,
            f"{each['p50'] * 1000:.0f}",
            f"{each['p99'] * 1000:.0f}",
            f"{each['requests_per_second']:.0f}",
            f"{each['server_cpu_ms_per_request']:.2f}",
            f"{each['megabytes_before']:.0f}, {each['megabytes_after']:.0f}",
        ]
        for name, each in medians.items()
    ]
    heads = [
        "",
        "p50 ms",
        "p99 ms",
        "requests a second",
        "CPU ms a request",
        "MB after the first request and the last",
    ]
    page = f"# {options.clients} clients at once\n\nRequests of one sentence for {options.seconds:.0f} s, medians of "
    page += f"{options.rounds} rounds in turn; the clients share the machine's two cores, whose load was "
    page += f"{harness.machine()['load_average']:.1f}.\n\n{harness.table(heads, rows)}\n"
    harness.save(options.output, "embedding-serving", report, page)


if __name__ == "__main__":
    main()

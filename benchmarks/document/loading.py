"""Loading KOSMOS-2.5 at its full size: ours and the class of `transformers`, seconds and peak memory.

    python -m benchmarks.document.loading [--rounds 3] [--scratch DIR] [--output DIR]

The full shape (1.37 G parameters) with random weights is written once to a scratch folder, as published: float32, two
shards, 5.5 GB; and removed at the end. Then each side loads it as bfloat16 and as float32, every time in a fresh
process, in turn (A B A B ...). ``load`` ends when the model is built; memory-mapped weights cost nothing until they are
used, so ``touch`` also reads every weight once (a sum over each tensor), which is what the first page needs. Seconds of
CPU and of wall time; the files are in the system's cache, where writing them left them. The peak resident set counts
mapped pages of the files as well; ``anonymous`` is the part that is the process's own and cannot be dropped.

Needs 6 GB of disk and about 8 GB of memory; about 5 minutes on a free core.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

SIDES = ("multiway", "transformers")
DTYPES = ("bfloat16", "float32")
SHARD_BYTES = 5_000_000_000
SAMPLE_SECONDS = 0.02
COLUMNS = (
    ("load_cpu_seconds", "load, CPU-s", 1.0, "{:.2f}"),
    ("load_wall_seconds", "load, wall s", 1.0, "{:.2f}"),
    ("load_peak_rss_bytes", "peak RSS of loading, MiB", 2**20, "{:.0f}"),
    ("load_anonymous_bytes", "of it anonymous, MiB", 2**20, "{:.0f}"),
    ("touched_cpu_seconds", "load and touch, CPU-s", 1.0, "{:.2f}"),
    ("touched_peak_rss_bytes", "peak RSS then, MiB", 2**20, "{:.0f}"),
)


def write_model(folder: Path) -> None:
    """Random weights of the full shape in the published layout, one tensor in memory at a time as far as possible."""
    import torch
    from multiway_core.checkpoint import on_meta
    from multiway_document.kosmos2_5 import checkpoint
    from multiway_document.kosmos2_5.config import KOSMOS_2_5
    from multiway_document.kosmos2_5.model import Kosmos25

    with on_meta():
        model = Kosmos25(KOSMOS_2_5)
    generator = torch.Generator().manual_seed(0)
    noise = (
        torch.randn(1 << 22, generator=generator) * 0.02
    )  # repeated: drawing 1.4 G numbers would take a minute

    def filled(parameter: torch.Tensor) -> torch.nn.Parameter:
        repeats = -(-parameter.numel() // len(noise))
        return torch.nn.Parameter(noise.repeat(repeats)[: parameter.numel()].view(parameter.shape).clone())

    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = filled(parameter)
    checkpoint.save(model, folder, max_shard_bytes=SHARD_BYTES)


def status_bytes(key: str) -> int:
    for row in Path("/proc/self/status").read_text().splitlines():
        if row.startswith(key + ":"):
            return int(row.split()[1]) * 1024
    raise RuntimeError(f"this system does not tell {key}")


class AnonymousPeak(threading.Thread):
    """Samples the process's own memory while the block runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._stop_event = 0, threading.Event()

    def run(self) -> None:
        while not self._stop_event.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, status_bytes("RssAnon"))

    def __enter__(self) -> AnonymousPeak:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_event.set()
        self.join()
        self.peak = max(self.peak, status_bytes("RssAnon"))


def work(side: str, folder: Path, dtype_name: str) -> dict[str, Any]:
    """Load once in this fresh process. Imports are not measured, the memory they take is."""
    import torch

    torch.set_num_threads(1)
    dtype = getattr(torch, dtype_name)
    if side == "multiway":
        from multiway_document.kosmos2_5 import checkpoint

        def load() -> torch.nn.Module:
            return checkpoint.load(folder, dtype=dtype)
    else:
        from transformers import Kosmos2_5ForConditionalGeneration

        def load() -> torch.nn.Module:
            return Kosmos2_5ForConditionalGeneration.from_pretrained(folder, dtype=dtype)

    values: dict[str, Any] = {"before_rss_bytes": status_bytes("VmRSS")}
    cpu, wall = time.process_time(), time.perf_counter()
    with AnonymousPeak() as anonymous:
        model = load()
    values["load_cpu_seconds"] = time.process_time() - cpu
    values["load_wall_seconds"] = time.perf_counter() - wall
    values["load_peak_rss_bytes"] = status_bytes("VmHWM")
    values["load_anonymous_bytes"] = anonymous.peak
    with torch.inference_mode():
        total = sum(float(parameter.sum(dtype=torch.float32)) for parameter in model.parameters())
    values["touched_cpu_seconds"] = time.process_time() - cpu
    values["touched_wall_seconds"] = time.perf_counter() - wall
    values["touched_peak_rss_bytes"] = status_bytes("VmHWM")
    values["checksum"] = total
    values["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    return values


def measure(folder: Path, rounds: int) -> dict[str, dict[str, list[dict[str, Any]]]]:
    taken: dict[str, dict[str, list[dict[str, Any]]]] = {
        dtype: {name: [] for name in SIDES} for dtype in DTYPES
    }
    for _ in range(rounds):
        for dtype in DTYPES:
            for side in SIDES:
                command = [
                    sys.executable,
                    "-m",
                    __spec__.name,
                    "--worker",
                    side,
                    "--scratch",
                    str(folder),
                    "--dtype",
                    dtype,
                ]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                taken[dtype][side].append(json.loads(done.stdout.splitlines()[-1]))
                print(dtype, side, taken[dtype][side][-1], file=sys.stderr)
    return taken


def table(medians: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = ["| type | | " + " | ".join(title for _, title, _, _ in COLUMNS) + " |"]
    lines.append("|---|---|" + "--:|" * len(COLUMNS))
    for dtype, sides in medians.items():
        for side in SIDES:
            cells = [form.format(sides[side][key] / unit) for key, _, unit, form in COLUMNS]
            lines.append(f"| {dtype} | {side} | " + " | ".join(cells) + " |")
        cells = [f"{sides['multiway'][key] / sides['transformers'][key]:.2f}" for key, _, _, _ in COLUMNS]
        lines.append(f"| {dtype} | ours / theirs | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__, "document")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--scratch", type=Path, help="where to put 5.5 GB for a while; default: the system's choice"
    )
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", choices=DTYPES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        answers.write(json.dumps(work(options.worker, options.scratch, options.dtype)) + "\n")
        answers.flush()
        return

    folder = Path(tempfile.mkdtemp(prefix="kosmos-2.5-", dir=options.scratch))
    try:
        writer = [
            sys.executable,
            "-c",
            f"from benchmarks.document import loading as l; l.write_model(l.Path({str(folder)!r}))",
        ]
        subprocess.run(writer, check=True)
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        shards = len(list(folder.glob("*.safetensors")))
        taken = measure(folder, options.rounds)
    finally:
        shutil.rmtree(folder)
    medians = {
        dtype: {
            side: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
            for side, rows in sides.items()
        }
        for dtype, sides in taken.items()
    }
    report = {
        **harness.provenance("loading"),
        "bytes": size,
        "shards": shards,
        "rounds": options.rounds,
        "medians": medians,
        "runs": taken,
    }
    page = (
        "# Loading KOSMOS-2.5 at its full size\n\n"
        f"{size / 1e9:.2f} GB of float32 in {shards} shards, random weights; medians of {options.rounds} fresh "
        f"processes a side in turn, one thread; {report['machine']['cpu']}, {harness.STARTED_AT}. "
        "`touch` reads every weight once.\n\n" + table(medians) + "\n"
    )
    harness.save(options.output, "loading", report, page)


if __name__ == "__main__":
    main()

"""Every kernel of `multiway_blocks` against the machine's speed and against the best that PyTorch offers, in one run.

    python -m benchmarks.core_blocks.kernels [KERNEL ...] [--threads N] [--quick] [--output DIR]

What is measured and how: `multiway_blocks.kernels.bench`. Prints one table in Markdown and writes it, and one JSON
file.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch
from multiway_blocks.kernels import bench
from multiway_core.evaluation.machine import describe_machine, installed_versions


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="default: all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small shapes, to see that everything works")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "results" / "core_blocks")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    machine = bench.measure_machine(options.quick)
    rows = bench.run(options.kernels or None, options.quick)
    speeds = {
        str(dtype).removeprefix("torch."): speed for dtype, speed in machine.operations_a_second.items()
    }
    report = {
        "schema": "multiway.benchmark.kernels/2",
        "started_at": started_at,
        "machine": describe_machine() | {"load_average": os.getloadavg()[0]},
        "versions": installed_versions(),
        "bytes_a_second": machine.bytes_a_second,
        "operations_a_second": speeds,
        "rounds": bench.ROUNDS,
        "rows": [asdict(row) for row in rows],
    }
    peaks = ", ".join(f"{name} {speed / 1e9:.0f} G/s" for name, speed in speeds.items())
    page = (
        f"# Kernels\n\n{report['machine']['cpu']}, torch {torch.__version__}, {options.threads} thread"
        f"{'s' * (options.threads > 1)} ({rows[0].clock if rows else ''} time), at a load of "
        f"{os.getloadavg()[0]:.1f} on {report['machine']['cores']} cores; medians of {bench.ROUNDS} "
        f"interleaved rounds, {started_at}. Copy: {machine.bytes_a_second / 1e9:.1f} GB/s; "
        f"products of large matrices: {peaks}.\n\n"
        f"{bench.markdown(rows)}\n"
    )
    print(page)
    if not options.kernels and not options.quick:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "kernels-cpu.json").write_text(json.dumps(report, indent=1) + "\n")
        (options.output / "kernels-cpu.md").write_text(page)


if __name__ == "__main__":
    main()

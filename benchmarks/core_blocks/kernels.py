"""Every kernel of `multiway_blocks` against the machine's speed and against the best that PyTorch offers, in one run.

    python -m benchmarks.core_blocks.kernels [KERNEL ...] [--threads N] [--quick] [--output DIR]

What is measured and how: `multiway_blocks.kernels.bench`. Prints one table in Markdown and writes it, and one JSON
file.
"""

from __future__ import annotations

import os
from dataclasses import asdict

import torch
from multiway_blocks.kernels import bench

from benchmarks import harness


def main() -> None:
    parser = harness.parser(__doc__, "core_blocks")
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="default: all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small shapes, to see that everything works")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = bench.measure_machine(options.quick)
    rows = bench.run(options.kernels or None, options.quick)
    speeds = {
        str(dtype).removeprefix("torch."): speed for dtype, speed in machine.operations_a_second.items()
    }
    report = {
        **harness.provenance("kernels", 2),
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
        f"interleaved rounds, {harness.STARTED_AT}. Copy: {machine.bytes_a_second / 1e9:.1f} GB/s; "
        f"products of large matrices: {peaks}.\n\n"
        f"{bench.markdown(rows)}\n"
    )
    if options.kernels or options.quick:
        print(page)
    else:
        harness.save(options.output, "kernels-cpu", report, page)


if __name__ == "__main__":
    main()

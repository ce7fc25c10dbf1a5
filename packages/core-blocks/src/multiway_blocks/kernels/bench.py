"""Every kernel against the machine's speed and against the best that PyTorch offers, side by side in one run.

The floor of a case is what its bytes take at the speed of a copy of large tensors, or its operations at the speed of
PyTorch's product of large matrices of that data type, both measured in the same run, whichever is longer. Where all
that a case touches lies in a cache, it can be faster than that floor. Candidates take turns and medians count, because
other work may share the machine; for the same reason one thread is measured in CPU time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from multiway_core.errors import InputError

from multiway_blocks.kernels.bench_cases import CASES, Call, Case

if TYPE_CHECKING:
    from rich.table import Table

ROUNDS = 7
SECONDS_A_ROUND = 0.02


@dataclass(frozen=True)
class Row:
    """One case; times are medians in microseconds."""

    kernel: str
    shape: str
    dtype: str
    threads: int
    clock: str
    """"cpu" or "wall"."""
    bytes: int
    operations: int
    floor_us: float
    floor: str
    """What it is made of: "memory" or "arithmetic"."""
    kernel_us: float
    floor_share: float
    torch_name: str
    torch_us: float
    peer_name: str | None
    peer_us: float | None
    speedup: float
    """Over the faster of the two others."""


@dataclass(frozen=True)
class Machine:
    """Measured speeds."""

    bytes_a_second: float
    operations_a_second: dict[torch.dtype, float]


def run(kernels: Sequence[str] | None = None, quick: bool = False) -> list[Row]:
    """Measure these kernels, or all, on the CPU with as many threads as PyTorch has.

    ``quick``: small shapes and few rounds, to see that everything works; its times mean little. Raises InputError for a
    kernel that is not known.
    """
    unknown = [name for name in kernels or () if name not in CASES]
    if unknown:
        raise InputError(f"no kernel is called {unknown[0]!r}; there are {', '.join(CASES)}")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        machine = measure_machine(quick)
        return [
            _measure(name, case, machine, quick) for name in kernels or CASES for case in CASES[name](quick)
        ]


def measure_machine(quick: bool = False) -> Machine:
    """Speed of a copy (bytes read and written), and of products of large matrices."""
    size = 1 << 22 if quick else 1 << 26
    source, target = torch.ones(2, size, dtype=torch.uint8).unbind()
    speeds: dict[torch.dtype, float] = {}
    edge = 128 if quick else 1024
    candidates: dict[str, list[Call]] = {"copy": [lambda: target.copy_(source)]}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(2, edge, edge, dtype=dtype).unbind()
        candidates[str(dtype)] = [lambda a=a, b=b: a @ b]  # type: ignore[misc]
    bytes_ = torch.ones(edge, edge, dtype=torch.int8)
    candidates[str(torch.int8)] = [lambda: torch._int_mm(bytes_, bytes_.t())]
    seconds = medians(candidates, 3 if quick else ROUNDS)
    for dtype in (torch.float32, torch.bfloat16, torch.int8):
        speeds[dtype] = 2 * edge**3 / seconds[str(dtype)]
    return Machine(2 * size / seconds["copy"], speeds)


def medians(candidates: dict[str, list[Call]], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds a call of each candidate, the median over interleaved rounds; a round calls its copies in turn."""
    clock = _clock()
    calls = {}
    for name, copies in candidates.items():
        copies[0]()  # builds, and warms up
        start = clock()
        copies[0]()
        repeats = round(SECONDS_A_ROUND / max(clock() - start, 1e-7) / len(copies))
        calls[name] = copies * max(1, min(repeats, 2000)) if rounds > 3 else copies
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, copies in calls.items():
            start = clock()
            for call in copies:
                call()
            taken[name].append((clock() - start) / len(copies))
    return {name: statistics.median(values) for name, values in taken.items()}


def _clock() -> Callable[[], float]:
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def _measure(name: str, case: Case, machine: Machine, quick: bool) -> Row:
    candidates = {"kernel": case.kernel, "torch": case.other} | ({"peer": case.peer} if case.peer else {})
    seconds = medians(candidates, 3 if quick else ROUNDS)
    memory = case.bytes / machine.bytes_a_second
    arithmetic = case.operations / machine.operations_a_second[case.arithmetic]
    floor = max(memory, arithmetic)
    return Row(
        kernel=name,
        shape=case.shape,
        dtype=case.dtype,
        threads=torch.get_num_threads(),
        clock="cpu" if torch.get_num_threads() == 1 else "wall",
        bytes=case.bytes,
        operations=case.operations,
        floor_us=1e6 * floor,
        floor="memory" if memory >= arithmetic else "arithmetic",
        kernel_us=1e6 * seconds["kernel"],
        floor_share=floor / seconds["kernel"],
        torch_name=case.other_name,
        torch_us=1e6 * seconds["torch"],
        peer_name=case.peer_name,
        peer_us=1e6 * seconds["peer"] if "peer" in seconds else None,
        speedup=min(seconds[key] for key in seconds if key != "kernel") / seconds["kernel"],
    )


HEADINGS = (
    "kernel",
    "shape",
    "type",
    "MB",
    "MFLOP",
    "floor µs",
    "µs",
    "of floor",
    "PyTorch µs",
    "peer µs",
    "faster",
)


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, under `HEADINGS`."""
    peer = "" if row.peer_us is None else f"{row.peer_us:.0f} ({row.peer_name})"
    return (
        row.kernel,
        row.shape,
        row.dtype,
        f"{row.bytes / 1e6:.2f}",
        f"{row.operations / 1e6:.1f}",
        f"{row.floor_us:.1f} ({row.floor})",
        f"{row.kernel_us:.1f}",
        f"{row.floor_share:.0%}",
        f"{row.torch_us:.1f} ({row.torch_name})",
        peer,
        f"{row.speedup:.2f}x",
    )


def table(rows: Sequence[Row]) -> Table:
    """A table for a terminal; needs the package `rich`."""
    from rich.table import Table  # which apps bring along

    found = Table(title="Kernels", caption=f"threads: {rows[0].threads if rows else '-'}; medians")
    for heading in HEADINGS:
        found.add_column(heading, overflow="fold")
    for row in rows:
        found.add_row(*cells(row))
    return found


def markdown(rows: Sequence[Row]) -> str:
    """The same table in Markdown."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    return "\n".join(lines + ["| " + " | ".join(cells(row)) + " |" for row in rows])

"""What every benchmark shares: options, contenders in turn, where a number comes from, one JSON file and one page.

A benchmark measures in functions of its own and ends with :func:`save`. Tables are made with :func:`table` from the
same values that the JSON file gets, so that no number is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.evaluation.machine import describe_machine, installed_versions
from multiway_core.files import write_text

if TYPE_CHECKING:
    from multiway_core.training import TrainOptions, TrainReport

STARTED_AT = datetime.now(UTC).isoformat(timespec="seconds")
_BEGAN = time.monotonic()
RESULTS = Path(__file__).parent / "results"


def parser(description: str | None, modality: str | None = None) -> argparse.ArgumentParser:
    """The options of a benchmark, described by its docstring; with ``--output`` when a modality is given."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if modality is not None:
        made.add_argument(
            "--output",
            type=Path,
            metavar="DIR",
            default=RESULTS / modality,
            help="where the results are written",
        )
    return made


def command() -> str:
    """The command line of this run, as it is typed in the repository's folder."""
    spec = sys.modules["__main__"].__spec__
    return " ".join(["python -m", spec.name if spec else Path(sys.argv[0]).name, *sys.argv[1:]])


def provenance(name: str, version: int = 1) -> dict[str, Any]:
    """Where the numbers of a report come from: command, time, machine with its instruction set and load, versions."""
    return {
        "schema": f"multiway.benchmark.{name}/{version}",
        "started_at": STARTED_AT,
        "command": command(),
        "machine": machine(),
        "versions": installed_versions(),
    }


def machine() -> dict[str, Any]:
    """The machine and how busy it is now."""
    return describe_machine() | {"load_average": os.getloadavg()[0]}


def in_turn(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.process_time,
    warm_up: int = 1,
) -> dict[str, list[float]]:
    """Seconds of each contender in every round, all of them in each round: what slows one round slows all.

    CPU seconds by default, because other work may share the machine.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(-warm_up, rounds):
        for name, work in contenders.items():
            start = clock()
            work()
            if number >= 0:
                seconds[name].append(clock() - start)
    return seconds


def kept(path: Path, make: Callable[[], Mapping[str, Any]], minutes: float) -> dict[str, Any] | None:
    """The result of one cell of a study, which a file of its own keeps: a study that was stopped goes on.

    A result that is not there is computed, unless the program has run for ``minutes``: then None.
    """
    if not path.is_file():
        if time.monotonic() - _BEGAN > 60 * minutes:
            return None
        write_text(path, json.dumps(make()) + "\n")
        print(path.stem, flush=True)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def trained(recipe: Any, options: TrainOptions) -> TrainReport:
    """Run a training to its end. Raises SystemExit where it was stopped: half-trained weights are no result."""
    from multiway_core.training import run

    report = run(recipe, options)
    if not report.finished:
        raise SystemExit(f"{options.output}: stopped; the same command goes on")
    return report


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean ± standard deviation over seeds; 0 of a single one."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], numbers_from: int = 1) -> str:
    """A table in Markdown; columns from ``numbers_from`` on are aligned to the right."""
    marks = ["---" if index < numbers_from else "--:" for index in range(len(columns))]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (columns, marks, *rows))


def save(folder: Path, name: str, report: Mapping[str, Any], page: str) -> None:
    """Write ``name.json`` and ``name.md``, and print the page."""
    write_text(folder / f"{name}.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / f"{name}.md", page.rstrip("\n") + "\n")
    print(page, flush=True)

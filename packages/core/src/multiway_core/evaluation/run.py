"""The evaluation loop."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from multiway_core.errors import InputError, MultiwayError
from multiway_core.evaluation.machine import describe_machine, installed_versions, peak_rss_bytes
from multiway_core.evaluation.report import Latency, Report, groups_of, summarise


class Ratio(NamedTuple):
    """One sample's share of a pooled rate, such as edits and reference characters of CER."""

    numerator: float
    denominator: float


@dataclass(frozen=True)
class Sample:
    """One case: what the pipeline gets, what is right, and the name it has in the report."""

    name: str
    input: Any
    target: Any


MetricFunction = Callable[[Any, Any], "float | Ratio | None"]


def evaluate(
    samples: Iterable[Sample],
    predict: Callable[[Any], Any],
    metrics: Mapping[str, MetricFunction],
    *,
    name: str,
    seed: int = 0,
    group: Callable[[Sample], str | Sequence[str]] | None = None,
    on_sample: Callable[[dict[str, Any]], None] | None = None,
) -> Report:
    """Run ``predict`` on every sample and summarise ``metrics``.

    A sample whose prediction raises a :class:`MultiwayError` is counted in ``Report.failed``, its reason
    stands in its row, and it does not enter the means; any other exception is a bug and passes through.

    Args:
        samples: consumed once, lazily, so that a data set need not fit in memory.
        predict: sample input -> prediction; its wall and CPU time are the latency that is reported.
        metrics: name -> ``(prediction, target) -> float | Ratio | None``.
        name: title of the report.
        seed: of the bootstrap; also recorded in the report.
        group: sample -> name of its group, or of several; metrics are also summarised by group.
        on_sample: called with each finished row (for progress bars).

    Raises:
        InputError: the data set holds no sample, or every sample failed.
    """
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    started = time.perf_counter()
    rows: list[dict[str, Any]] = []
    for sample in samples:
        row: dict[str, Any] = {"name": sample.name}
        if group is not None:
            named = group(sample)
            row |= {"group": named} if isinstance(named, str) else {"groups": list(named)}
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            prediction = predict(sample.input)
        except MultiwayError as error:
            row["error"] = str(error)
        row["seconds"] = time.perf_counter() - wall
        row["cpu_seconds"] = time.process_time() - cpu
        if "error" not in row:
            row["metrics"] = {
                key: _value(metric(prediction, sample.target)) for key, metric in metrics.items()
            }
        rows.append(row)
        if on_sample is not None:
            on_sample(row)
    if not rows:
        raise InputError(f"evaluation {name!r}: the data set holds no sample")
    done = [row for row in rows if "error" not in row]
    if not done:
        raise InputError(
            f"evaluation {name!r}: all {len(rows)} samples failed, the first with: {rows[0]['error']}"
        )
    group_names = sorted({label for row in done for label in groups_of(row)})
    return Report(
        name=name,
        n=len(rows),
        failed=len(rows) - len(done),
        metrics=summarise(done, list(metrics), seed),
        groups={
            label: summarise([row for row in done if label in groups_of(row)], list(metrics), seed)
            for label in group_names
        },
        latency=Latency.of([row["seconds"] for row in done]),
        cpu_seconds=sum(row["cpu_seconds"] for row in done) / len(done),
        wall_seconds=time.perf_counter() - started,
        peak_rss_bytes=peak_rss_bytes(),
        seed=seed,
        started_at=started_at,
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        machine=describe_machine(),
        versions=installed_versions(),
        rows=tuple(rows),
    )


def _value(value: float | Ratio | None) -> float | list[float] | None:
    """A metric's value as JSON: a number, [numerator, denominator], or None where it is not defined."""
    if isinstance(value, Ratio):
        return [float(value.numerator), float(value.denominator)]
    if value is None or math.isnan(value):
        return None
    return float(value)

"""The report of an evaluation: numbers with intervals and all that is needed to judge and to repeat them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from multiway_core.errors import InputError
from multiway_core.evaluation.bootstrap import CONFIDENCE, mean_interval
from multiway_core.files import write_text

SCHEMA = "multiway.evaluation/1"


@dataclass(frozen=True)
class Metric:
    """Mean over the ``n`` samples where the metric is defined, with its 95 % bootstrap interval."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.4f}"
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class Latency:
    """Wall seconds a sample."""

    mean: float
    median: float
    p95: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Summarise one or more durations in seconds."""
        return cls(float(np.mean(seconds)), float(np.median(seconds)), float(np.quantile(seconds, 0.95)))


@dataclass(frozen=True)
class Report:
    """Result of :func:`multiway_core.evaluation.evaluate`.

    ``n`` counts all samples, ``failed`` those of them that raised an error (they stand in ``rows`` with their
    reason and are not in the means). ``cpu_seconds`` is the mean a sample, ``wall_seconds`` the whole run.
    """

    name: str
    n: int
    failed: int
    metrics: dict[str, Metric]
    groups: dict[str, dict[str, Metric]]
    latency: Latency
    cpu_seconds: float
    wall_seconds: float
    peak_rss_bytes: int | None
    seed: int
    started_at: str
    command: str
    machine: dict[str, Any]
    versions: dict[str, str]
    rows: tuple[dict[str, Any], ...] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-ready data with ``"schema": "multiway.evaluation/1"``."""
        return {"schema": SCHEMA, **asdict(self), "rows": list(self.rows)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Report:
        """Inverse of :meth:`to_json`.

        Raises:
            InputError: ``data`` is not a report of this schema.
        """
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise InputError(f'not an evaluation report: expected "schema": "{SCHEMA}"')
        values = {key: value for key, value in data.items() if key != "schema"}
        expected = {item.name for item in fields(cls)}
        if set(values) != expected:
            wrong = ", ".join(sorted(set(values) ^ expected))
            raise InputError(f"evaluation report: missing or unknown keys: {wrong}")
        values["metrics"] = {key: Metric(**value) for key, value in values["metrics"].items()}
        values["groups"] = {
            label: {key: Metric(**value) for key, value in group.items()}
            for label, group in values["groups"].items()
        }
        values["latency"] = Latency(**values["latency"])
        values["rows"] = tuple(values["rows"])
        return cls(**values)

    def to_markdown(self) -> str:
        """The report as a Markdown page: metrics by group, then cost, then circumstances.

        A metric named ``rougeL:lead`` is ``rougeL`` of a baseline ``lead``, which gets rows of its own.
        """
        lines = [f"# {self.name}", ""]
        failed = f", {self.failed} failed" if self.failed else ""
        lines += [f"{self.n} samples{failed}; mean [{CONFIDENCE:.0%} bootstrap interval].", ""]
        lines += self._metric_rows()
        lines += ["", "| cost | |", "| --- | --- |"]
        lines.append(_row(["seconds a sample, median", f"{self.latency.median:.3f}"]))
        lines.append(_row(["seconds a sample, 95th percentile", f"{self.latency.p95:.3f}"]))
        lines.append(_row(["CPU-seconds a sample, mean", f"{self.cpu_seconds:.3f}"]))
        lines.append(_row(["wall seconds, whole run", f"{self.wall_seconds:.1f}"]))
        if self.peak_rss_bytes is not None:
            lines.append(_row(["peak resident memory, MiB", f"{self.peak_rss_bytes / 2**20:.0f}"]))
        lines += ["", "| circumstances | |", "| --- | --- |"]
        lines.append(_row(["started", self.started_at]))
        lines.append(_row(["command", f"`{self.command}`"]))
        lines.append(_row(["seed", str(self.seed)]))
        lines += [_row([key, _readable(value)]) for key, value in self.machine.items()]
        lines.append(_row(["versions", ", ".join(f"{key} {value}" for key, value in self.versions.items())]))
        errors = [row for row in self.rows if "error" in row]
        if errors:
            lines += ["", "## Failed samples", ""]
            lines += [f"- {row['name']}: {row['error']}" for row in errors]
        return "\n".join(lines) + "\n"

    def plot(self, path: Path) -> None:
        """Write a PNG: each metric by group with its interval, its spread over samples, and the latency.

        Raises:
            InputError: matplotlib is not installed.
            OutputError: the file cannot be written.
        """
        from multiway_core.evaluation.plot import plot_report

        plot_report(self, path)

    def save(self, folder: Path) -> None:
        """Write ``report.json``, ``report.md`` and ``report.png`` into ``folder`` (made when absent)."""
        folder = Path(folder)
        write_text(folder / "report.json", json.dumps(self.to_json(), ensure_ascii=False, indent=2) + "\n")
        write_text(folder / "report.md", self.to_markdown())
        self.plot(folder / "report.png")

    def _metric_rows(self) -> list[str]:
        columns = list(dict.fromkeys(key.partition(":")[0] for key in self.metrics))
        systems = list(dict.fromkeys(key.partition(":")[2] for key in self.metrics))
        groups = {"all": (self.n - self.failed, self.metrics)}
        groups |= {label: (self._group_size(label), group) for label, group in self.groups.items()}
        rows = [_row(["", "n", *columns]), _row(["---"] * (len(columns) + 2))]
        for label, (size, values) in groups.items():
            for system in systems:
                found = [values.get(f"{key}:{system}" if system else key) for key in columns]
                cells = ["–" if value is None else str(value) for value in found]
                rows.append(_row([f"{label}, {system}" if system else label, str(size), *cells]))
        return rows

    def _group_size(self, label: str) -> int:
        return sum(label in groups_of(row) and "error" not in row for row in self.rows)


def groups_of(row: dict[str, Any]) -> list[str]:
    """The groups of a row: its one ``group``, or its ``groups`` where groups overlap."""
    return [row["group"]] if "group" in row else list(row.get("groups", ()))


def summarise(rows: Sequence[dict[str, Any]], names: Sequence[str], seed: int) -> dict[str, Metric]:
    """Mean and interval of each metric over ``rows``; a metric that is defined for no row is left out."""
    metrics: dict[str, Metric] = {}
    for name in names:
        values = [row["metrics"][name] for row in rows if row["metrics"][name] is not None]
        if not values:
            continue
        if isinstance(values[0], list):
            top = [value[0] for value in values]
            bottom = [value[1] for value in values]
            if not sum(bottom):
                continue
            interval = mean_interval(top, bottom, seed=seed)
        else:
            interval = mean_interval(values, seed=seed)
        metrics[name] = Metric(*interval, n=len(values))
    return metrics


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _readable(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

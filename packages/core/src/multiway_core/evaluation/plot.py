"""Plots of a report (needs the ``evaluation`` extra)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from multiway_core.errors import InputError
from multiway_core.files import write_bytes

if TYPE_CHECKING:
    from multiway_core.evaluation.report import Metric, Report

_BAR = "#7c93b8"
_ALL = "#1f3a68"
_SPREAD = "#c8803a"


def plot_report(report: Report, path: Path) -> None:
    """Draw ``report`` as PNG into ``path``: a row a metric (means by group, spread), then latency."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("plots need matplotlib: pip install 'multiway-core[evaluation]'") from error
    names = list(report.metrics)
    bars = max(1, 1 + len(report.groups))
    figure = Figure(figsize=(10, (0.6 + 0.28 * bars + 1.2) * len(names) + 2.4), layout="constrained")
    figure.suptitle(f"{report.name} (n = {report.n - report.failed})", fontsize=12)
    axes = figure.subplots(len(names) + 1, 2, squeeze=False)
    for row, name in enumerate(names):
        _plot_means(axes[row][0], name, report)
        _plot_spread(axes[row][1], name, _sample_values(report, name))
    seconds = [item["seconds"] for item in report.rows if "error" not in item]
    _plot_spread(axes[-1][0], "seconds a sample", seconds)
    axes[-1][1].ecdf(seconds, color=_ALL)
    axes[-1][1].axvline(report.latency.p95, color=_SPREAD, linestyle="--", label="95th percentile")
    axes[-1][1].set_xlabel("seconds a sample")
    axes[-1][1].set_ylabel("share of samples")
    axes[-1][1].legend(frameon=False, fontsize=8)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_bytes(path, buffer.getvalue())


def _plot_means(axis, name: str, report: Report) -> None:
    labelled: list[tuple[str, Metric]] = [("all", report.metrics[name])]
    labelled += [(label, group[name]) for label, group in report.groups.items() if name in group]
    labelled.reverse()  # barh counts from below
    means = [metric.mean for _, metric in labelled]
    below = [metric.mean - metric.low if metric.low is not None else np.nan for _, metric in labelled]
    above = [metric.high - metric.mean if metric.high is not None else np.nan for _, metric in labelled]
    colours = [_BAR] * (len(labelled) - 1) + [_ALL]
    errors = np.maximum([below, above], 0.0)
    axis.barh([label for label, _ in labelled], means, xerr=errors, color=colours, capsize=3)
    axis.set_xlabel(f"{name}: mean, 95 % interval", fontsize=9)


def _plot_spread(axis, name: str, values: list[float]) -> None:
    axis.hist(values, bins=min(30, max(5, len(values) // 4)), color=_SPREAD)
    axis.set_xlabel(name, fontsize=9)
    axis.set_ylabel("samples", fontsize=9)


def _sample_values(report: Report, name: str) -> list[float]:
    values = []
    for row in report.rows:
        value = row.get("metrics", {}).get(name)
        if isinstance(value, list):
            value = value[0] / value[1] if value[1] else None
        if value is not None:
            values.append(value)
    return values

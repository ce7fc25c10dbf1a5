"""Results of the comparison as JSON, as tables and as a plot."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from multiway_core.errors import DataError, InputError
from multiway_core.evaluation.machine import describe_machine, installed_versions
from multiway_core.files import write_bytes

from multiway_event_vision.recurrent.comparison import NATIVE_US, Cell, ComparisonConfig, Result
from multiway_event_vision.recurrent.gestures import BEST_WITHOUT_ORDER
from multiway_event_vision.recurrent.gestures import CLASSES as GESTURES
from multiway_event_vision.recurrent.networks import KINDS
from multiway_event_vision.recurrent.objective import LOSSES

SCHEMA = "multiway.event-vision.snn-rnn/1"
CHANCE = {"digits": 1 / 10, "gestures": 1 / len(GESTURES)}
"""Accuracy of guessing, on each set."""
_NAMES = {"snn": "SNN", "rnn": "RNN", "lstm": "LSTM", "memoryless": "no memory"}
_COLOURS = {"snn": "#c8803a", "rnn": "#1f3a68", "lstm": "#4f8a5b", "memoryless": "#999999"}


def save(results: Sequence[Result], config: ComparisonConfig, path: Path) -> None:
    """Write all results so far. Raises OutputError."""
    document = {
        "schema": SCHEMA,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine() | {"load_average": os.getloadavg()[0]},
        "versions": installed_versions(),
        "config": asdict(config),
        "results": [asdict(result) for result in results],
    }
    write_bytes(path, (json.dumps(document, indent=1) + "\n").encode())


def load(path: Path, config: ComparisonConfig) -> list[Result]:
    """Results of an earlier, interrupted run with the same config. Raises DataError, InputError: another config."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        results = [Result(**row | {"cell": Cell(**row["cell"])}) for row in document["results"]]
        earlier = document["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} does not hold results of the comparison; choose another folder") from error
    if earlier != json.loads(json.dumps(asdict(config))):
        raise InputError(f"{path} is of a comparison with other settings; choose another folder")
    return results


def accuracy_text(results: Sequence[Result]) -> str:
    """Mean and standard deviation over seeds in percent; a dash without results."""
    values = [100 * result.accuracy for result in results]
    if not values:
        return "–"
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def tables(results: Sequence[Result], config: ComparisonConfig) -> str:
    """Markdown: accuracy by step length, on both sets, of both forms; then parameters and operations."""

    def of(**wanted: object) -> list[Result]:
        return [
            result
            for result in results
            if all(getattr(result.cell, name) == value for name, value in wanted.items())
        ]

    lengths = config.digit_steps_us
    lines = [
        "| network | loss | "
        + " | ".join(f"digits, {dt / 1000:g} ms" for dt in lengths)
        + f" | gestures, {NATIVE_US['gestures'] / 1000:g} ms | conv, digits, "
        f"{NATIVE_US['digits'] / 1000:g} ms | conv, gestures, {NATIVE_US['gestures'] / 1000:g} ms |",
        "|---|---|" + "--:|" * (len(lengths) + 3),
    ]
    for kind in KINDS:
        for loss in LOSSES:
            row = [of(data="digits", form="dense", kind=kind, loss=loss, dt_us=dt) for dt in lengths]
            row.append(of(data="gestures", form="dense", kind=kind, loss=loss))
            row += [of(data=data, form="conv", kind=kind, loss=loss) for data in ("digits", "gestures")]
            lines.append(
                f"| {_NAMES[kind]} | {loss} | " + " | ".join(accuracy_text(cell) for cell in row) + " |"
            )
    guessed = {data: f"{100 * share:.1f}" for data, share in CHANCE.items()}
    chances = [guessed["digits"]] * len(lengths) + [
        guessed[data] for data in ("gestures", "digits", "gestures")
    ]
    lines.append("| chance | | " + " | ".join(chances) + " |")
    lines += [
        "",
        "| digits, 5 ms, rate loss | parameters | dense: thousand MAC | following events: thousand MAC | "
        "thousand additions | spikes a neuron and step | accuracy | CPU s to train |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for form in ("dense", "conv"):
        for kind in KINDS:
            found = of(data="digits", form=form, kind=kind, loss="rate", dt_us=NATIVE_US["digits"])
            if not found:
                continue
            rates = [result.spike_rate for result in found if result.spike_rate is not None]
            counts = [
                f"{mean(getattr(result, name) for result in found) / 1000:,.0f}"
                for name in ("dense_macs", "macs", "additions")
            ]
            lines.append(
                f"| {_NAMES[kind]}, {form} | {found[0].parameters:,} | {' | '.join(counts)} | "
                f"{f'{mean(rates):.3f}' if rates else '–'} | {accuracy_text(found)} | "
                f"{mean(result.cpu_seconds for result in found):.1f} |"
            )
    return "\n".join(lines) + "\n"


def check_plot() -> None:
    """Raises InputError: matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise InputError(
            "the comparison's plot needs matplotlib: pip install 'multiway-event-vision[snn-rnn]'"
        )


def plot(results: Sequence[Result], path: Path) -> None:
    """PNG: accuracy on digits over the length of a step; accuracy on gestures. Raises InputError as `check_plot`."""
    check_plot()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    bar = 0
    labels = []
    for kind in KINDS:
        for loss in LOSSES:
            chosen = [r for r in results if (r.cell.kind, r.cell.loss, r.cell.form) == (kind, loss, "dense")]
            style = {"color": _COLOURS[kind], "linestyle": "-" if loss == "rate" else "--"}
            lengths = sorted({r.cell.dt_us for r in chosen if r.cell.data == "digits"})
            values = [
                [100 * r.accuracy for r in chosen if r.cell.data == "digits" and r.cell.dt_us == dt]
                for dt in lengths
            ]
            if lengths:
                left.errorbar(
                    [dt / 1000 for dt in lengths],
                    [mean(each) for each in values],
                    yerr=[stdev(each) if len(each) > 1 else 0 for each in values],
                    marker="o",
                    markersize=4,
                    capsize=3,
                    label=f"{_NAMES[kind]}, {loss}",
                    **style,
                )
            ordered = [100 * r.accuracy for r in chosen if r.cell.data == "gestures"]
            if ordered:
                right.bar(
                    bar,
                    mean(ordered),
                    yerr=stdev(ordered) if len(ordered) > 1 else 0,
                    capsize=3,
                    color=_COLOURS[kind],
                    alpha=1.0 if loss == "rate" else 0.55,
                )
                labels.append(f"{_NAMES[kind]}\n{loss}".replace(" ", "\n"))
                bar += 1
    left.set(
        title="digits, dense networks", xlabel="length of one of 15 steps, ms", ylabel="test accuracy, %"
    )
    left.set_xscale("log")
    left.axhline(100 * CHANCE["digits"], color="black", linewidth=0.8, linestyle="-.", label="chance")
    ticks = sorted({r.cell.dt_us / 1000 for r in results if r.cell.data == "digits"})
    left.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    left.minorticks_off()
    left.legend(fontsize=7, frameon=False)
    right.set(title="gestures: only the order tells", ylim=(0, 119))
    right.axhline(
        100 * BEST_WITHOUT_ORDER, color="black", linewidth=0.8, linestyle=":", label="best without order"
    )
    right.axhline(100 * CHANCE["gestures"], color="black", linewidth=0.8, linestyle="-.", label="chance")
    right.legend(fontsize=7, frameon=False, loc="upper left")
    right.set_yticks(range(0, 101, 20))
    right.set_xticks(range(bar), labels, fontsize=6)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="y", labelsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_bytes(path, buffer.getvalue())

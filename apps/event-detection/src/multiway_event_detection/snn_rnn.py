"""The ``snn-rnn`` command: spiking and recurrent networks on events, one table and one plot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from multiway_core.errors import InputError
from multiway_core.files import write_bytes
from multiway_event_vision.recurrent import report
from multiway_event_vision.recurrent.comparison import Comparison, ComparisonConfig, cells

RESULTS, TABLE, PLOT = "results.json", "table.md", "accuracy.png"


def run_comparison(
    folder: Path,
    *,
    seeds: int | None = None,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> str:
    """Run what is missing of the comparison in ``folder`` (its data, results, table and plot); returns the table.

    It runs on one thread and writes after every training run; an interrupted comparison resumes.
    ``on_progress`` gets (runs done, runs in all). Raises InputError: matplotlib or scikit-learn is not installed, or
    ``folder`` holds a comparison with other settings; DataError; OutputError.
    """
    if seeds is not None and seeds < 1:
        raise InputError(f"--seeds {seeds}: expected 1 or more")
    config = ComparisonConfig().quick() if quick else ComparisonConfig()
    if seeds is not None:
        config = replace(config, seeds=seeds)
    report.check_plot()
    path = folder / RESULTS
    results = report.load(path, config) if path.exists() else []
    done = {result.cell for result in results}
    wanted = list(cells(config))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        comparison = Comparison(config, folder / "data")
        for number, cell in enumerate(wanted):
            if on_progress is not None:
                on_progress(number, len(wanted))
            if cell not in done:
                results.append(comparison.run(cell))
                report.save(results, config, path)
                write_bytes(folder / TABLE, report.tables(results, config).encode())
    finally:
        torch.set_num_threads(threads)
    table = report.tables(results, config)
    write_bytes(folder / TABLE, table.encode())
    report.plot(results, folder / PLOT)
    return table

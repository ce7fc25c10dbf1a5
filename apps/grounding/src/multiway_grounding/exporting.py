"""The ``export`` command: results as files that other tools open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from multiway_grounding.results_file import read_results


def export_results(paths: Sequence[Path], format: str, output: Path, *, overwrite: bool) -> int:
    """Write all results of these files in one of ``multiway_vision_language.export.FORMATS``; how many there are.

    Raises InputError, DataError: a bad file or format; OutputError.
    """
    from multiway_vision_language.export import write

    results = [result for path in paths for result in read_results(path)]
    write(results, format, output, overwrite=overwrite)
    return len(results)

"""The ``batch`` command: many pictures, one JSON line each, resumable."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from multiway_core.app import (
    Input,
    ModelLoader,
    ModelOptions,
    plan_outputs,
    progress_bar,
    run_jobs,
    write_json,
)

from multiway_grounding.app import APP
from multiway_grounding.jobs import Job, find_jobs
from multiway_grounding.request import Request
from multiway_grounding.results_file import ResultsFile

if TYPE_CHECKING:
    from multiway_vision_language.result import Grounding


@dataclass(frozen=True)
class BatchOptions:
    """Where results go and how they are made.

    Attributes:
        output: the file of JSON lines.
        save: a folder for annotated pictures, or None.
        processes: workers of one thread each.
    """

    output: Path
    model: ModelOptions
    save: Path | None = None
    processes: int = 1
    overwrite: bool = False
    summary: bool = False


def batch(arguments: Sequence[str], request: Request, options: BatchOptions) -> int:
    """Do what ``arguments`` name (:func:`find_jobs`); the exit code: 0 all, 1 some failed, 2 none was done.

    A job whose line is in the output already is not done again; one that failed is. With ``summary`` standard output
    gets the numbers as one JSON object. Raises InputError, DataError, OutputError before any work, and StopRun when the
    model cannot be loaded.
    """
    jobs, problems = find_jobs(arguments, request)
    failed = list(problems)
    for name, reason in problems:
        _note_failure(name, reason)
    if not jobs:
        return 2
    results = ResultsFile(options.output, overwrite=options.overwrite)
    pictures = _picture_files(jobs, options.save)
    waiting = [index for index, job in enumerate(jobs) if (options.model.model, job.key) not in results.done]
    work = [(jobs[index], pictures[index]) for index in waiting]
    written = 0
    start = functools.partial(start_worker, options, options.processes > 1)
    with progress_bar(enabled=len(work) > 1) as progress:
        bar = progress.add_task("pictures", total=len(work))
        for outcome in run_jobs(work, start, processes=options.processes):
            job, _ = work[outcome.index]
            if outcome.error is not None:
                failed.append((job.source, outcome.error))
                _note_failure(job.source, outcome.error)
            else:
                results.add(outcome.value, job.request.to_json())
                written += 1
            progress.advance(bar)
    skipped = len(jobs) - len(work)
    if options.summary:
        summary = {
            "output": str(options.output),
            "done": written,
            "skipped": skipped,
            "failed": [{"source": source, "error": reason} for source, reason in failed],
        }
        write_json(summary)
    else:
        there = f", {skipped} were there already" if skipped else ""
        wrong = f", {len(failed)} failed" if failed else ""
        APP.note(f"{written} written to {options.output}{there}{wrong}")
    if not failed:
        return 0
    return 1 if written + skipped else 2


def start_worker(options: BatchOptions, one_thread: bool) -> Callable[[tuple[Job, Path | None]], Grounding]:
    """What each process calls once: a function that does one job and writes its annotated picture."""
    if one_thread:
        import torch

        torch.set_num_threads(1)
    return functools.partial(_do, ModelLoader(APP, options.model))


def _do(loader: ModelLoader, work: tuple[Job, Path | None]) -> Grounding:
    from multiway_vision_language.pictures import open_picture

    from multiway_grounding.render import save_annotated

    job, file = work
    picture = open_picture(job.source)
    result = job.request.run(loader(), picture)
    if file is not None:
        save_annotated(picture, result, file)
    return result


def _picture_files(jobs: Sequence[Job], folder: Path | None) -> list[Path | None]:
    if folder is None:
        return [None] * len(jobs)
    inputs = [Input(Path(job.source), Path(Path(job.source).name)) for job in jobs]
    return [*plan_outputs(inputs, folder, ".png")]


def _note_failure(name: str, reason: str) -> None:
    APP.note(reason if name in reason else f"{name}: {reason}")

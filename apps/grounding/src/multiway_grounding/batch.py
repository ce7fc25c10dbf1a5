"""The ``batch`` command: many pictures, one JSON line each, resumable."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from multiway_core.app import (
    BatchLog,
    Input,
    ModelLoader,
    ModelOptions,
    plan_outputs,
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
    log = BatchLog(APP, problems)
    if not jobs:
        return 2
    results = ResultsFile(options.output, overwrite=options.overwrite)
    pictures = _picture_files(jobs, options.save)
    waiting = [index for index, job in enumerate(jobs) if (options.model.model, job.key) not in results.done]
    work = [(jobs[index], pictures[index]) for index in waiting]
    start = functools.partial(start_worker, options, options.processes > 1)
    names = [job.source for job, _ in work]
    written = 0
    for index, result in log.results(work, start, names=names, processes=options.processes, title="pictures"):
        if result is not None:
            results.add(result, work[index][0].request.to_json())
            written += 1
    skipped = len(jobs) - len(work)
    log.summarize(options.output, written, skipped, as_json=options.summary)
    return log.exit_code(written + skipped)


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

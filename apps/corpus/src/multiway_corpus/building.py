"""A build: inputs in worker processes, duplicates over all of them, parts, a report. A stopped one resumes."""

from __future__ import annotations

import functools
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from multiway_core.app import BatchLog, find_inputs
from multiway_core.errors import InputError, OutputError
from multiway_core.files import write_text
from multiway_text.documents import SUFFIXES
from multiway_text.redstone.pipeline import Pipeline, Recipe
from multiway_text.redstone.shards import (
    ARCHIVES,
    PAGES,
    WORK,
    Repeats,
    connect,
    divide_lines,
    finish,
    group_band,
    group_lines,
    merged,
    work_on,
)

from multiway_corpus.app import APP
from multiway_corpus.engines import ENGINES, Engine

SCHEMA = "multiway.corpus/1"
LEDGER, REPORT = "build.json", "report.json"
MANY_PAGES = 100
BAND, LINES, LINE_SHARES = "work/band-{:02}.npy", "work/lines-{:02}.npy", 16


@dataclass(frozen=True)
class Build:
    """What is built of which inputs, and how it is stored."""

    recipe: Recipe
    inputs: tuple[Path, ...]
    output: Path
    form: str = "parquet"
    repeats: Repeats = field(default_factory=Repeats)

    def ledger(self) -> dict[str, Any]:
        """What must be the same for a stopped build to resume."""
        files = [{"name": str(path), "bytes": path.stat().st_size} for path in self.inputs]
        choices = {"recipe": asdict(self.recipe), "format": self.form, "repeats": asdict(self.repeats)}
        return json.loads(json.dumps({"schema": SCHEMA, **choices, "inputs": files}, default=str))


def find(arguments: Sequence[str], output: Path, log: BatchLog) -> tuple[Path, ...]:
    """The archives, pages and texts that arguments mean; what is not found goes to the log. Raises InputError: none."""
    found, problems = find_inputs(arguments, (*ARCHIVES, *PAGES, *SUFFIXES), exclude=output)
    for name, reason in problems:
        log.fail(name, reason)
    if not found:
        raise InputError("no input: expected WARC or WET files, HTML pages, or texts (JSONL, Parquet, txt)")
    pages = sum(item.path.suffix in PAGES for item in found)
    if pages > MANY_PAGES:
        APP.note(
            f"each of {pages:,} HTML pages becomes a part of its own; multiway-corpus pack makes one archive of them"
        )
    return tuple(item.path for item in found)


def run(
    build: Build, log: BatchLog, *, workers: int = 1, engine: str = "local", overwrite: bool = False
) -> dict[str, Any]:
    """Do what is not done yet; the report, which is also ``OUT/report.json``. Raises InputError, OutputError."""
    start, output = time.monotonic(), build.output
    jobs_on = ENGINES[engine]()
    _open(build, overwrite)
    if (output / REPORT).is_file():
        shutil.rmtree(output / Path(WORK).parent, ignore_errors=True)  # of a build killed at its very end
        APP.note(f"{output} is complete; --overwrite builds it anew")
        return read_report(output)
    works = [output / WORK.format(number) for number in range(len(build.inputs))]
    waiting = [number for number, work in enumerate(works) if not work.is_file()]
    if len(waiting) < len(works):
        APP.note(f"{len(works) - len(waiting)} of {len(works)} inputs are done already")
    jobs = [(build.inputs[number], works[number]) for number in waiting]
    names = [str(path) for path, _ in jobs]
    begin = functools.partial(_worker, build.recipe, build.repeats)
    pages = 0
    for index, found in log.results(jobs, begin, names=names, processes=workers, title="pages", run=jobs_on):
        if found is not None:
            pages += found["pages"]
            rate = pages / (time.monotonic() - start)
            told = f"{found['pages']:,} pages, {found['kept']:,} kept"
            APP.note(f"{names[index]}: {told}; {pages:,} pages so far, {rate:.0f} a second")
    there = [work for work in works if work.is_file()]
    do = functools.partial(_together, jobs_on, workers)
    if build.repeats.minhash:
        edges = [output / BAND.format(band) for band in range(build.repeats.minhash.bands)]
        do(functools.partial(group_band, there), list(enumerate(edges)))
        connect(there, edges)
    if build.repeats.lines:
        shares = [output / LINES.format(share) for share in range(LINE_SHARES)]
        do(functools.partial(group_lines, there), [(i, LINE_SHARES, share) for i, share in enumerate(shares)])
        divide_lines(there, shares)
    parts = [(work, int(work.stem), output, build.form) for work in there]
    summaries = do(finish, parts)
    failed = [{"input": name, "reason": reason} for name, reason in log.failed]
    report = {"schema": SCHEMA, **merged(summaries), "recipe": build.recipe.name, "failed_inputs": failed}
    report["new_pages"], report["seconds"] = pages, round(time.monotonic() - start, 1)
    if len(there) == len(works):
        write_text(output / REPORT, json.dumps(report, ensure_ascii=False, indent=2) + "\n")
        shutil.rmtree(output / Path(WORK).parent)
    return report


def _together(
    jobs_on: Engine, workers: int, step: Callable[..., Any], jobs: list[tuple[Any, ...]]
) -> list[Any]:
    """The results of jobs that must all succeed, in their order. Raises OutputError: one did not."""
    results: list[Any] = [None] * len(jobs)
    for outcome in jobs_on(jobs, functools.partial(_starred, step), processes=workers):
        if outcome.error is not None:
            raise OutputError(outcome.error)
        results[outcome.index] = outcome.value
    return results


def _starred(step: Callable[..., Any]) -> Callable[[tuple[Any, ...]], Any]:
    return lambda job: step(*job)


def read_report(output: Path) -> dict[str, Any]:
    """The report of a complete build. Raises InputError: none is there."""
    try:
        report = json.loads((output / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{output} is no complete build: no {REPORT} that can be read") from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise InputError(f'{output / REPORT}: not a report of a build: expected "schema": "{SCHEMA}"')
    return report


def _open(build: Build, overwrite: bool) -> None:
    """Begin or resume: the folder must be new, empty, or hold the same build."""
    output, ledger = build.output, build.ledger()
    path = output / LEDGER
    if overwrite and path.is_file():
        for found in (*output.glob("part-*"), output / REPORT, path):
            found.unlink(missing_ok=True)
        for folder in (WORK, "dropped/x"):
            shutil.rmtree((output / folder).parent, ignore_errors=True)
    if path.is_file():
        if json.loads(path.read_text(encoding="utf-8")) != ledger:
            raise InputError(
                f"{output} holds a build of other inputs or options; give a new folder, or --overwrite"
            )
    elif output.is_dir() and any(output.iterdir()):
        raise InputError(f"{output} is not empty and holds no build; give a new folder")
    else:
        write_text(path, json.dumps(ledger, indent=2) + "\n")


def _worker(recipe: Recipe, repeats: Repeats) -> Callable[[tuple[Path, Path]], dict[str, Any]]:
    pipeline = Pipeline(recipe)
    return lambda job: work_on(*job, pipeline, repeats)

"""The ``read`` command: to standard output, or one file an input in a folder that can be resumed."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from multiway_core.app import (
    BatchLog,
    Input,
    find_inputs,
    is_done,
    plan_outputs,
    write_stdout,
)
from multiway_core.errors import InputError
from multiway_core.files import write_bytes

from multiway_ocr.app import APP
from multiway_ocr.reader import SUFFIXES, Format, Reader, ReadOptions, warnings

# What stands between the results of several inputs on standard output; json becomes one array.
_SEPARATORS: dict[Format, bytes] = {"text": b"\f", "jsonl": b"", "markdown": b"\n"}


@dataclass(frozen=True)
class Job:
    """One input; ``output`` is None when the result goes to standard output."""

    source: Path
    output: Path | None


@dataclass(frozen=True)
class Result:
    """What a job reports: bytes only where there is no output file."""

    data: bytes | None
    warnings: list[str]


def read(
    arguments: Sequence[str],
    options: ReadOptions,
    *,
    format: Format,
    output: Path | None,
    jobs: int,
    overwrite: bool,
    summary: bool,
) -> int:
    """Read everything that ``arguments`` name; returns the exit code (0 all, 1 some failed, 2 all failed).

    Args:
        output: folder for one file an input (made when absent); None prints to standard output.
        jobs: worker processes.
        overwrite: redo outputs that are there already and not older than their source.
        summary: with ``output``: print what was done, skipped and failed as one JSON object.
    """
    if output is not None and output.exists() and not output.is_dir():
        raise InputError(f"--output {output}: is a file; give a folder")
    if options.pages is not None:
        from multiway_document.pages import parse_page_ranges

        parse_page_ranges(options.pages)  # once for all inputs, before any work
    inputs, problems = find_inputs(arguments, SUFFIXES, exclude=output)
    log = BatchLog(APP, problems)
    if output is None:
        done = _to_stdout(inputs, options, format, jobs, log)
    else:
        done = _to_folder(inputs, options, format, output, jobs, overwrite, log, summary)
    return log.exit_code(done)


def _to_stdout(
    inputs: Sequence[Input], options: ReadOptions, format: Format, jobs: int, log: BatchLog
) -> int:
    if len(inputs) > 1 and format not in _SEPARATORS and format != "json":
        raise InputError(f"--format {format} of {len(inputs)} inputs needs --output DIR")
    if format == "pdf" and sys.stdout.isatty():
        raise InputError("--format pdf is binary: give --output DIR, or redirect standard output")
    if len(inputs) == 1 and format == "text":
        return _stream_text(inputs[0], options, log)
    printer = _Printer(format, len(inputs))

    def finish(index: int, result: Result | None) -> None:
        printer.put(index, result.data if result is not None else None)

    done = _run([Job(item.path, None) for item in inputs], options, format, jobs, log, finish)
    printer.close()
    return done


def _stream_text(item: Input, options: ReadOptions, log: BatchLog) -> int:
    """Print one input line by line as it is read: the same bytes as the text export, only sooner."""
    from multiway_document.export.markup import printable
    from multiway_document.result import Document, Line, Page

    lines: list[int] = [0]  # of each page so far; the last one is being read
    try:
        for event in Reader(options).stream(item.path):
            if isinstance(event, Line):
                write_stdout((_page_break(lines) if lines[-1] == 0 else "") + printable(event.text) + "\n")
                lines[-1] += 1
            elif isinstance(event, Page):
                if lines[-1] == 0:
                    write_stdout(_page_break(lines))
                lines.append(0)
            elif isinstance(event, Document):
                if len(lines) > 2 and lines[-2] == 0:
                    write_stdout("\n")
                APP.note(*warnings(event))
    except InputError as error:
        log.fail(str(item.path), str(error))
        return 0
    return 1


def _page_break(lines: list[int]) -> str:
    """What separates the page that begins from the one before: a form feed on a line of its own."""
    if len(lines) == 1:
        return ""
    return "\f" if lines[-2] else "\n\f"


def _to_folder(
    inputs: Sequence[Input],
    options: ReadOptions,
    format: Format,
    output: Path,
    jobs: int,
    overwrite: bool,
    log: BatchLog,
    summary: bool,
) -> int:
    from multiway_document.export import EXTENSIONS

    outputs = plan_outputs(inputs, output, EXTENSIONS[format])
    planned = [Job(item.path, path) for item, path in zip(inputs, outputs, strict=True)]
    waiting = [job for job in planned if overwrite or not _is_done(job)]
    written: list[Job] = []

    def finish(index: int, result: Result | None) -> None:
        if result is not None:
            written.append(waiting[index])

    _run(waiting, options, format, jobs, log, finish)
    skipped = [job for job in planned if job not in waiting]
    done, there = (
        [{"source": str(job.source), "output": str(job.output)} for job in group]
        for group in (written, skipped)
    )
    log.summarize(output, done, there, as_json=summary)
    return len(written) + len(skipped)


def _is_done(job: Job) -> bool:
    return job.output is not None and is_done(job.source, job.output)


def _run(
    jobs: Sequence[Job],
    options: ReadOptions,
    format: Format,
    processes: int,
    log: BatchLog,
    finish: Callable[[int, Result | None], None],
) -> int:
    """Do the jobs; returns how many succeeded. ``finish`` gets every result, None for a failure."""
    start = functools.partial(start_worker, options, format, processes > 1)
    names = [str(job.source) for job in jobs]
    show = not sys.stdout.isatty()
    done = 0
    for index, result in log.results(
        jobs, start, names=names, processes=processes, title="reading", show=show
    ):
        if result is not None:
            APP.note(*result.warnings)
            done += 1
        finish(index, result)
    return done


def start_worker(options: ReadOptions, format: Format, one_thread: bool) -> Callable[[Job], Result]:
    """What each process calls once: a function that reads one input and writes its output."""
    if one_thread:
        os.environ["OMP_NUM_THREADS"] = "1"  # for torch, which only some engines import
        import cv2

        cv2.setNumThreads(1)
    return functools.partial(_do, Reader(options), format)


def _do(reader: Reader, format: Format, job: Job) -> Result:
    document = reader.document(job.source)
    data = reader.export(document, job.source, format)
    if job.output is None:
        return Result(data, warnings(document))
    write_bytes(job.output, data)
    return Result(None, warnings(document))


class _Printer:
    """Prints results in the order of the inputs, however they come; several JSON documents as one array."""

    def __init__(self, format: Format, count: int) -> None:
        self.array = format == "json" and count > 1
        self.separator = b",\n" if self.array else _SEPARATORS.get(format, b"")
        self.waiting: dict[int, bytes | None] = {}
        self.next = 0
        self.printed = 0

    def put(self, index: int, data: bytes | None) -> None:
        self.waiting[index] = data
        while self.next in self.waiting:
            ready = self.waiting.pop(self.next)
            self.next += 1
            if ready is None:
                continue
            if self.array:
                ready = ready.rstrip(b"\n")
            write_stdout((self.separator if self.printed else self._opening()) + ready)
            self.printed += 1

    def close(self) -> None:
        if self.array:
            write_stdout(b"\n]\n" if self.printed else b"[]\n")

    def _opening(self) -> bytes:
        return b"[\n" if self.array else b""

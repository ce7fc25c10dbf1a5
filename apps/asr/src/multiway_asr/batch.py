"""Transcription of many recordings: to standard output, or to files in a folder, where an interrupted run resumes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from multiway_core.app import BatchLog, find_inputs, is_done, plan_outputs, progress_bar, write_stdout
from multiway_core.errors import InputError, OutputError

from multiway_asr.app import APP
from multiway_asr.transcriber import SUFFIXES, TranscribeOptions, Transcriber

if TYPE_CHECKING:
    from multiway_speech.result import Segment, Transcript

    from multiway_asr.incremental_writer import IncrementalWriter


class Format(StrEnum):
    """What transcripts are written as, and the files' endings."""

    TXT = "txt"
    SRT = "srt"
    VTT = "vtt"
    TSV = "tsv"
    JSON = "json"
    RTTM = "rttm"
    STM = "stm"


OnSegment = Callable[["Segment"], None]
OnHeard = Callable[[float], None]


@dataclass(frozen=True)
class Job:
    """One recording; ``outputs`` (format -> path) is empty when the transcript goes to standard output."""

    source: Path
    outputs: dict[str, Path]


def transcribe_all(
    arguments: Sequence[str],
    transcriber: Transcriber,
    options: TranscribeOptions,
    *,
    formats: Sequence[Format],
    output: Path | None,
    resume: bool,
) -> int:
    """Transcribe all that ``arguments`` name; returns the exit code (0 all, 1 some failed, 2 all failed).

    Args:
        formats: one or more; only one for standard output.
        output: folder for a file of each format an input (made when absent); None prints.
        resume: leave alone what ``output`` holds already and is not older than its source.

    Raises InputError for options that contradict each other, OutputError when nothing more can be written, StopRun
    when the model cannot be loaded.
    """
    formats = list(dict.fromkeys(formats))
    if output is None and len(formats) > 1:
        raise InputError(f"--format {formats[0]} and {formats[1]}: several formats need --output DIR")
    if output is None and resume:
        raise InputError("--resume needs the folder of the interrupted run: --output DIR")
    if output is not None and output.exists() and not output.is_dir():
        raise InputError(f"--output {output}: is a file; give a folder")
    inputs, problems = find_inputs(arguments, SUFFIXES, exclude=output)
    log = BatchLog(APP, problems)
    if output is None and len(inputs) > 1 and formats[0] not in (Format.TXT, Format.JSON):
        raise InputError(f"--format {formats[0]} of {len(inputs)} recordings needs --output DIR")
    plans = {
        format_: plan_outputs(inputs, output, f".{format_}") if output is not None else []
        for format_ in formats
    }
    jobs = [
        Job(item.path, {format_: paths[index] for format_, paths in plans.items() if paths})
        for index, item in enumerate(inputs)
    ]
    waiting = [
        job for job in jobs if not (resume and all(is_done(job.source, p) for p in job.outputs.values()))
    ]
    printer = _Printer(formats[0], len(inputs)) if output is None else None
    done = 0
    for job in waiting:
        try:
            if printer is not None:
                _print(job, transcriber, options, printer)
            else:
                _write(job, transcriber, options)
            done += 1
        except InputError as error:
            log.fail(str(job.source), str(error))
    if printer is not None:
        printer.close()
    skipped = len(jobs) - len(waiting)
    if output is not None:
        log.summarize(output, done, skipped)
    return log.exit_code(done + skipped)


def _print(job: Job, transcriber: Transcriber, options: TranscribeOptions, printer: _Printer) -> None:
    printer.begin(job.source)
    # Numbers of speakers that will be merged at the end are not shown before.
    live = printer.format is Format.TXT and (options.max_speakers is None or options.window is not None)
    transcript = _follow(job.source, transcriber, options, on_segment=printer.segment if live else None)
    printer.finish(transcript, shown=live)


def _write(job: Job, transcriber: Transcriber, options: TranscribeOptions) -> None:
    from multiway_asr.incremental_writer import IncrementalWriter

    files = IncrementalWriter(job.outputs, job.source.name, transcriber.model)
    try:
        transcript = _follow(job.source, transcriber, options, on_segment=files.add, on_heard=files.heard)
        files.finish(transcript)
    except BaseException as error:
        _keep(files, error)
        raise


def _keep(files: IncrementalWriter, error: BaseException) -> None:
    """Something stops the transcription (Ctrl-C, a full disk, a bug): say what there is of it."""
    try:
        kept = files.abandon()
    except OutputError as failure:
        if not isinstance(error, OutputError):
            APP.note(str(failure))
        return
    if kept is not None:
        APP.note(kept)


def _follow(
    path: Path,
    transcriber: Transcriber,
    options: TranscribeOptions,
    *,
    on_segment: OnSegment | None = None,
    on_heard: OnHeard | None = None,
) -> Transcript:
    """Transcribe one recording with progress and, at the end, a line of facts on standard error."""
    from multiway_speech.result import Transcript

    transcriber.pipeline()  # loading is no part of the recording's time
    started = time.perf_counter()
    with _progress(path.name) as (heard, written):

        def on_piece(seconds: float) -> None:
            heard(seconds)
            if on_heard is not None:
                on_heard(seconds)

        for event in transcriber.stream(path, options, on_piece):
            if isinstance(event, Transcript):
                transcript = event
            else:
                written(event.end)
                if on_segment is not None:
                    on_segment(event)
    seconds = time.perf_counter() - started
    for problem in transcript.problems:
        APP.note(f"{path}: {problem}")
    APP.note(
        f"{path}: {transcript.duration:.1f} s, {_counted(len(transcript.segments), 'segment')}, "
        f"{_counted(len(transcript.speakers), 'speaker')}, in {seconds:.1f} s "
        f"(RTF {seconds / max(transcript.duration, 1e-3):.2f})"
    )
    return transcript


@contextmanager
def _progress(name: str) -> Iterator[tuple[OnHeard, OnHeard]]:
    """Functions that move a progress bar: seconds encoded, and seconds decoded."""
    with progress_bar(enabled=not sys.stdout.isatty()) as progress:
        bar = progress.add_task(f"{name}: encoding, s", total=None)
        length = 0.0

        def heard(seconds: float) -> None:
            nonlocal length
            length = max(length, seconds)
            progress.update(bar, completed=int(seconds))

        def written(seconds: float) -> None:
            progress.update(
                bar, description=f"{name}: decoding, s", total=int(length), completed=int(seconds)
            )

        yield heard, written


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


class _Printer:
    """Prints transcripts: text streamed, several under their names; several JSON documents as one array."""

    def __init__(self, format_: Format, count: int) -> None:
        self.format = format_
        self.many = count > 1
        self.printed = 0
        self._head = ""

    def begin(self, source: Path) -> None:
        self._head = f"{source.name}:\n" if self.many and self.format is Format.TXT else ""

    def segment(self, segment: Segment) -> None:
        from multiway_speech.export.text import line

        self._put(line(segment))

    def finish(self, transcript: Transcript, *, shown: bool) -> None:
        from multiway_speech.export import export

        text = "" if shown else export(transcript, self.format)
        if self.many and self.format is Format.JSON:
            text = (",\n" if self.printed else "[\n") + text.rstrip("\n")
        self._put(text)
        self.printed += 1

    def _put(self, text: str) -> None:
        if self._head:
            text, self._head = ("\n" if self.printed else "") + self._head + text, ""
        if text:
            write_stdout(text)

    def close(self) -> None:
        if self.many and self.format is Format.JSON:
            write_stdout("\n]\n" if self.printed else "[]\n")

"""The commands that measure and train."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    SeedOption,
    note,
    progress_bar,
    write_stdout,
)
from multiway_core.errors import InputError

from multiway_asr.commands.transcribe import ContextOption, SpeakersOption, WindowOption
from multiway_asr.normalizers import Normalizer
from multiway_asr.transcriber import BUNDLED_MODEL, PROGRAM, TranscribeOptions, Transcriber


def evaluate(
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA...",
            help="Each a folder of recordings with references (JSON, STM, RTTM, JSONL, txt), or one such file.",
        ),
    ],
    hypotheses: Annotated[
        Path | None,
        typer.Option(
            "--hypotheses",
            metavar="DIR",
            help="Score these transcripts of any system; nothing is transcribed.",
        ),
    ] = None,
    context: ContextOption = None,
    terms: Annotated[
        bool,
        typer.Option(
            "--terms/--no-terms", help="Tell each recording's own terms, if DATA has contexts.json."
        ),
    ] = True,
    max_speakers: SpeakersOption = None,
    window: WindowOption = None,
    normalizer: Annotated[
        Normalizer | None,
        typer.Option(
            "--normalizer", help="What counts as the same word. [default: by the references' language]"
        ),
    ] = None,
    collar: Annotated[
        float, typer.Option("--collar", min=0.0, help="tcpWER: seconds a word may be off.")
    ] = 5.0,
    der_collar: Annotated[
        float,
        typer.Option("--der-collar", min=0.0, help="DER: seconds around each turn's ends that do not count."),
    ] = 0.25,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many recordings of each DATA.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Write the report, recordings.jsonl, and what was transcribed.",
        ),
    ] = None,
    model: ModelOption = BUNDLED_MODEL,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Words, speakers and times against references: WER, CER, cpWER, tcpWER, DER, RTF, each with its interval.

    Exit code 1: some recordings could not be transcribed (they are named, and not in the means).
    """
    from multiway_asr.context import read_context
    from multiway_asr.evaluation import ScoringOptions, evaluate_sets, write_report

    if hypotheses is not None and (context, max_speakers, window) != (None, None, None):
        raise InputError(
            "--context, --max-speakers and --window are for transcribing; with --hypotheses that is done"
        )
    options = TranscribeOptions(read_context(context), max_speakers, window)
    system: Transcriber | Path = Transcriber(model, device, dtype) if hypotheses is None else hypotheses
    with progress_bar() as progress:
        bar = progress.add_task("listening" if hypotheses is None else "scoring", total=None)
        report, heard = evaluate_sets(
            data,
            system,
            ScoringOptions(normalizer, collar, der_collar),
            options=options,
            use_terms=terms,
            limit=limit,
            seed=seed,
            on_sample=lambda row: progress.advance(bar),
        )
    if output is not None:
        write_report(report, heard, output)
    if json:
        write_stdout(json_module.dumps(report.to_json(), ensure_ascii=False, indent=2) + "\n")
    else:
        write_stdout(report.to_markdown())
    if report.failed:
        note(f"{PROGRAM}: {report.failed} of {report.n} recordings failed and are not in the means")
        raise typer.Exit(1)


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGUMENTS...", help="Those of the recipe; --help lists them."),
    ] = None,
) -> None:
    """Train a recognizer by the recipe of the bundled one; `multiway-asr train --help` lists its options."""
    from multiway_asr.training import train_recognizer

    train_recognizer(arguments or [])

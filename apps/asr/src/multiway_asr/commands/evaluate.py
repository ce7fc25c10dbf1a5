"""The command ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import ModelOptions, ReportOptions, ticking
from multiway_core.errors import InputError

from multiway_asr.app import APP
from multiway_asr.commands.options import TranscribeGroup
from multiway_asr.normalizers import Normalizer
from multiway_asr.transcriber import Transcriber


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
    terms: Annotated[
        bool,
        typer.Option(
            "--terms/--no-terms", help="Each recording's own terms as its context, if DATA has contexts.json."
        ),
    ] = True,
    normalizer: Annotated[
        Normalizer | None,
        typer.Option(
            "--normalizer", help="What counts as the same word.", show_default="by the references' language"
        ),
    ] = None,
    collar: Annotated[
        float, typer.Option("--collar", min=0.0, help="tcpWER: seconds a word may be off.")
    ] = 5.0,
    der_collar: Annotated[
        float,
        typer.Option("--der-collar", min=0.0, help="DER: seconds around each turn's ends that do not count."),
    ] = 0.25,
    *,
    options: TranscribeGroup,
    report: ReportOptions,
    model: ModelOptions,
) -> None:
    """WER, CER, cpWER, tcpWER, DER and RTF of a model, or of any system's transcripts, with bootstrap intervals.

    --output also keeps recordings.jsonl and the transcripts. Exit code 1: some recordings could not be transcribed
    (they are named, and not in the means).
    """
    from multiway_asr.evaluation import ScoringOptions, evaluate_sets, write_report

    if hypotheses is not None and options != TranscribeGroup():
        raise InputError(
            "--context, --max-speakers and --window are for transcribing; with --hypotheses that is done"
        )
    system: Transcriber | Path = Transcriber(model) if hypotheses is None else hypotheses
    with ticking("transcribing" if hypotheses is None else "scoring") as on_sample:
        found, scored = evaluate_sets(
            data,
            system,
            ScoringOptions(normalizer, collar, der_collar),
            options=options.read(),
            use_terms=terms,
            limit=report.limit,
            seed=report.seed,
            on_sample=on_sample,
        )
    if report.output is not None:
        write_report(found, scored, report.output)
    report.publish(found)
    if found.failed:
        APP.note(f"{found.failed} of {found.n} recordings failed and are not in the means")
        raise typer.Exit(1)

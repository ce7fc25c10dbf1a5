"""The command ``transcribe``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import ModelOptions

from multiway_asr.batch import Format, transcribe_all
from multiway_asr.commands.options import TranscribeGroup
from multiway_asr.transcriber import Transcriber


def transcribe(
    recordings: Annotated[
        list[str],
        typer.Argument(metavar="AUDIO|VIDEO|-...", help="Sound files, videos, folders, globs; - is stdin."),
    ],
    format: Annotated[
        list[Format] | None,
        typer.Option("--format", "-f", help="May be given several times with --output.", show_default="txt"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Files there, one a recording and format."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip recordings whose files are in --output.")
    ] = False,
    *,
    options: TranscribeGroup,
    model: ModelOptions,
) -> None:
    """Transcribe recordings with speakers and times: printed during decoding, or written to files with --output.

    Exit code 0: all transcribed. 1: some recordings failed (named on standard error). 2: bad usage, or none done.
    """
    code = transcribe_all(
        recordings,
        Transcriber(model),
        options.read(),
        formats=format or [Format.TXT],
        output=output,
        resume=resume,
    )
    raise typer.Exit(code)

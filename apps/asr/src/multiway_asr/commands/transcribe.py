"""The commands that listen: transcribe, and the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import DeviceOption, DtypeOption, ModelOption

from multiway_asr.batch import Format
from multiway_asr.transcriber import BUNDLED_MODEL, TranscribeOptions, Transcriber

ContextOption = Annotated[
    str | None,
    typer.Option(
        "--context", metavar='"A,B"|@FILE', help="Names and terms that are spoken, or a file of them."
    ),
]
SpeakersOption = Annotated[
    int | None,
    typer.Option(
        "--max-speakers", min=1, help="More voices than these become one where they are most alike."
    ),
]

WindowOption = Annotated[
    float | None,
    typer.Option(
        "--window",
        min=5.0,
        help="Hear longer recordings in parts of so many seconds. [default: all in one pass]",
    ),
]


def transcribe(
    recordings: Annotated[
        list[str], typer.Argument(metavar="AUDIO|VIDEO...", help="Sound files, videos, folders, globs.")
    ],
    context: ContextOption = None,
    format: Annotated[
        list[Format] | None,
        typer.Option("--format", "-f", help="May be given several times with --output. [default: txt]"),
    ] = None,
    max_speakers: SpeakersOption = None,
    window: WindowOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Files there, one a recording and format."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave alone what --output holds already. [default: do it again]")
    ] = False,
    model: ModelOption = BUNDLED_MODEL,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Print who said what and when, line by line as it is written, or write files with --output.

    Exit code 0: all transcribed. 1: some recordings failed (named on standard error). 2: bad usage, or none done.
    """
    from multiway_asr.batch import transcribe_all
    from multiway_asr.context import read_context

    options = TranscribeOptions(read_context(context), max_speakers, window)
    transcriber = Transcriber(model, device, dtype)
    code = transcribe_all(
        recordings, transcriber, options, formats=format or [Format.TXT], output=output, resume=resume
    )
    raise typer.Exit(code)


def demo(
    model: ModelOption = BUNDLED_MODEL,
    host: Annotated[str, typer.Option("--host", help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="[default: first free from 7860]")] = None,
    share: Annotated[bool, typer.Option("--share/--no-share", help="Open a public tunnel.")] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Open the demo page in this machine's browser."""
    from multiway_core.app import launch

    from multiway_asr.demo import build_demo

    launch(build_demo(model, device=device, dtype=dtype), host, port, share=share)

"""The command ``listen``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import ModelOptions

from multiway_asr.commands.options import ContextOption


def listen(
    source: Annotated[
        str,
        typer.Argument(
            metavar="[DEVICE|-|FILE]",
            help="Number or part of the name of a microphone; - for raw PCM on standard input (16 kHz, 16 bit, mono,"
            " little-endian); or a recording, as if it were spoken now. \\[default: the system's microphone]",
        ),
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write the transcript there as well (.json, .txt, .srt, .vtt).",
        ),
    ] = None,
    context: ContextOption = None,
    *,
    model: ModelOptions,
) -> None:
    """Transcribe a microphone live, until Ctrl-C: the words that are being spoken in grey, then each line as it stands.

    Where standard output is no terminal, only the finished lines are written.
    """
    from multiway_asr.context import read_context
    from multiway_asr.live import listen_to

    raise typer.Exit(listen_to(source, model, read_context(context), output))

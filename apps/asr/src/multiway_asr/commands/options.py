"""Options that transcribe and evaluate share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from multiway_asr.transcriber import TranscribeOptions

ContextOption = Annotated[
    str | None,
    typer.Option(
        "--context", metavar='"A,B"|@FILE', help="Names and terms that may occur, or a file of them."
    ),
]


@dataclass(frozen=True)
class TranscribeGroup:
    """The options of a transcription."""

    context: ContextOption = None
    max_speakers: Annotated[
        int | None,
        typer.Option("--max-speakers", min=1, help="Merge the most similar voices above this number."),
    ] = None
    window: Annotated[
        float | None,
        typer.Option(
            "--window",
            min=5.0,
            show_default="all in one pass",
            help="Seconds of the parts of longer recordings.",
        ),
    ] = None

    def read(self) -> TranscribeOptions:
        """With the context's file read. Raises InputError."""
        from multiway_asr.context import read_context

        return TranscribeOptions(read_context(self.context), self.max_speakers, self.window)

"""The options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from multiway_core.errors import InputError

if TYPE_CHECKING:
    from multiway_text.seq2seq.decode import Decoding
    from multiway_text.xnlg.search import Search

Task = Literal["title", "ask", "summarize"]
LanguageOption = Annotated[
    str | None,
    typer.Option(
        "--language", help="Of the titles, for a model with several, such as de.", show_default="none"
    ),
]
SourceLanguageOption = Annotated[
    str | None,
    typer.Option("--source-language", help="Of the texts.", show_default="that of the titles"),
]


@dataclass(frozen=True)
class DecodingOptions:
    """How the best target is searched for; None is the model's own way."""

    beams: Annotated[
        int | None,
        typer.Option("--beams", min=1, help="Hypotheses of a text; 1 is greedy.", show_default="5, XNLG 3"),
    ] = None
    length_penalty: Annotated[
        float | None,
        typer.Option(
            "--length-penalty",
            min=0,
            help="Above 0 favours long ones: Wu et al. (2016); XNLG: the power of the length.",
            show_default="1.0, XNLG 0.9",
        ),
    ] = None
    min_length: Annotated[
        int | None,
        typer.Option("--min-length", min=0, help="Tokens of a target at least.", show_default="1"),
    ] = None
    max_length: Annotated[
        int | None, typer.Option("--max-length", min=1, help="At most.", show_default="the model's")
    ] = None
    no_repeat_ngram: Annotated[
        int | None,
        typer.Option(
            "--no-repeat-ngram",
            min=0,
            help="No n-gram of so many tokens comes twice; 0: it may.",
            show_default="3, XNLG 0",
        ),
    ] = None

    def decoding(self) -> Decoding:
        """As the pipeline of s2s-ft takes it."""
        from multiway_text.seq2seq.decode import Decoding
        from multiway_text.seq2seq.rules import LengthPenalty

        return Decoding(
            5 if self.beams is None else self.beams,
            LengthPenalty("power", 1.0 if self.length_penalty is None else self.length_penalty),
            1 if self.min_length is None else self.min_length,
            self.max_length,
            3 if self.no_repeat_ngram is None else self.no_repeat_ngram,
        )

    def search(self) -> Search:
        """As the pipeline of XNLG takes it. Raises InputError for what its search does not have."""
        from multiway_text.xnlg.search import Search

        for name, value in (("min-length", self.min_length), ("no-repeat-ngram", self.no_repeat_ngram)):
            if value is not None:
                raise InputError(f"--{name}: the search of an XNLG model has no such thing")
        return Search(
            3 if self.beams is None else self.beams,
            0.9 if self.length_penalty is None else self.length_penalty,
            self.max_length,
        )

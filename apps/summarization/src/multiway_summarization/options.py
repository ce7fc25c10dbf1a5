"""The options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from multiway_text.seq2seq.decode import Decoding

Task = Literal["title", "ask", "summarize"]


@dataclass(frozen=True)
class DecodingOptions:
    """How the best target is searched for."""

    beams: Annotated[int, typer.Option("--beams", min=1, help="Hypotheses of a text; 1 is greedy.")] = 5
    length_penalty: Annotated[
        float, typer.Option("--length-penalty", min=0, help="Above 0 favours long ones (Wu et al. 2016).")
    ] = 1.0
    min_length: Annotated[int, typer.Option("--min-length", min=0, help="Tokens of a target at least.")] = 1
    max_length: Annotated[
        int | None, typer.Option("--max-length", min=1, help="At most.", show_default="the model's")
    ] = None
    no_repeat_ngram: Annotated[
        int,
        typer.Option("--no-repeat-ngram", min=0, help="No n-gram of so many tokens comes twice; 0: it may."),
    ] = 3

    def decoding(self) -> Decoding:
        """As the pipeline takes it."""
        from multiway_text.seq2seq.decode import Decoding
        from multiway_text.seq2seq.rules import LengthPenalty

        return Decoding(
            self.beams,
            LengthPenalty("power", self.length_penalty),
            self.min_length,
            self.max_length,
            self.no_repeat_ngram,
        )

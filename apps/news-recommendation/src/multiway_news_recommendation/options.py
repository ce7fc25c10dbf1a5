"""Names that the command line and the commands share; nothing here takes time to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

SIMULATED_NOTE = "a simulated portal: its articles, readers and clicks are made up"

Split = Literal["train", "dev", "test"]
LogFormat = Literal["auto", "csv", "parquet", "adressa", "eb-nerd", "msweb", "movielens"]
TextFeatures = Literal["tfidf", "minilm"]


@dataclass(frozen=True)
class RecommendOptions:
    """The options of ``recommend``; ``block`` and ``at`` as typed."""

    top: Annotated[int, typer.Option("--top", min=1, max=1000, help="Number of recommendations.")] = 10
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Explain each by click, neighbours and chain; checked by occlusion."),
    ] = False
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="DIR", help="Write each explanation there, as SVG."),
    ] = None
    chains: Annotated[
        bool, typer.Option("--chains/--no-chains", help="Use long chains, or rank without them.")
    ] = True
    diversity: Annotated[
        float, typer.Option("--diversity", help="From 0 (scores only) to 1 (most diverse).")
    ] = 0.3
    per_category: Annotated[
        int | None, typer.Option("--per-category", help="Maximum number of one category in the list.")
    ] = None
    max_age_days: Annotated[
        float | None, typer.Option("--max-age-days", help="Maximum age of news. \\[default: the model's]")
    ] = None
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Include news in the history.")] = False
    block: Annotated[str | None, typer.Option("--block", metavar="N1,N2,...", help="Exclude these news.")] = (
        None
    )
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="TIME",
            help="Time of the request, such as 2019-11-15T08:00. \\[default: the log's end]",
        ),
    ] = None
    min_readers: Annotated[
        int,
        typer.Option("--min-readers", min=1, help="Omit smaller counts of readers from explanations."),
    ] = 1

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
    """What the command line says of the list; ``block`` and ``at`` as they were typed."""

    top: Annotated[int, typer.Option("--top", min=1, max=1000, help="How many news.")] = 10
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Say which click, neighbours and chain led to each, and check it."),
    ] = False
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="DIR", help="Write each explanation's picture there, as SVG."),
    ] = None
    chains: Annotated[
        bool, typer.Option("--chains/--no-chains", help="Rank as if no click had a long chain.")
    ] = True
    diversity: Annotated[
        float, typer.Option("--diversity", help="0: best scores only, to 1: as different as can be.")
    ] = 0.3
    per_category: Annotated[
        int | None, typer.Option("--per-category", help="Most news of one category in the list.")
    ] = None
    max_age_days: Annotated[
        float | None, typer.Option("--max-age-days", help="Only news of so many days. [default: the model's]")
    ] = None
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Also news that the reader has clicked.")
    ] = False
    block: Annotated[
        str | None, typer.Option("--block", metavar="N1,N2,...", help="News that must not be shown.")
    ] = None
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Such as 2019-11-15T08:00. [default: the log's end]"),
    ] = None
    min_readers: Annotated[
        int,
        typer.Option("--min-readers", min=1, help="Do not tell smaller counts of readers in explanations."),
    ] = 1

"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from multiway_core.app import DeviceOption, DtypeOption, ModelOptions, load_pipeline
from multiway_core.errors import InputError
from multiway_text.search.fusion import Mode
from multiway_text.search.pictures import Kind, circle

from multiway_search.app import APP
from multiway_search.places import chosen

if TYPE_CHECKING:
    from multiway_text.search.pipeline import SearchPipeline
    from multiway_text.search.store import Index

IndexOption = Annotated[
    Path | None,
    typer.Option(
        "--index", "-i", metavar="DIR", help="The index.", show_default="the last one that was made"
    ),
]
TopOption = Annotated[int, typer.Option("--top", min=1, max=1000, help="At most so many results.")]
ModeOption = Annotated[
    Mode,
    typer.Option(
        "--mode",
        help="By meaning (dense), words (bm25), or both: a weighted sum (hybrid), reciprocal ranks (rrf).",
    ),
]
PathOption = Annotated[
    str | None, typer.Option("--path", metavar="GLOB", help="Only documents whose path fits, such as '*.md'.")
]


@dataclass(frozen=True)
class Asked:
    """An index that exists, and how its model is computed."""

    index: IndexOption = None
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="The index's model, where it lies elsewhere now.", show_default=False
        ),
    ] = None
    device: DeviceOption = "auto"
    dtype: DtypeOption = "auto"

    def open(self) -> tuple[SearchPipeline, Index]:
        """Raises InputError (no index, of another model), ModelNotFoundError, CheckpointError."""
        from multiway_text.search.store import Index

        folder = chosen(self.index)
        with Index(folder) as index:
            name = self.model or index.settings.model
        pipeline: Any = load_pipeline(APP, ModelOptions(name, self.device, self.dtype))
        return pipeline, pipeline.open(folder)


@dataclass(frozen=True)
class Only:
    """Which documents a query looks through."""

    kind: Annotated[Kind | None, typer.Option("--kind", help="Only texts, or only pictures.")] = None
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="DAY", help="Pictures from this day, month or year on (EXIF)."),
    ] = None
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="DAY", help="Pictures up to this day, month or year (EXIF)."),
    ] = None
    near: Annotated[
        str | None,
        typer.Option(
            "--near", metavar="LAT,LON[,KM]", help="Pictures of this place (EXIF), within 10 km or KM."
        ),
    ] = None

    def conditions(self) -> dict[str, Any]:
        """Arguments of ``SearchPipeline.query``. Raises InputError."""
        near = None
        if self.near is not None:
            try:
                near = circle([float(part) for part in self.near.split(",")])
            except ValueError:
                raise InputError(
                    f"--near {self.near!r}: write latitude,longitude or latitude,longitude,km, such as 48.14,11.58,25"
                ) from None
        return {"kind": self.kind, "since": self.since, "until": self.until, "near": near}


def query_text(words: list[str]) -> str:
    """A query of one or several arguments; ``-`` is standard input. Raises InputError."""
    import sys

    from multiway_text.search.pipeline import MAX_QUERY

    if words != ["-"]:
        return " ".join(words)
    data = sys.stdin.buffer.read(4 * MAX_QUERY + 1)
    if len(data) > 4 * MAX_QUERY:
        raise InputError(f"the query on standard input is too long: at most {MAX_QUERY:,} characters")
    return data.decode("utf-8", "replace")

"""The command that makes labelled texts of a distribution's package descriptions: descriptions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import SeedOption

from multiway_encoder.app import APP


def descriptions(
    index: Annotated[
        list[Path] | None,
        typer.Argument(help="Packages and Translation files. \\[default: those that apt keeps here]"),
    ] = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the files go.")],
    language: Annotated[
        list[str] | None,
        typer.Option("--language", metavar="CODE", help="Such as de; may be repeated. \\[default: en]"),
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Package descriptions of a Debian-like distribution as train.jsonl, dev.jsonl and test.jsonl, to train on.

    A record has a title, a body, a section, its source package and language. The split is by source package.
    """
    from multiway_text.data import package_descriptions as data

    languages = language or ["en"]
    found = [
        record for record in data.read(index or data.apt_indexes(languages)) if record.language in languages
    ]
    parts = data.split(found, seed=seed)
    data.write(parts, output)
    APP.note(", ".join(f"{name}: {len(part)}" for name, part in parts.items()) + f"; written to {output}")

"""The ``pairs`` command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from multiway_core.app import (
    ModelOption,
    ModelOptions,
    OverwriteOption,
    counting,
    load_pipeline,
    write_stdout,
)
from multiway_core.errors import InputError
from multiway_core.files import check_output, write_text

from multiway_search.app import APP, MULTILINGUAL

if TYPE_CHECKING:
    from multiway_text.search.bitext import MinedPair

_SUFFIXES = (".tsv", ".jsonl")


@dataclass(frozen=True)
class MultilingualOptions(ModelOptions):
    """Of what compares languages: the bundled multilingual model where nothing else is said."""

    model: ModelOption = MULTILINGUAL


def pairs(
    first: Annotated[Path, typer.Argument(metavar="A", help="Sentences in one language, one a line.")],
    second: Annotated[
        Path, typer.Argument(metavar="B", help="In the other; any number of lines in any order.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="A .tsv or .jsonl.", show_default="TSV on standard output"
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            min=0.0,
            help="Least margin of a pair: more gives fewer and surer pairs.",
            show_default="1.015",
        ),
    ] = None,
    neighbours: Annotated[
        int, typer.Option("--neighbours", min=1, max=100, help="Of each sentence, for the margin.")
    ] = 4,
    overwrite: OverwriteOption = False,
    *,
    multilingual: MultilingualOptions,
) -> None:
    """Find sentences of two files that are translations of each other.

    The margin compares the cosine of two sentences with those of their nearest neighbours (1 is no better than the
    neighbours), and a pair is each other's best. The result has the columns score, text, pair, line and pair_line: it
    is what train takes. Lines that stand in both files are left out.
    """
    from multiway_text.search.bitext import THRESHOLD, mine_files

    if output is not None:
        if output.suffix not in _SUFFIXES:
            raise InputError(f"--output {output}: expected a file ending in {' or '.join(_SUFFIXES)}")
        check_output(output, inputs=[first, second], overwrite=overwrite)
    pipeline: Any = load_pipeline(APP, multilingual)
    with counting("sentences") as on_progress:
        found = mine_files(
            pipeline,
            first,
            second,
            neighbours=neighbours,
            threshold=THRESHOLD if threshold is None else threshold,
            on_progress=on_progress,
        )
    as_json = output is not None and output.suffix == ".jsonl"
    text = _json_lines(found.pairs) if as_json else _table(found.pairs)
    write_stdout(text) if output is None else write_text(output, text)
    counts = " and ".join(f"{count:,}" for count in found.sentences)
    left_out = f"; lines of both files, left out: {found.common:,}" if found.common else ""
    APP.note(*found.notes, f"{len(found.pairs):,} pairs of {counts} sentences{left_out}")


def _table(found: Sequence[MinedPair]) -> str:
    rows = (f"{p.score:.4f}\t{p.text}\t{p.pair}\t{p.line}\t{p.pair_line}\n" for p in found)
    return "score\ttext\tpair\tline\tpair_line\n" + "".join(rows)


def _json_lines(found: Sequence[MinedPair]) -> str:
    return "".join(
        json.dumps(asdict(pair) | {"score": round(pair.score, 4)}, ensure_ascii=False) + "\n"
        for pair in found
    )

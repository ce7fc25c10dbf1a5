"""The commands that read texts: embed, similarity, classify, tag."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import JsonOption, ModelOptions, counting, write_json, write_stdout

from multiway_encoder.app import APP

InputsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="Text files (a line is a text), JSONL, CSV, TSV, Parquet, folders, globs; - for standard input.",
    ),
]
FieldOption = Annotated[
    str, typer.Option("--field", help="Where the text is in rows of JSONL, CSV, TSV and Parquet.")
]
WholeOption = Annotated[bool, typer.Option("--whole-files", help="A text file is one text, not one a line.")]
WindowsOption = Annotated[
    bool, typer.Option("--windows", help="Long texts: the mean over windows, not the beginning alone.")
]


def embed(
    inputs: InputsArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help=".npy, .parquet or .jsonl; JSON lines to stdout without it.",
        ),
    ] = None,
    field: FieldOption = "text",
    whole_files: WholeOption = False,
    windows: WindowsOption = False,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="Name of one of the model's prompts, such as query.")
    ] = None,
    *,
    model: ModelOptions,
) -> None:
    """Turn texts into vectors, one a line or row, in the order of the input."""
    from multiway_encoder.embedding import Writer
    from multiway_encoder.inputs import note_long, pipeline_of, read_texts

    writer = Writer.of(output)
    texts = read_texts(inputs, field=field, whole_files=whole_files)
    with counting("embedding") as on_progress:
        found = pipeline_of(model).embed(texts.texts, windows=windows, prompt=prompt, on_progress=on_progress)
    writer.write(texts, found)
    note_long(texts, found.truncated, "--windows takes all of it")
    if output is not None:
        APP.note(f"{len(texts.texts)} vectors of {found.vectors.shape[1]} numbers written to {output}")


def similarity(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT...", help="Texts to compare with each other.")
    ] = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            "--in", metavar="FILE", help="Find the nearest of this file's texts; several times for several."
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="With --in: so many nearest texts.")] = 5,
    field: FieldOption = "text",
    windows: WindowsOption = False,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Cosine similarity of texts with each other, or the nearest texts of a file (--in) to each of them."""
    from multiway_encoder.similarity import compare, matrix_text, nearest, nearest_text

    if corpus:
        found = nearest(texts or [], corpus, top, model, field=field, windows=windows)
        write_json([item.to_json() for item in found]) if json else write_stdout(nearest_text(found))
        return
    result = compare(texts or [], model, windows=windows)
    write_json(result.to_json()) if json else write_stdout(matrix_text(result))


def classify(
    inputs: InputsArgument,
    field: FieldOption = "text",
    pair_field: Annotated[
        str | None, typer.Option("--pair-field", help="Where the second text of a pair is.")
    ] = None,
    whole_files: WholeOption = False,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Label texts, or pairs of texts, with a classifier that finetune made. --json: JSON lines with all scores."""
    from multiway_encoder.labelling import classify_files

    classify_files(inputs, model, field=field, pair_field=pair_field, whole_files=whole_files, json=json)


def tag(
    inputs: InputsArgument,
    field: FieldOption = "text",
    whole_files: WholeOption = False,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Tag the words of texts (names, parts of speech) with a tagger that finetune made. --json: JSON lines."""
    from multiway_encoder.labelling import tag_files

    tag_files(inputs, model, field=field, whole_files=whole_files, json=json)

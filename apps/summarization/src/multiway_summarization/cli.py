"""The command line ``multiway-summarization``. Torch and Gradio are not imported here: ``--help`` answers at once."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from multiway_core.app import CommandLine, JsonOption, ModelOptions, ReportOptions, TrainingOptions, counting

from multiway_summarization.app import APP
from multiway_summarization.options import DecodingOptions, LanguageOption, SourceLanguageOption, Task

cli = CommandLine(APP)

InputsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="Text files (each is a text), JSONL, CSV, TSV, Parquet, folders, globs; - for standard input.",
    ),
]
FieldOption = Annotated[
    str, typer.Option("--field", help="Where the text is in rows of JSONL, CSV, TSV and Parquet.")
]
LinesOption = Annotated[bool, typer.Option("--lines", help="Of a text file each line is a text.")]


@cli.command()
def title(
    inputs: InputsArgument,
    field: FieldOption = "text",
    lines: LinesOption = False,
    language: LanguageOption = None,
    source_language: SourceLanguageOption = None,
    json: JsonOption = False,
    *,
    decoding: DecodingOptions,
    model: ModelOptions,
) -> None:
    """Write a title for each text, one a line. --json: JSON lines, with a title for each window of a long text."""
    from multiway_summarization.texts import write_titles

    write_titles(
        inputs,
        model,
        decoding,
        field=field,
        lines=lines,
        json=json,
        language=language,
        source_language=source_language,
    )


@cli.command()
def summarize(
    inputs: InputsArgument,
    sentences: Annotated[int, typer.Option("--sentences", "-n", min=1, help="Sentences of a summary.")] = 3,
    field: FieldOption = "text",
    lines: LinesOption = False,
    json: JsonOption = False,
    *,
    decoding: DecodingOptions,
    model: ModelOptions,
) -> None:
    """Print the sentences of each text that tell most of its title, below the generated title.

    The sentences are the text's own: no bundled model rewrites whole texts honestly.
    """
    from multiway_summarization.texts import write_summaries

    write_summaries(inputs, model, decoding, sentences=sentences, field=field, lines=lines, json=json)


@cli.command()
def ask(
    inputs: InputsArgument,
    answer: Annotated[
        str | None,
        typer.Option(
            "--answer", "-a", help="What answers the question, as the passage has it; none: any question."
        ),
    ] = None,
    answer_field: Annotated[
        str,
        typer.Option("--answer-field", help="Where the answer is in rows of JSONL, CSV, TSV and Parquet."),
    ] = "answer",
    field: FieldOption = "text",
    lines: LinesOption = False,
    json: JsonOption = False,
    *,
    decoding: DecodingOptions,
    model: ModelOptions,
) -> None:
    """Write a question about each passage that the answer answers, one a line."""
    from multiway_summarization.texts import write_questions

    write_questions(
        inputs, model, decoding, answer=answer, answer_field=answer_field, field=field, lines=lines, json=json
    )


@cli.command()
def train(
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="title, xsum-minilm, xsum-unilm, cnndm-minilm; several languages: xnlg, xnlg-small; smoke and "
            "xnlg-smoke (half a minute, no data).",
        ),
    ] = "title",
    method: Annotated[
        Literal["causal", "masked", "pseudo_masked"] | None,
        typer.Option("--method", help="s2s-ft's v0, v1 or v2.", show_default="the preset's"),
    ] = None,
    target_mask_prob: Annotated[
        float | None,
        typer.Option(
            "--target-mask-prob", min=0, max=1, help="Share of the target that is hidden.", show_default="0.5"
        ),
    ] = None,
    max_source: Annotated[
        int | None,
        typer.Option("--max-source", min=3, help="Tokens of a source.", show_default="the preset's"),
    ] = None,
    max_target: Annotated[
        int | None,
        typer.Option("--max-target", min=2, help="Tokens of a target.", show_default="the preset's"),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", min=0, help="The peak.", show_default="the preset's")
    ] = None,
    stages: Annotated[
        str | None,
        typer.Option("--stages", help="XNLG's, of encoder,decoder,finetune.", show_default="all"),
    ] = None,
    train_layers: Annotated[
        str | None,
        typer.Option(
            "--train-layers",
            help="What XNLG's fine-tuning changes: layers (the encoder's), such as 1,10, encoder, decoder, all.",
            show_default="layers",
        ),
    ] = None,
    *,
    options: TrainingOptions,
) -> None:
    """Teach a BERT-like encoder (--init-from) to write, from JSON lines (--data) with "src" and "tgt".

    Either is a string or a list of token names. The xnlg presets read "text", "language" and an "id" that translations
    share, and for titles "src", "tgt" and "language". The model is written to OUTPUT/model.
    """
    changes = {
        "method": method,
        "target_mask_prob": target_mask_prob,
        "max_source": max_source,
        "max_target": max_target,
        "learning_rate": learning_rate,
        "stages": stages,
        "train_layers": train_layers,
    }
    options.train(APP, preset, changes)


@cli.command()
def evaluate(
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help='JSON lines with "src" and "tgt", for ask also "answer".'),
    ],
    task: Annotated[Task, typer.Option("--task", help="What is written of src.")] = "title",
    language: LanguageOption = None,
    *,
    decoding: DecodingOptions,
    model: ModelOptions,
    report: ReportOptions,
) -> None:
    """Measure ROUGE, BLEU and METEOR against tgt, beside what lead and random sentences (ask: templates) get."""
    from multiway_summarization.evaluation import evaluate_files

    with counting("writing") as on_progress:
        found = evaluate_files(
            data,
            task,
            model,
            decoding,
            language,
            limit=report.limit,
            seed=report.seed,
            on_progress=on_progress,
        )
    report.publish(found)


cli.add_demo()
cli.add_serve()

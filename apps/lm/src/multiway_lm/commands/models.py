"""The commands about models: evaluate, quantize, bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from multiway_core.app import (
    JsonOption,
    ModelOptions,
    ReportOptions,
    load_pipeline,
    ticking,
    write_json,
    write_stdout,
)
from multiway_core.errors import InputError

from multiway_lm.app import APP

FieldOption = Annotated[
    str, typer.Option("--field", help="Where the text is in rows of .jsonl and .parquet files.")
]


def evaluate(
    task: Annotated[
        Literal["perplexity", "choice", "bundled"],
        typer.Argument(
            help="perplexity of texts; choice: multiple choice; bundled: a dozen questions that lie in the app."
        ),
    ],
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE...",
            help='Texts; for choice .jsonl rows {"context": ..., "choices": [...], "answer": 0}.',
        ),
    ] = None,
    field: FieldOption = "text",
    window: Annotated[int | None, typer.Option("--window", help="perplexity: tokens seen at once.")] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", help="perplexity: tokens a window moves on.")
    ] = None,
    *,
    model: ModelOptions,
    report: ReportOptions,
) -> None:
    """Measure a model on your files: bits per byte, or accuracy beside chance, with intervals."""
    from multiway_lm.evaluation import choice_report, evaluate_files, quick_rows

    if task == "bundled":
        if paths:
            raise InputError("bundled takes no files")
        found = choice_report(load_pipeline(APP, model), quick_rows(), report.seed)
    else:
        if not paths:
            raise InputError(f"{task} needs files")
        with ticking("measuring") as on_sample:
            found = evaluate_files(
                task,
                paths,
                model,
                field=field,
                window=window,
                stride=stride,
                limit=report.limit,
                seed=report.seed,
                on_sample=on_sample,
            )
    report.publish(found)


def quantize(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a .gguf file or a hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="Folder, or .gguf file.")],
    format: Annotated[
        Literal["packed", "gguf"],
        typer.Option("--format", "-f", help="packed: two bits a weight, safetensors; gguf: a GGUF file."),
    ] = "packed",
    kind: Annotated[
        str | None,
        typer.Option("--type", help="gguf: i2_s (BitNet), or f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0."),
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option("--check", metavar="FILE", help="Texts to compare the perplexity on, before and after."),
    ] = None,
    field: FieldOption = "text",
    json: JsonOption = False,
) -> None:
    """Quantize a model: packed ternary weights, or a GGUF file.

    A BitNet model loses nothing by --format packed: it was trained with ternary weights. Any other is destroyed by
    it (train or distil a ternary one instead); for such a model --format gguf --type q8_0 or q4_1 is the way.
    """
    from multiway_lm import quantize as quantization

    result = quantization.quantize(model, output, format=format, kind=kind, check=check or [], field=field)
    write_json(result) if json else write_stdout(quantization.as_lines(result))


def bench(
    what: Annotated[
        Literal["model", "kernels"], typer.Argument(help="A model, or the kernels it runs on.")
    ] = "model",
    prompt: Annotated[int, typer.Option("--prompt", min=1, help="Prompt tokens of the prefill.")] = 64,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Tokens to generate.")] = 32,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Batch size.")] = 1,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Rounds; medians count.")] = 5,
    kernel: Annotated[
        list[str] | None, typer.Option("--kernel", help="kernels: only this one; several times for more.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="kernels: small shapes, few rounds.")] = False,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Measure prefill and decoding in tokens per second, memory, and the output layer's share; or single kernels."""
    from multiway_lm import bench as measuring

    if what == "kernels":
        write_stdout(measuring.bench_kernels(only=kernel or [], quick=quick, as_json=json))
        return
    result = measuring.bench_model(model, prompt=prompt, tokens=tokens, batch=batch, repeats=repeats)
    write_json(result) if json else write_stdout(measuring.as_table(result))

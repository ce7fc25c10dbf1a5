"""The commands that train: ``train`` and ``distill``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import TrainingOptions

from multiway_lm.app import APP


@dataclass(frozen=True)
class RecipeChanges:
    """Fields of the recipe; what is not given is the preset's."""

    arch: Annotated[
        str | None, typer.Option("--arch", help="The network: bitnet, llama, retnet, yoco, ...")
    ] = None
    size: Annotated[str | None, typer.Option("--size", help="tiny, small or medium.")] = None
    vocab_size: Annotated[
        int | None,
        typer.Option("--vocab-size", min=0, help="Of the tokenizer trained first; 0 takes bytes."),
    ] = None
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", min=0.0, help="Peak learning rate.")
    ] = None
    length: Annotated[int | None, typer.Option("--length", min=2, help="Tokens of a sequence.")] = None
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Sequences of a batch, on each process.")
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="Of the texts, no more than so many.")
    ] = None
    field: Annotated[
        str | None, typer.Option("--field", help="Where the text is in rows of .jsonl and .parquet files.")
    ] = None


def train(
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="tiny, small, or smoke (half a minute); mh-moe-bytes and latent-lm-digits, each with a -smoke.",
        ),
    ] = "tiny",
    *,
    changes: RecipeChanges,
    options: TrainingOptions,
) -> None:
    """Train a small language model on your texts, or continue with the weights and tokenizer of --init-from.

    --data: text, .jsonl and .parquet files, folders, globs; without any, the documentation that comes with Python.
    Under torchrun: --parallel ddp or fsdp.
    """
    options.train(APP, preset, vars(changes))


@dataclass(frozen=True)
class DistillationChanges:
    """Fields of the distillation's recipe."""

    teacher: Annotated[
        str | None,
        typer.Option("--teacher", metavar="MODEL", help="A LLaMA-like chat model: .gguf file, hub id."),
    ] = None
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="Prompts for the teacher.", show_default="built-in"),
    ] = None
    field: Annotated[
        str | None, typer.Option("--field", help="Where the text is in rows of .jsonl and .parquet files.")
    ] = None


def distill(
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="bitdistill; bitdistill-further, for --init-from; bitdistill-smoke, without --teacher.",
        ),
    ] = "bitdistill",
    *,
    changes: DistillationChanges,
    options: TrainingOptions,
) -> None:
    """Distil a chat model into a small ternary one (BitNet Distillation); prints the folder of the model."""
    options.train(APP, preset, vars(changes))

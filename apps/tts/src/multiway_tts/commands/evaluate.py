"""The commands about models: evaluate, train."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import DeviceOption, DtypeOption, JsonOption, SeedOption, progress_bar, write_stdout

from multiway_tts.commands.options import CfgOption, ModelOption, StepsOption
from multiway_tts.model import BUNDLED_MODEL


def evaluate(
    texts: Annotated[
        Path,
        typer.Argument(
            metavar="TEXTS",
            help='One text a line, or .jsonl rows {"text": ..., "voice": ..., "file": ...}, all but text optional.',
        ),
    ],
    recognizer: Annotated[
        str | None,
        typer.Option(
            "--recognizer",
            metavar="PATH|NAME",
            help="Transcribes the speech for WER: a Whisper model (CTranslate2), or a VibeVoice-ASR model.",
        ),
    ] = None,
    language: Annotated[str, typer.Option("--language", help="Of the texts, for the recognizer.")] = "en",
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            metavar="DIR",
            help="Do not speak: score the recordings of the texts in this folder, a teacher's or an earlier run's.",
        ),
    ] = None,
    recordings: Annotated[
        Path | None,
        typer.Option(
            "--recordings",
            metavar="DIR",
            help="What the voices should sound like: NAME.wav or NAME/*.wav. \\[default: the model's voice prompts]",
        ),
    ] = None,
    similarity: Annotated[
        bool, typer.Option("--similarity", help="Cosine of speaker embeddings (GE2E).")
    ] = False,
    mos: Annotated[bool, typer.Option("--mos", help="Naturalness as DistillMOS estimates it.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Also write audio/, rows.jsonl, report.json, .md and .png."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many texts.")] = None,
    cfg: CfgOption = None,
    steps: StepsOption = None,
    model: ModelOption = BUNDLED_MODEL,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Speak texts and measure, with intervals: word and character error rates of a recognizer, beside those against
    shuffled texts, speaker similarity, naturalness, speed."""
    from multiway_tts.evaluation import EvaluationOptions, evaluate_texts
    from multiway_tts.texts import read_texts

    items = read_texts(texts)[:limit]
    options = EvaluationOptions(
        model=model,
        recognizer=recognizer,
        language=language,
        reference=reference,
        recordings=recordings,
        similarity=similarity,
        mos=mos,
        output=output,
        guidance=cfg,
        steps=steps,
        seed=seed,
        device=device,
        dtype=dtype,
    )
    with progress_bar() as progress:
        bar = progress.add_task("measuring", total=len(items))
        report = evaluate_texts(items, options, on_item=lambda: progress.advance(bar))
    if json:
        write_stdout(json_module.dumps(report.to_json(), ensure_ascii=False, indent=2) + "\n")
    else:
        write_stdout(report.to_markdown())


def train(context: typer.Context) -> None:
    """Train a model of your own; its options: train --help."""
    from multiway_tts.training import train as run_recipe

    run_recipe(context.args)

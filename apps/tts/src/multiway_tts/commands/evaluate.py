"""The command ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import ModelOptions, ReportOptions, ticking

from multiway_tts.commands.options import CfgOption, StepsOption


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
            help="Score the recordings of the texts in this folder (a teacher's, an earlier run's) instead.",
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
    cfg: CfgOption = None,
    steps: StepsOption = None,
    *,
    report: ReportOptions,
    model: ModelOptions,
) -> None:
    """Synthesize texts and measure, with intervals: word and character error rates of a recognizer, beside those
    against shuffled texts, speaker similarity, naturalness, speed. --output also keeps audio/ and rows.jsonl."""
    from multiway_tts.evaluation import EvaluationOptions, evaluate_texts
    from multiway_tts.texts import read_texts

    items = read_texts(texts)[: report.limit]
    options = EvaluationOptions(
        model=model,
        recognizer=recognizer,
        language=language,
        reference=reference,
        recordings=recordings,
        similarity=similarity,
        mos=mos,
        output=report.output,
        guidance=cfg,
        steps=steps,
        seed=report.seed,
    )
    with ticking("measuring", len(items)) as on_item:
        found = evaluate_texts(items, options, on_item=on_item)
    report.publish(found)

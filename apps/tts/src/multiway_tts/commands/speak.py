"""The command ``speak``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from multiway_core.app import JsonOption, ModelOptions, SeedOption
from multiway_core.errors import InputError

from multiway_tts.commands.options import (
    CfgOption,
    ConsentOption,
    KeyOption,
    PauseOption,
    SpeedOption,
    StepsOption,
)
from multiway_tts.model import DEFAULT_KEY


def speak(
    script: Annotated[
        str, typer.Argument(metavar="SCRIPT|-|TEXT", help="A script file, - for standard input, or a text.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Sound file: .wav, .flac, .mp3, .ogg or .opus."),
    ] = None,
    voice: Annotated[
        list[str] | None,
        typer.Option(
            "--voice",
            "-v",
            metavar="SPEAKER=VOICE",
            help="1=emma, 2=bob.wav, Alice=a.safetensors; once per speaker. \\[default: the model's voices in order]",
        ),
    ] = None,
    consent: ConsentOption = False,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Raw PCM to standard output during synthesis: 16 bit, mono, little-endian."
        ),
    ] = False,
    srt: Annotated[bool, typer.Option("--srt", help="Subtitles of the turns beside the file.")] = False,
    vtt: Annotated[bool, typer.Option("--vtt", help="The same as WebVTT.")] = False,
    manifest: Annotated[
        bool,
        typer.Option(
            "--manifest/--no-manifest", help="FILE.json: turns with times, model, voices, settings."
        ),
    ] = True,
    disclaimer: Annotated[
        Literal["none", "prefix", "suffix"],
        typer.Option("--disclaimer", help="A spoken disclaimer before or after the script."),
    ] = "none",
    watermark: Annotated[
        bool, typer.Option("--watermark/--no-watermark", help="Embed an inaudible watermark.")
    ] = True,
    watermark_key: KeyOption = DEFAULT_KEY,
    speed: SpeedOption = 1.0,
    pause: PauseOption = None,
    cfg: CfgOption = None,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Synthesize a script: lines "Speaker 1: words" or "Emma: words", \\[pause:500ms], or plain text.

    Exit code 1: the model did not finish somewhere (named on standard error).
    """
    from multiway_tts.script_source import read_script
    from multiway_tts.speech_files import SpeakRequest, check_destination
    from multiway_tts.speech_files import speak as speak_script

    if json and stream:
        raise InputError("--json and --stream both write to standard output; give one of them")
    side = [kind for kind, wanted in (("json", manifest), ("srt", srt), ("vtt", vtt)) if wanted]
    request = SpeakRequest(
        output,
        stream,
        tuple(side),
        tuple(voice or ()),
        consent,
        disclaimer,
        watermark_key if watermark else None,
        seed,
        cfg,
        steps,
        speed,
        pause,
    )
    check_destination(request)
    code = speak_script(read_script(script), model, request, as_json=json)
    if code:
        raise typer.Exit(code)

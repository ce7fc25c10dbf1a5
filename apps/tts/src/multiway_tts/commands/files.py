"""The commands ``voices`` and ``watermark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import (
    CommandLine,
    JsonOption,
    ModelOption,
    ModelOptions,
    note,
    stdin_file,
    write_json,
    write_stdout,
)
from multiway_core.errors import InputError

from multiway_tts.app import APP
from multiway_tts.commands.options import ConsentOption, KeyOption
from multiway_tts.model import DEFAULT_KEY

voices = CommandLine(APP, help="List the model's voices, or make a voice file of a recording.")
watermark = CommandLine(APP, help="Detect watermarks.")


@voices.callback(invoke_without_command=True, no_args_is_help=False)
def list_voices(context: typer.Context, model: ModelOption = APP.model, json: JsonOption = False) -> None:
    """The names of the model's voices, a line each; a script may call them: "Emma: Hello."."""
    if context.invoked_subcommand is not None:
        return
    from multiway_tts.voice_files import voice_names

    names = voice_names(ModelOptions(model, "cpu"))
    if json:
        write_json({"model": model, "voices": list(names)})
        return
    write_stdout("".join(f"{name}\n" for name in names))
    if not names:
        note(f"{model} has no voices of its own; give recordings: --voice 1=alice.wav --consent")


@voices.command("make")
def make(
    recording: Annotated[
        Path,
        typer.Argument(
            metavar="RECORDING", help="1 to 60 seconds of one person speaking, any sound or video file."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Voice file (.safetensors).")
    ],
    consent: ConsentOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Encode a recording once; then: speak ... --voice 1=FILE. A voice file belongs to the model that made it."""
    from multiway_tts.voice_files import make_voice

    make_voice(recording, output, model, consent=consent)
    write_stdout(f"{output}\n")


@watermark.command("detect")
def detect(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE|-...", help="Sound or video files.", callback=stdin_file)
    ],
    watermark_key: KeyOption = DEFAULT_KEY,
    json: JsonOption = False,
) -> None:
    """Detect the watermark that this program embeds into its speech.

    Exit code 1: a file has no watermark, or cannot be read (named on standard error). 2: none can be read.
    """
    from multiway_tts import watermark_detection

    results = []
    for path in files:
        try:
            results.append((path, watermark_detection.detect_watermark(path, watermark_key)))
        except InputError as error:
            APP.note(str(error))
    if not results:
        raise typer.Exit(2)
    if json:
        rows = [watermark_detection.as_json(path, found) for path, found in results]
        write_json(rows)
    else:
        write_stdout("".join(watermark_detection.as_line(path, found) + "\n" for path, found in results))
    if len(results) < len(files) or not all(any(part.marked for part in found) for _, found in results):
        raise typer.Exit(1)

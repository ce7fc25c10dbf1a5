"""The ``speak`` command: a script to an audio file, side files, and standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from multiway_core.app import ModelOptions, load_pipeline, note, write_stdout
from multiway_core.app.command import INTERRUPTED
from multiway_core.errors import InputError, MultiwayError, OutputError
from multiway_core.files import write_text

from multiway_tts.app import APP
from multiway_tts.disclaimer import Disclaimer, with_disclaimer
from multiway_tts.manifest import Manifest, manifest_of, model_hash, write_beside
from multiway_tts.model import speech_options
from multiway_tts.synthesis import Synthesis
from multiway_tts.voice_assignment import assign_voices, names_in_scripts, read_assignments

if TYPE_CHECKING:
    import numpy as np
    from multiway_speech.audio_writer import AudioWriter, Provenance
    from multiway_speech.script import Script

    from multiway_tts.model import Synthesizer


@dataclass(frozen=True)
class SpeakRequest:
    """What the command line asks for.

    Attributes:
        output: sound file, or None.
        stream: raw PCM to standard output.
        side: kinds of side files: ``json``, ``srt``, ``vtt``.
        key: of the watermark, or None.
    """

    output: Path | None
    stream: bool
    side: tuple[str, ...]
    voices: Sequence[str] = ()
    consent: bool = False
    disclaimer: Disclaimer = "none"
    key: str | None = None
    seed: int = 0
    guidance: float | None = None
    steps: int | None = None
    speed: float = 1.0
    pause: float | None = None


def check_destination(request: SpeakRequest) -> None:
    """Raises InputError, before a model is loaded, when there is nowhere to write to."""
    from multiway_speech.audio_writer import SUFFIXES

    if request.output is None:
        if not request.stream:
            raise InputError("where to: give -o FILE, or --stream for raw sound on standard output")
        if {"srt", "vtt"} & set(request.side):
            raise InputError("--srt and --vtt are written beside a file; give -o FILE as well")
    else:
        suffix = request.output.suffix.lower()
        if suffix not in SUFFIXES:
            raise InputError(
                f"{request.output}: cannot write {suffix or 'a name without suffix'}; use {', '.join(SUFFIXES)}"
            )
        if request.output.is_dir():
            raise InputError(f"{request.output} is a folder; give a file name")
        if not request.output.parent.is_dir():
            raise InputError(
                f"{request.output}: the folder {request.output.parent} does not exist; make it first"
            )
    if request.stream and sys.stdout.isatty():
        raise InputError("--stream writes raw sound: send it to a player, such as | aplay -f S16_LE -r RATE")


def speak(text: str, model: ModelOptions, request: SpeakRequest, *, as_json: bool) -> int:
    """Synthesize a script and write what was asked for; the exit code is 1 if the model did not finish somewhere.

    Raises InputError, OutputError (what was spoken until then is kept), SystemExit when interrupted.
    """
    check_destination(request)
    synthesizer = load_pipeline(APP, model)
    synthesis = prepared(text, synthesizer, request)
    for remark in synthesis.cast.remarks:
        APP.note(remark)
    from multiway_speech.audio_writer import Provenance

    name = model.model or APP.model
    provenance = Provenance.now(name, watermarked=request.key is not None)
    manifest = perform(synthesis, request, provenance, model_hash(name) if "json" in request.side else None)
    if as_json:
        write_stdout(manifest.dumps())
    told = (
        f"{manifest.duration:.1f} s of speech in {synthesis.elapsed:.1f} s ({synthesis.pace:.2f} s a second)"
    )
    note(f"{request.output or 'streamed'}: {told}")
    for problem in manifest.problems:
        APP.note(problem)
    return 0 if manifest.complete else 1


def prepared(text: str, synthesizer: Synthesizer, request: SpeakRequest) -> Synthesis:
    """The script read, its voices found, ready to be spoken. Raises InputError, CheckpointError, ConfigError."""
    options = speech_options(
        synthesizer,
        seed=request.seed,
        guidance=request.guidance,
        steps=request.steps,
        speed=request.speed,
        pause=request.pause,
    )
    assignments = read_assignments(request.voices)
    script = read(text, synthesizer, assignments)
    remarks = synthesizer.check(script)  # better now than an hour later
    found = assign_voices(synthesizer, script.speakers, assignments, consent=request.consent)
    found = replace(found, remarks=(*found.remarks, *remarks))
    return Synthesis(
        synthesizer, with_disclaimer(script, request.disclaimer), found, options, key=request.key
    )


def read(text: str, synthesizer: Synthesizer, assignments: dict[str, str]) -> Script:
    """A script in which the model's voices and those that were given may be called by name. Raises InputError."""
    from multiway_speech.script import parse_script
    from multiway_speech.vibevoice.pipeline import MAX_SPEAKERS

    return parse_script(text, voices=names_in_scripts(synthesizer, assignments), max_speakers=MAX_SPEAKERS)


def perform(
    synthesis: Synthesis, request: SpeakRequest, provenance: Provenance, model_sha256: str | None
) -> Manifest:
    """Synthesize into the file and to standard output, then write the side files.

    Raises as :func:`speak`; a file that is not complete keeps the name ``.partial`` and its side files too.
    """
    from multiway_speech.audio_writer import AudioWriter

    def described(audio: Path | None, interrupted: str | None = None) -> Manifest:
        return manifest_of(
            synthesis,
            provenance,
            audio=None if audio is None else audio.name,
            disclaimer=request.disclaimer,
            interrupted=interrupted,
            model_sha256=model_sha256,
        )

    writer = None if request.output is None else AudioWriter(request.output, synthesis.rate, provenance)
    try:
        with _progress() as tell:
            for piece in synthesis:
                if writer is not None:
                    writer.write(piece)
                if request.stream:
                    write_stdout(pcm(piece))
                tell(synthesis.seconds)
        path = None if writer is None else writer.close()
    except BaseException as error:
        _keep(writer, error, request, described)
        raise
    manifest = described(path)
    if path is not None:
        write_beside(path, manifest, request.side)
        _forget_partial(request)
    return manifest


def pcm(samples: np.ndarray) -> bytes:
    """Float samples (T,), full scale at 1, as signed 16-bit little-endian."""
    import numpy as np

    return (np.clip(np.nan_to_num(samples), -1, 1) * 32767).round().astype("<i2").tobytes()


def _keep(
    writer: AudioWriter | None,
    error: BaseException,
    request: SpeakRequest,
    described: Callable[[Path | None, str | None], Manifest],
) -> None:
    """Close what was written and say where it is; turns a Ctrl-C into the exit code with that one line."""
    stopped, gone = isinstance(error, KeyboardInterrupt), isinstance(error, SystemExit)
    reason = "interrupted" if stopped else "the reader of standard output went away" if gone else str(error)
    if writer is not None and writer.seconds > 0:
        partial = writer.partial_path
        with suppress(OutputError):
            writer.close(complete=False)
        if "json" in request.side:
            with suppress(MultiwayError):
                manifest = described(partial, f"stopped after {writer.seconds:.1f} s: {reason}")
                write_text(partial.with_suffix(".json"), manifest.dumps())
        kept = f"; the first {writer.seconds:.1f} s are in {partial} (partial)"
    else:
        if writer is not None:
            with suppress(OutputError):
                writer.close(complete=False).unlink(missing_ok=True)
        kept = ""
    if stopped:
        APP.note(f"interrupted{kept}")
        raise SystemExit(INTERRUPTED) from None
    if isinstance(error, InputError) and kept:
        raise InputError(f"{reason}{kept}") from error
    if gone and kept:
        APP.note(f"{reason}{kept}")


def _forget_partial(request: SpeakRequest) -> None:
    """An earlier call may have left the manifest of a partial file."""
    assert request.output is not None
    with suppress(OSError):
        request.output.with_name(f"{request.output.stem}.partial.json").unlink(missing_ok=True)


@contextmanager
def _progress() -> Iterator[Callable[[float], None]]:
    """A line on the terminal with the seconds spoken so far; yields the function that moves it."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda seconds: None
        return
    with console.status("speaking ...") as status:
        yield lambda seconds: status.update(f"{seconds:.1f} s spoken")

"""Live transcription in the terminal: a microphone, raw PCM, or a recording that stands in for one."""

from __future__ import annotations

import queue
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.app import ModelOptions, load_pipeline, write_stdout
from multiway_core.errors import InputError
from multiway_core.files import write_text

from multiway_asr.app import APP

RATE = 16_000
PIECE = RATE // 5
"""Samples that are taken at once."""
FORMATS = ("json", "txt", "srt", "vtt")


def listen_to(source: str, model: ModelOptions, context: str, output: Path | None) -> int:
    """Transcribe until the source or the user ends it; the exit code.

    Raises InputError: no microphone, no ``sounddevice``, an unreadable recording, a model that cannot hear live.
    """
    from multiway_speech.asr_cascade.live import LiveTranscriber, Partial
    from multiway_speech.asr_cascade.pipeline import CascadePipeline
    from multiway_speech.export import export
    from multiway_speech.export.text import line
    from multiway_speech.result import Segment, Transcript

    if output is not None and (
        output.suffix.lower().removeprefix(".") not in FORMATS or not output.parent.is_dir()
    ):
        raise InputError(f"--output {output}: a file in a folder that exists, ending in {', '.join(FORMATS)}")
    sound = _sound(source)
    pipeline = load_pipeline(APP, model)
    if not isinstance(pipeline, CascadePipeline):
        raise InputError(
            f"{pipeline.name} hears a recording as a whole; live take {APP.model} or whisper-base"
        )
    live, screen = LiveTranscriber(pipeline, context), _Screen()
    segments: list[Segment] = []
    heard = 0

    def show(events: Iterator[Partial | Segment]) -> None:
        for event in events:
            if isinstance(event, Partial):
                screen.partial(event.text)
            else:
                segments.append(event)
                screen.final(line(event))

    try:
        for samples in sound:
            heard += len(samples)
            show(live.feed(samples))
    except KeyboardInterrupt:
        pass  # how a user ends it
    show(live.finish())
    screen.close()
    if output is not None:
        transcript = Transcript(
            source or "microphone",
            pipeline.name,
            round(heard / RATE, 3),
            tuple(segments),
            language=pipeline.recognizer.language,
        )
        write_text(output, export(transcript, output.suffix.lower().removeprefix(".")))
    return 0


def _sound(source: str) -> Iterator[np.ndarray]:
    """Pieces of float32 samples at 16 kHz."""
    if source == "-":
        return _standard_input()
    if source and Path(source).is_file():
        from multiway_speech.audio import SoundFile

        return SoundFile(Path(source)).pieces(RATE, PIECE / RATE)
    return _microphone(source)


def _standard_input() -> Iterator[np.ndarray]:
    while data := sys.stdin.buffer.read(2 * PIECE):
        yield np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / 32768


def _microphone(device: str) -> Iterator[np.ndarray]:
    """What a microphone hears; sound waits while words are recognized."""
    try:
        import sounddevice
    except ModuleNotFoundError:
        raise InputError(
            "a microphone needs the package sounddevice: pip install 'multiway-asr[microphone]'"
        ) from None
    except OSError as error:  # PortAudio is not there
        raise InputError(f"no microphone: {error} (on Debian: apt-get install libportaudio2)") from error
    waiting: queue.Queue[np.ndarray] = queue.Queue()

    def take(samples: np.ndarray, frames: int, time: Any, status: Any) -> None:
        waiting.put(samples[:, 0].copy())

    chosen: Any = int(device) if device.isdigit() else device or None
    try:
        with sounddevice.InputStream(
            samplerate=RATE, channels=1, dtype="float32", blocksize=PIECE, device=chosen, callback=take
        ):
            APP.note("listening; Ctrl-C ends")
            while True:
                yield waiting.get()
    except (sounddevice.PortAudioError, ValueError) as error:
        raise InputError(f"microphone {device or '(default)'}: {error}") from error


class _Screen:
    """Finished lines on standard output; on a terminal, words that may change in a line of their own below."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._shown = False

    def partial(self, text: str) -> None:
        if not self._live:
            return
        import shutil

        width = shutil.get_terminal_size().columns - 1
        write_stdout(f"\r\x1b[2K\x1b[2m{text[-width:]}\x1b[0m")
        self._shown = True

    def final(self, line: str) -> None:
        self.close()
        write_stdout(line)

    def close(self) -> None:
        if self._shown:
            write_stdout("\r\x1b[2K")
            self._shown = False

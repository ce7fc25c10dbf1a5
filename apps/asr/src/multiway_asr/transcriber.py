"""The recognizer behind commands, evaluation and demo."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelLoader, ModelOptions
from multiway_core.errors import InputError

from multiway_asr.app import APP

if TYPE_CHECKING:
    from multiway_speech.result import Segment, Transcript

_SOUND = (
    ".wav",
    ".flac",
    ".mp3",
    ".ogg",
    ".oga",
    ".opus",
    ".m4a",
    ".aac",
    ".wma",
    ".aif",
    ".aiff",
    ".au",
    ".amr",
    ".g722",
)
_VIDEO = (".mp4", ".m4v", ".mkv", ".webm", ".mov", ".avi", ".ts", ".3gp")
SUFFIXES = frozenset((*_SOUND, *_VIDEO))
"""File types taken from folders: audio and video. A file that is named is tried whatever its suffix."""
ROOM, WINDOW = 0.6, 20.0
"""A longer recording than this share of the model's maximum, which holds the output too, is heard in parts of so many
seconds."""


@dataclass(frozen=True)
class TranscribeOptions:
    """How to transcribe.

    Attributes:
        context: names, terms or any text that may occur.
        max_speakers: above this number the most similar voices are merged; None keeps all.
        window: seconds of the parts of a longer recording; None takes one pass where the model's maximum allows. A
            cascade needs none.
    """

    context: str = ""
    max_speakers: int | None = None
    window: float | None = None


class Transcriber:
    """Transcribes files with one pipeline, which is loaded when it is first asked for."""

    def __init__(
        self, model: ModelOptions | None = None, *, pipeline: Callable[[], Any] | None = None
    ) -> None:
        """``pipeline``: returns the ``AsrPipeline`` where it is loaded already."""
        loader = ModelLoader(APP, model)
        self.pipeline = pipeline or loader
        """Called, it returns the ``AsrPipeline``, or raises StopRun when that cannot be loaded."""
        self.model = loader.model

    def max_seconds(self, context: str = "") -> float:
        """Longest recording of one pass in seconds, without room for the output; infinite for a cascade."""
        return float(self.pipeline().max_seconds(context))

    def stream(
        self, path: Path, options: TranscribeOptions, on_heard: Callable[[float], None] | None = None
    ) -> Iterator[Segment | Transcript]:
        """Segments as they are decoded, and the transcript last; see ``AsrPipeline.stream`` and ``stream_windows``.

        With fewer speakers asked for than heard in one pass, only the transcript has them: voices are compared at the
        end. Raises InputError as the pipeline does.
        """
        from multiway_speech.audio import SoundFile
        from multiway_speech.vibevoice_asr.pipeline import TranscriptionOptions
        from multiway_speech.windows import stream_windows

        sound = SoundFile(path)
        pipeline = self.pipeline()
        duration, longest = sound.header_seconds(), self.max_seconds(options.context)
        decoding = TranscriptionOptions(context=options.context)
        if math.isinf(longest):  # such a pipeline needs no window
            options = replace(options, window=None)
        elif options.window is None and duration is not None and duration > ROOM * longest:
            options = replace(options, window=min(WINDOW, ROOM * longest))
        if options.window is not None:
            if options.window > longest:
                raise InputError(
                    f"a window of {options.window:g} s; {self.model} hears {longest:.0f} s at most"
                )
            yield from stream_windows(
                pipeline,
                sound,
                decoding,
                options.window,
                max_speakers=options.max_speakers,
                on_heard=on_heard,
            )
            return
        yield from pipeline.stream(sound, decoding, on_heard, options.max_speakers)

    def transcript(self, path: Path, options: TranscribeOptions | None = None) -> Transcript:
        """The whole transcript; errors as of :meth:`stream`."""
        from multiway_speech.result import Transcript

        *_, transcript = self.stream(path, options or TranscribeOptions())
        assert isinstance(transcript, Transcript)
        return transcript

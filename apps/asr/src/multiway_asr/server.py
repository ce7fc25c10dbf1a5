"""The operation behind HTTP and MCP: a recording in, who said what and when out, in the OpenAI API's form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from multiway_core.app import ModelOptions
from multiway_core.app.serve.operation import Content, InputFile, Operation, Service, Streamed
from multiway_core.errors import InputError
from pydantic import Field
from typing_extensions import TypedDict

from multiway_asr.transcriber import TranscribeOptions, Transcriber


class Text(TypedDict):
    """``json``."""

    text: str


class TimedText(TypedDict):
    """A segment of ``verbose_json``."""

    id: int
    start: float
    end: float
    text: str
    speaker: int | None


class Verbose(TypedDict):
    """``verbose_json``: the schema ``multiway.asr/1`` and what the OpenAI API has besides."""

    schema: str
    source: str
    model: str
    task: str
    language: str
    duration: float
    text: str
    segments: list[TimedText]
    problems: list[str]


class Turn(TypedDict):
    """A segment of ``diarized_json``; ``speaker`` is empty where nobody speaks."""

    id: str
    type: str
    start: float
    end: float
    text: str
    speaker: str


class Diarized(TypedDict):
    """``diarized_json``."""

    task: str
    duration: float
    text: str
    segments: list[Turn]


def transcription(
    pipeline: Any,
    file: InputFile,
    model: str = "",
    prompt: Annotated[str, Field(max_length=4000)] = "",
    response_format: Literal["json", "verbose_json", "diarized_json", "text", "srt", "vtt"] = "json",
    stream: bool = False,
    language: str | None = None,
) -> Iterator[Any]:
    """Transcribe a recording or the sound of a video, with speakers and times.

    ``prompt``: names and terms that are spoken. ``diarized_json`` gives segments with speakers, ``verbose_json`` the
    schema ``multiway.asr/1``. ``language`` is found by the model itself; only English is taken.
    """
    from multiway_speech.export import export
    from multiway_speech.result import Segment

    if language not in (None, "", "en", "english"):
        raise InputError(f"language {language}: the model finds the language itself; leave it out")
    transcriber = Transcriber(ModelOptions(model=pipeline.name), pipeline=lambda: pipeline)
    events = transcriber.stream(file, TranscribeOptions(context=prompt))
    if stream:
        yield Streamed("text/event-stream")
    text = ""
    for event in events:
        if isinstance(event, Segment):
            part = (" " if text else "") + event.text
            text += part
            if stream:
                yield _event({"type": "transcript.text.delta", "delta": part})
            else:
                yield None  # a client that left ends the work here
        else:
            transcript = event
    text = " ".join(segment.text for segment in transcript.segments)
    if stream:
        yield _event({"type": "transcript.text.done", "text": text})
    elif response_format == "json":
        yield {"text": text}
    elif response_format == "verbose_json":
        segments = [
            {"id": number, "start": one.start, "end": one.end, "text": one.text, "speaker": one.speaker}
            for number, one in enumerate(transcript.segments)
        ]
        head = {
            "task": "transcribe",
            "language": transcript.language or "en",
            "duration": transcript.duration,
        }
        yield {**transcript.to_json(), **head, "text": text, "segments": segments}
    elif response_format == "diarized_json":
        segments = [
            {
                "id": f"seg_{number}",
                "type": "transcript.text.segment",
                "start": one.start,
                "end": one.end,
                "text": one.text,
                "speaker": "" if one.speaker is None else f"Speaker {one.speaker}",
            }
            for number, one in enumerate(transcript.segments)
        ]
        yield {"task": "transcribe", "duration": transcript.duration, "text": text, "segments": segments}
    elif response_format == "text":
        yield Content((text + "\n").encode(), "text/plain; charset=utf-8")
    else:
        kind = "text/vtt" if response_format == "vtt" else "application/x-subrip"
        yield Content(export(transcript, response_format).encode(), f"{kind}; charset=utf-8")


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


SERVICE = Service(
    operations=(
        Operation(
            "/v1/audio/transcriptions",
            transcription,
            Text | Verbose | Diarized,
            media_types=("text/plain", "application/x-subrip", "text/vtt", "text/event-stream"),
        ),
    )
)

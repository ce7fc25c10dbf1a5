"""The result of a transcription. JSON schema ``multiway.asr/1``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multiway_core import config

SCHEMA = "multiway.asr/1"


@dataclass(frozen=True)
class Segment:
    """A stretch of one speaker's words.

    Attributes:
        start, end: seconds from the beginning, ``0 <= start <= end``.
        speaker: number from 0, or None where nobody speaks.
        text: the words, or a tag such as ``[Music]`` where nobody speaks; one line.
    """

    start: float
    end: float
    speaker: int | None
    text: str

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"a segment from {self.start} s to {self.end} s")
        if self.speaker is not None and self.speaker < 0:
            raise ValueError(f"speaker {self.speaker}; speakers are numbered from 0")


@dataclass(frozen=True)
class Transcript:
    """The transcript of one recording.

    Attributes:
        source: the recording's file name.
        model: name of the model.
        duration: seconds of the recording.
        segments: in order of their starts.
        language: BCP 47 code, or None if unknown.
        problems: what went wrong on the way, a line each; with any, the transcript may be partial.
    """

    source: str
    model: str
    duration: float
    segments: tuple[Segment, ...]
    language: str | None = None
    problems: tuple[str, ...] = ()

    @property
    def speakers(self) -> tuple[int, ...]:
        """Numbers of all who speak, ascending."""
        return tuple(sorted({s.speaker for s in self.segments if s.speaker is not None}))

    def to_json(self) -> dict[str, Any]:
        """The schema's object; ``from_json`` reads it."""
        fields = config.to_dict(self)
        order = ("source", "model", "duration", "language", "segments", "problems")
        return {"schema": SCHEMA, **{key: fields[key] for key in order}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, where: str = "transcript") -> Transcript:
        """Read the schema's object. Raises :class:`ConfigError` naming ``where`` and the path of what is wrong."""
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
            raise config.ConfigError(f"{where}: schema: expected {SCHEMA!r}, got {found!r}")
        return config.from_dict(cls, {k: v for k, v in data.items() if k != "schema"}, where=where)

    @classmethod
    def load(cls, path: Path) -> Transcript:
        """Read a JSON file. Raises :class:`ConfigError`."""
        return cls.from_json(config.read_json(path), where=str(path))

    def dumps(self) -> str:
        """Indented JSON text."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

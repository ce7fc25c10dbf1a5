"""One synthesis: streamed, watermarked audio, and afterwards the times of the turns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from multiway_tts.disclaimer import is_disclaimer
from multiway_tts.model import DEFAULT_KEY
from multiway_tts.voice_assignment import VoiceAssignment

if TYPE_CHECKING:
    import numpy as np
    from multiway_speech.script import Script, Turn
    from multiway_speech.vibevoice.pipeline import Speech, SpeechOptions

    from multiway_tts.model import Synthesizer


@dataclass(frozen=True)
class SpokenTurn:
    """A turn and when it was spoken.

    Attributes:
        start, end: seconds.
        speaker: index into the script's speakers.
        text: what was said.
        line: of the script; 0 is the disclaimer.
        estimated: an end of it is a guess, since the model spoke several turns in one go.
        complete: False if the model did not come to an end.
    """

    start: float
    end: float
    speaker: int
    text: str
    line: int
    estimated: bool
    complete: bool

    @property
    def disclaimer(self) -> bool:
        """Whether it is the disclaimer, not the script."""
        return is_disclaimer(self.line)


class Synthesis:
    """Iterate over it once for the sound, float32 pieces (T,) at ``rate``."""

    def __init__(
        self,
        synthesizer: Synthesizer,
        script: Script,
        cast: VoiceAssignment,
        options: SpeechOptions,
        *,
        key: str | None = DEFAULT_KEY,
    ) -> None:
        """``key`` of the watermark; None leaves it out. Raises InputError: a speaker without a voice."""
        self.script, self.cast, self.options, self.key = script, cast, options, key
        self.rate = synthesizer.sample_rate
        self.model = synthesizer.name
        self.speech: Speech | None = None
        self.samples = 0
        self._source = synthesizer.stream(script, cast.voices, options)
        self._started: float | None = None
        self._ended: float | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        from multiway_speech import watermark

        self._started = time.monotonic()
        plain = self._plain()
        for piece in plain if self.key is None else watermark.embed(plain, self.rate, self.key):
            self.samples += len(piece)
            yield piece
        self._ended = time.monotonic()

    def _plain(self) -> Iterator[np.ndarray]:
        from multiway_speech.vibevoice.pipeline import Speech

        for item in self._source:
            if isinstance(item, Speech):
                self.speech = item
            else:
                yield item.samples

    @property
    def seconds(self) -> float:
        """Of sound so far."""
        return self.samples / self.rate

    @property
    def elapsed(self) -> float:
        """Seconds on the clock since the first piece was asked for."""
        return 0.0 if self._started is None else (self._ended or time.monotonic()) - self._started

    @property
    def pace(self) -> float:
        """Seconds on the clock for a second of sound (the real-time factor)."""
        return self.elapsed / self.seconds if self.samples else 0.0

    def turns(self) -> list[SpokenTurn]:
        """The turns with their times; empty until the synthesis is complete."""
        if self.speech is None:
            return []
        from multiway_speech.turn_times import turn_times

        found: list[SpokenTurn] = []
        for section in self.speech.sections:
            # A model that tells where its turns begin leaves nothing to guess but the silence around each.
            told = len(section.turn_starts) == len(section.turns)
            edges = [*section.turn_starts, section.end] if told else [section.start, section.end]
            groups = [[turn] for turn in section.turns] if told else [section.turns]
            for turns, (start, end) in zip(groups, pairwise(edges), strict=True):
                sound = self.speech.samples[round(start * self.rate) : round(end * self.rate)]
                times = turn_times(sound, self.rate, [turn.text for turn in turns])
                for turn, (begin, stop) in zip(turns, times, strict=True):
                    found.append(_spoken(turn, start + begin, start + stop, len(turns) > 1, section.complete))
        return found

    def problems(self) -> list[str]:
        """Sections that the model did not finish, a line each."""
        if self.speech is None:
            return []
        return [
            f"{_where(section.turns)}: the model did not come to its end after {section.end - section.start:.1f} s;"
            " words may be missing or repeated"
            for section in self.speech.sections
            if not section.complete
        ]


def _spoken(turn: Turn, start: float, end: float, estimated: bool, complete: bool) -> SpokenTurn:
    return SpokenTurn(start, end, turn.speaker, turn.text, turn.line, estimated, complete)


def _where(turns: tuple[Turn, ...]) -> str:
    lines = [turn.line for turn in turns if not is_disclaimer(turn.line)]
    if not lines:
        return "disclaimer"
    return f"line {lines[0]}" if lines[0] == lines[-1] else f"lines {lines[0]} to {lines[-1]}"

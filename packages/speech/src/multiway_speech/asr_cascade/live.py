"""Live transcription: sound that goes on and on, its words while they are spoken, its segments when a pause comes.

What is being said is recognized again every :data:`EVERY` seconds from its beginning, so its words may still change;
behind a pause, or :data:`LONGEST` seconds, they are final. Speakers are told by the voices so far. Memory holds the
sound since the last pause and 1.4 kB a second of speech.

Shape suffixes: T samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from multiway_speech.asr_cascade.diarization import Diarizer
from multiway_speech.asr_cascade.pipeline import AROUND, CascadePipeline, segments_of
from multiway_speech.asr_cascade.voice_activity import RATE, Span, VoiceActivity
from multiway_speech.result import Segment
from multiway_speech.vibevoice_asr.whisper import Word

EVERY = 1.0
"""Seconds of new speech after which what is being said is recognized again."""
LONGEST = 20.0
"""Seconds after which speech without a pause is cut."""


@dataclass(frozen=True)
class Partial:
    """Words that are being said, from ``start`` seconds on; the next one replaces them."""

    start: float
    text: str


class LiveTranscriber:
    """Takes sound as it comes; each instance is for one recording."""

    def __init__(self, pipeline: CascadePipeline, context: str = "") -> None:
        self._pipeline, self._context = pipeline, context
        self._activity = VoiceActivity()
        self._diarizer = Diarizer(pipeline.speaker)
        self._kept_T = np.zeros(0, dtype=np.float32)
        self._kept_from = self._heard = 0
        self._told = 0.0
        """Up to where words were told, seconds."""
        self._tried = 0.0
        """Up to where what is being said was recognized last."""

    def feed(self, samples_T: np.ndarray) -> Iterator[Partial | Segment]:
        """The next samples, float32 at 16 kHz; yields what is new because of them."""
        self._kept_T = np.concatenate([self._kept_T, samples_T.astype(np.float32)])
        self._heard += len(samples_T)
        ended = list(self._activity.feed(samples_T))
        for span in ended:
            yield from self._final(span)
        start, now = max(self._told, self._activity.settled), self._heard / RATE
        if self._activity.speaking:
            if now - start > LONGEST:
                yield from self._final(Span(start, now))
            elif now - max(start, self._tried) >= EVERY:
                self._tried = now
                words = self._words(start, now)
                if words:
                    yield Partial(words[0].start, " ".join(word.text for word in words))
        self._forget(max(self._told, self._activity.settled) - AROUND)

    def finish(self) -> Iterator[Segment]:
        """What was being said at the end."""
        for span in self._activity.finish():
            yield from self._final(span)

    def _final(self, span: Span) -> Iterator[Segment]:
        start, end = max(span.start, self._told), min(span.end, self._heard / RATE)
        if end <= start:
            return
        words = self._words(start, end)
        self._diarizer.hear(Span(start, end), self._samples(start, end))
        self._told = self._tried = end
        yield from segments_of(words, self._diarizer.turns())

    def _words(self, start: float, end: float) -> list[Word]:
        begin = max(start - AROUND, self._kept_from / RATE)
        found = self._pipeline.recognizer.words(self._samples(begin, end), self._context)
        words = [Word(word.text, begin + word.start, min(end, begin + word.end)) for word in found]
        return words if any(sign.isalnum() for word in words for sign in word.text) else []

    def _samples(self, start: float, end: float) -> np.ndarray:
        first, last = (max(0, round(moment * RATE) - self._kept_from) for moment in (start, end))
        return np.ascontiguousarray(self._kept_T[first:last])

    def _forget(self, before: float) -> None:
        count = round(before * RATE) - self._kept_from
        if count > 0:
            self._kept_T, self._kept_from = self._kept_T[count:].copy(), self._kept_from + count

"""Audio -> transcript by a cascade: voice activity -> words -> speakers, for recordings of any length.

The same call and result as :class:`multiway_speech.vibevoice_asr.pipeline.AsrPipeline`, whose network does all at once.
Here memory does not grow with the recording but for 1.4 kB a second of speech, the embeddings of voices.

Shape suffixes: T samples.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from multiway_core.errors import InputError

from multiway_speech.asr_cascade.diarization import Diarizer, Turn
from multiway_speech.asr_cascade.recognizers import (
    MAX_SECONDS,
    TINY,
    Recognizer,
    load_bundled,
    load_faster_whisper,
    load_speaker,
)
from multiway_speech.asr_cascade.voice_activity import RATE, Span, VoiceActivity
from multiway_speech.audio import Sound, SoundArray, SoundFile, measure
from multiway_speech.result import Segment, Transcript
from multiway_speech.vibevoice_asr.pipeline import (
    MIN_SECONDS,
    TranscriptionOptions,
    check_context,
    problems_of,
)
from multiway_speech.vibevoice_asr.speaker_encoder import SpeakerEncoder
from multiway_speech.vibevoice_asr.whisper import Word
from multiway_speech.windows import split_at_pauses

LEVEL_DBFS = -20.0
"""Meetings are recorded so softly that no voice would be found; they are raised to this, as their peaks allow."""
AROUND = 0.3
"""Seconds of sound that the recognizer hears before and behind a stretch."""
MAX_GAP = 2.0
"""Seconds of silence within a stretch that is recognized at once."""
PAUSE, SENTENCE_PAUSE, LONGEST = 1.0, 0.3, 15.0
"""Seconds after which a segment ends: a pause, a pause behind the end of a sentence, and its length."""


@dataclass(frozen=True)
class Stretch:
    """Spans of speech that are recognized at once, and the sound from ``start`` on that holds them."""

    spans: tuple[Span, ...]
    start: float
    samples_T: np.ndarray


class CascadePipeline:
    """Transcribes with one recognizer of words and one encoder of voices."""

    def __init__(self, recognizer: Recognizer, speaker: SpeakerEncoder) -> None:
        self.name = recognizer.name
        self.recognizer = recognizer
        self.speaker = speaker

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        revision: str | None = None,
    ) -> CascadePipeline:
        """``bundled:whisper-tiny.en``, ``whisper-base`` (``multiway-asr[whisper]``), or a folder of CTranslate2's.

        It runs on the CPU, the tiny one in float32 and others in 8 bits. Raises ModelNotFoundError, ConfigError.
        """
        if torch.device(device).type != "cpu" or dtype not in (None, torch.float32) or revision:
            raise InputError(
                f"{name} runs on the CPU as it is; --device, --dtype and revisions are for VibeVoice-ASR"
            )
        if name == TINY:
            return cls(*load_bundled())
        return cls(load_faster_whisper(name), load_speaker())

    def max_seconds(self, context: str = "") -> float:
        """Longest recording of one pass: any."""
        return float("inf")

    def __call__(self, sound: Sound | Path | str, options: TranscriptionOptions | None = None) -> Transcript:
        """Transcribe one recording; see :meth:`stream`."""
        *_, transcript = self.stream(sound, options)
        assert isinstance(transcript, Transcript)
        return transcript

    def stream(
        self,
        sound: Sound | Path | str,
        options: TranscriptionOptions | None = None,
        on_heard: Callable[[float], None] | None = None,
        max_speakers: int | None = None,
    ) -> Iterator[Segment | Transcript]:
        """Yield segments as they are recognized, and the whole transcript last.

        Voices are clustered when all has been heard: the segments' speakers before that are guesses from what was heard
        so far, the transcript's are final. Raises :class:`InputError`: unreadable or empty sound, too long a context.
        """
        heard = SoundFile(sound) if isinstance(sound, Path | str) else sound
        options = options or TranscriptionOptions()
        check_context(options.context)
        return self._stream(heard, options, on_heard, max_speakers)

    @torch.no_grad()
    def _stream(
        self,
        sound: Sound,
        options: TranscriptionOptions,
        on_heard: Callable[[float], None] | None,
        max_speakers: int | None,
    ) -> Iterator[Segment | Transcript]:
        loudness = measure(sound, RATE)
        duration = loudness.num_samples / RATE
        if duration < MIN_SECONDS:
            raise InputError(
                f"{sound.name}: {duration:.2f} s of sound; there must be at least {MIN_SECONDS:g} s"
            )
        gain = 10 ** (LEVEL_DBFS / 20) / (loudness.rms + 1e-6)
        gain = min(max(1.0, gain), 1.0 / (loudness.peak + 1e-6))
        diarizer = Diarizer(self.speaker)
        words: list[Word] = []
        for stretch in stretches(sound, gain):
            begin = stretch.start
            for span in stretch.spans:
                first, last = (round((moment - begin) * RATE) for moment in (span.start, span.end))
                diarizer.hear(span, stretch.samples_T[first:last])
            new = [
                Word(word.text, begin + word.start, min(duration, begin + word.end))
                for word in self.recognizer.words(stretch.samples_T, options.context)
            ]
            if not any(sign.isalnum() for word in new for sign in word.text):
                new = []  # of music, Whisper now and then writes dots
            words += new
            if on_heard is not None:
                on_heard(stretch.spans[-1].end)
            if new:
                yield from segments_of(new, diarizer.turns(max_speakers))
        turns = diarizer.turns(max_speakers)
        if on_heard is not None:
            on_heard(duration)
        yield Transcript(
            sound.name,
            self.name,
            round(duration, 3),
            tuple(segments_of(words, turns)),
            language=self.recognizer.language,
            problems=tuple(problems_of(loudness)),
        )


def stretches(sound: Sound, gain: float) -> Iterator[Stretch]:
    """The speech of a recording in stretches of at most :data:`MAX_SECONDS`; longer speech is cut where it is quiet."""
    activity = VoiceActivity()
    waiting: list[Span] = []
    kept_T, kept_from = np.zeros(0, dtype=np.float32), 0

    def taken(spans: Sequence[Span]) -> Iterator[Stretch]:
        first = max(0, round((spans[0].start - AROUND) * RATE) - kept_from)
        samples_T = kept_T[first : round((spans[-1].end + AROUND) * RATE) - kept_from]
        begin = (kept_from + first) / RATE
        if len(samples_T) <= MAX_SECONDS * RATE:
            yield Stretch(tuple(spans), begin, samples_T)
            return
        for start, part_T in split_at_pauses(SoundArray(samples_T, RATE, sound.name), MAX_SECONDS):
            start += begin
            yield Stretch((Span(start, start + len(part_T) / RATE),), start, part_T)

    def joined(new: Span) -> bool:
        return not waiting or (
            new.start - waiting[-1].end <= MAX_GAP and new.end - waiting[0].start <= MAX_SECONDS - 2 * AROUND
        )

    for piece_T in sound.pieces(RATE, 10.0):
        samples_T = np.multiply(piece_T, gain, dtype=np.float32).clip(-1.0, 1.0)
        kept_T = np.concatenate([kept_T, samples_T])
        for span in activity.feed(samples_T):
            if not joined(span):
                yield from taken(waiting)
                waiting = []
            waiting.append(span)
        settled = activity.settled
        if waiting and settled - waiting[-1].end > MAX_GAP:
            yield from taken(waiting)
            waiting = []
        wanted = round(((waiting[0].start if waiting else settled) - AROUND) * RATE)
        kept_T, kept_from = kept_T[max(0, wanted - kept_from) :], max(kept_from, wanted)
    for span in activity.finish():
        if not joined(span):
            yield from taken(waiting)
            waiting = []
        waiting.append(span)
    if waiting:
        yield from taken(waiting)


def segments_of(words: Sequence[Word], turns: Sequence[Turn]) -> list[Segment]:
    """Words as segments of one speaker each: a word is who speaks at its middle, or nearest to it."""
    starts = [turn.start for turn in turns]
    segments: list[Segment] = []
    said: list[Word] = []
    speaker = -1

    def close() -> None:
        if said:
            start, end = said[0].start, max(word.end for word in said)
            text = " ".join(word.text for word in said)
            segments.append(Segment(round(start, 3), round(max(start, end), 3), speaker, text))

    for word in words:
        middle = (word.start + word.end) / 2
        place = bisect_right(starts, middle)
        near = [turns[at] for at in (place - 1, place) if 0 <= at < len(turns)]
        who = (
            min(near, key=lambda turn: max(turn.start - middle, middle - turn.end, 0.0)).speaker
            if near
            else 0
        )
        if said:
            gap = word.start - said[-1].end
            ended = said[-1].text[-1] in ".?!" and gap >= SENTENCE_PAUSE
            if who != speaker or gap > PAUSE or ended or word.end - said[0].start > LONGEST:
                close()
                said = []
        said.append(word)
        speaker = who
    close()
    return segments

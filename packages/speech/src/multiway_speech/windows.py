"""Recordings longer than the model's maximum: parts split at pauses, speakers matched by voice.

A single pass knows who spoke an hour ago, which is what VibeVoice-ASR is about; parts only know how people sound
(:mod:`multiway_speech.speakers`). They are for models that hear little, such as the bundled one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from multiway_speech.audio import Sound, SoundArray
from multiway_speech.export.text import clock
from multiway_speech.result import Segment, Transcript
from multiway_speech.speakers import RATE, Voice, distances, voices_of

if TYPE_CHECKING:
    from multiway_speech.vibevoice_asr.pipeline import AsrPipeline, TranscriptionOptions

MIN_PART_SECONDS = 1.0
"""Seconds of the last part at least."""
PAUSE = 0.2
"""Seconds over which loudness is averaged where a cut is looked for."""
SAME_VOICE = 1.2
"""Voices of two parts that are no farther apart (:func:`multiway_speech.speakers.distances`) are one speaker's.

Between the halves of what one speaker says it was at most 0.5 in six AMI excerpts (2 pairs) and 0.9 in ten mixtures of
synthetic voices (20 pairs); between speakers it was over 1.5 in nine of ten pairs of AMI, and over 3 in the mixtures.
"""
MAX_PROBLEMS = 20


def stream_windows(
    pipeline: AsrPipeline,
    sound: Sound,
    options: TranscriptionOptions,
    seconds: float,
    *,
    max_speakers: int | None = None,
    on_heard: Callable[[float], None] | None = None,
) -> Iterator[Segment | Transcript]:
    """As ``AsrPipeline.stream``, in parts of at most ``seconds``; each part's segments come when it is done.

    No two speakers of one part become one, unless there are more than ``max_speakers``. Raises InputError as the
    pipeline does.
    """
    tracker = SpeakerTracker(max_speakers)
    segments: list[Segment] = []
    problems: list[str] = []
    duration = 0.0
    for start, samples in split_at_pauses(sound, seconds):
        part = SoundArray(samples, RATE, sound.name)
        *_, heard = pipeline.stream(part, options)
        assert isinstance(heard, Transcript)
        numbers = tracker.match(voices_of(heard.segments, part))
        for segment in heard.segments:
            segments.append(
                Segment(
                    round(start + segment.start, 3),
                    round(start + segment.end, 3),
                    None if segment.speaker is None else numbers[segment.speaker],
                    segment.text,
                )
            )
            yield segments[-1]
        problems += [f"from {clock(start)}: {problem}" for problem in heard.problems]
        duration = start + len(samples) / RATE
        if on_heard is not None:
            on_heard(duration)
    yield Transcript(
        sound.name,
        pipeline.name,
        round(duration, 3),
        tuple(segments),
        problems=tuple(problems[:MAX_PROBLEMS]),
    )


class SpeakerTracker:
    """The voices that were heard so far, in the order of their first words."""

    def __init__(self, max_voices: int | None = None) -> None:
        self.voices: list[Voice] = []
        self._max_voices = max_voices

    def match(self, heard: dict[int, Voice]) -> dict[int, int]:
        """Numbers for the speakers of the next part; their voices are remembered."""
        speakers = list(heard)
        distance_KS = distances([*self.voices, *heard.values()])[: len(self.voices), len(self.voices) :]
        found: dict[int, int] = {}
        # The closest pairs first; nobody twice.
        for place in np.argsort(distance_KS, axis=None):
            one, other = divmod(int(place), len(speakers))
            if (
                distance_KS[one, other] <= SAME_VOICE
                and speakers[other] not in found
                and one not in found.values()
            ):
                found[speakers[other]] = one
        for speaker in speakers:
            if speaker not in found and (self._max_voices is None or len(self.voices) < self._max_voices):
                found[speaker] = len(self.voices)
                self.voices.append(heard[speaker])
                continue
            if speaker not in found:
                near_K = distances([*self.voices, heard[speaker]])[-1, :-1]
                found[speaker] = int(np.nanargmin(near_K)) if np.isfinite(near_K).any() else 0
            self.voices[found[speaker]] += heard[speaker]
        return found


def split_at_pauses(sound: Sound, longest: float) -> Iterator[tuple[float, np.ndarray]]:
    """(start in seconds, float32 (T,) at 16 kHz): cut where it is quietest in the second half of each part."""
    maximum, spare = int(longest * RATE), int(MIN_PART_SECONDS * RATE)
    waiting = np.zeros(0, dtype=np.float32)
    start = 0
    for piece in sound.pieces(RATE):
        waiting = np.concatenate([waiting, piece])
        while len(waiting) > maximum + spare:
            cut = _quietest(waiting, maximum // 2, maximum)
            yield start / RATE, waiting[:cut]
            start, waiting = start + cut, waiting[cut:]
    if len(waiting) > maximum:
        cut = _quietest(waiting, maximum // 2, min(maximum, len(waiting) - spare))
        yield start / RATE, waiting[:cut]
        start, waiting = start + cut, waiting[cut:]
    if len(waiting):
        yield start / RATE, waiting


def _quietest(samples: np.ndarray, first: int, last: int) -> int:
    """The middle of the quietest stretch between two places."""
    width = int(PAUSE * RATE)
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples[first:last], dtype=np.float64))])
    if len(energy) <= width:
        return (first + last) // 2
    return first + int(np.argmin(energy[width:] - energy[:-width])) + width // 2

"""A recognizer of finished parts, as a baseline: its transcripts are scored by `multiway-asr evaluate --hypotheses`.

    python -m benchmarks.speech.asr_cascade SETS/ami SETS/ljspeech ... --words whisper:FOLDER --output CASCADE
        [--limit N]
    multiway-asr evaluate SETS/ami SETS/ljspeech ... --hypotheses CASCADE

As WhisperX does it, of parts that work offline: Silero's voice activity detection finds speech; windows of 1.5 s every
0.75 s of it are embedded by GE2E (resemblyzer) and clustered by average linkage until no two clusters are closer than
`--threshold` in cosine; stretches of one speaker become turns; each turn's words are those of Whisper (a folder in
CTranslate2's format, through faster-whisper, greedy) or of pocketsphinx (`--words pocketsphinx`, English only), or
there are none (`--words none`, for sets without words).

The threshold was chosen on the AMI excerpts trn01 to trn04, where DER is the same (23 %) from 0.625 to 0.675; dev00 and
tst00 had no part in it. What is there already is left alone, so that a run can be stopped.

Needs, beside the workspace, `pip install silero-vad resemblyzer faster-whisper pocketsphinx`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import torch
from multiway_asr.references import SECONDS_FILE
from multiway_core.files import write_text
from multiway_speech.audio import SoundFile, read
from multiway_speech.result import Segment, Transcript
from scipy.cluster import hierarchy

RATE = 16_000
WINDOW, STEP = 1.5, 0.75
THRESHOLD = 0.65
LONGEST = 7200.0
LEVEL = 0.1
Span = tuple[float, float]
Words = Callable[[np.ndarray], str]


class Cascade:
    """Voice activity, voices, words."""

    def __init__(self, words: Words | None, threshold: float) -> None:
        from resemblyzer import VoiceEncoder
        from silero_vad import get_speech_timestamps, load_silero_vad

        self._vad = load_silero_vad(onnx=False)
        self._find = get_speech_timestamps
        self._encoder = VoiceEncoder("cpu", verbose=False)
        self._words = words
        self._threshold = threshold

    def __call__(self, path: Path) -> tuple[float, list[Segment]]:
        """Seconds of the recording, and who says what when."""
        wave = read(SoundFile(path), RATE, max_seconds=LONGEST)
        found = []
        for start, end, speaker in self.turns(wave):
            text = self._words(wave[int(start * RATE) : int(end * RATE)]) if self._words else ""
            if text or self._words is None:
                found.append(Segment(start, end, speaker, text))
        return len(wave) / RATE, found

    def turns(self, wave: np.ndarray) -> list[tuple[float, float, int]]:
        """(start, end, speaker), speakers by first appearance."""
        windows, vectors = self.voices(wave)
        return turns_of(windows, cluster(vectors, self._threshold)) if windows else []

    def voices(self, wave: np.ndarray) -> tuple[list[Span], np.ndarray]:
        """Windows of speech, and their embeddings (windows, 256)."""
        wave = _at(wave, LEVEL)  # meetings are recorded so softly that nothing would be found
        spans = self._find(torch.from_numpy(wave), self._vad, sampling_rate=RATE, return_seconds=False)
        windows = [window for span in spans for window in _windows(span["start"] / RATE, span["end"] / RATE)]
        vectors = [self._embed(wave[int(a * RATE) : int(b * RATE)]) for a, b in windows]
        return windows, np.stack(vectors) if vectors else np.zeros((0, 256))

    def _embed(self, wave: np.ndarray) -> np.ndarray:
        return self._encoder.embed_utterance(_at(wave, 0.03))


def _at(wave: np.ndarray, level: float) -> np.ndarray:
    """At this root mean square, where no peak passes full scale."""
    gain = level / (float(np.sqrt(np.square(wave).mean())) + 1e-6)
    return (wave * min(gain, 1 / (float(np.abs(wave).max(initial=0.0)) + 1e-6))).astype(np.float32)


def _windows(start: float, end: float) -> list[Span]:
    """Windows over one stretch of speech; the last one ends with it."""
    starts = np.arange(start, max(start, end - WINDOW) + 1e-6, STEP)
    return [(float(at), min(float(at) + WINDOW, end)) for at in starts[:-1]] + [(float(starts[-1]), end)]


def _cells(windows: list[Span]) -> list[Span]:
    """The part of each window that is nearest to its middle: neighbours in one stretch meet half-way."""
    cells = []
    for index, (start, end) in enumerate(windows):
        before = windows[index - 1] if index else None
        after = windows[index + 1] if index + 1 < len(windows) else None
        left = (start + before[1]) / 2 if before and before[1] > start else start
        right = (after[0] + end) / 2 if after and after[0] < end else end
        cells.append((left, right))
    return cells


def cluster(vectors: np.ndarray, threshold: float) -> list[int]:
    """Average linkage: the two clusters with the largest mean cosine become one while it is above ``threshold``."""
    if len(vectors) < 2:
        return [1] * len(vectors)
    tree = hierarchy.linkage(vectors, method="average", metric="cosine")
    return hierarchy.fcluster(tree, 1 - threshold, criterion="distance").tolist()


def turns_of(windows: list[Span], labels: list[int]) -> list[tuple[float, float, int]]:
    """Stretches of one speaker, who are numbered by first appearance."""
    numbers: dict[int, int] = {}
    turns: list[tuple[float, float, int]] = []
    for (start, end), label in zip(_cells(windows), labels, strict=True):
        speaker = numbers.setdefault(label, len(numbers))
        if turns and turns[-1][2] == speaker and start - turns[-1][1] < 1e-6:
            turns[-1] = (turns[-1][0], end, speaker)
        else:
            turns.append((start, end, speaker))
    return [(round(start, 3), round(end, 3), speaker) for start, end, speaker in turns]


def words_of(name: str, language: str) -> Words | None:
    """``whisper:FOLDER``, ``pocketsphinx`` or ``none``."""
    if name == "none":
        return None
    kind, _, folder = name.partition(":")
    if kind == "whisper":
        from faster_whisper import WhisperModel

        model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=1)

        def whisper(wave: np.ndarray) -> str:
            segments, _ = model.transcribe(
                wave, language=language, beam_size=1, temperature=0.0, condition_on_previous_text=False
            )
            return " ".join(segment.text.strip() for segment in segments).strip()

        return whisper
    if kind != "pocketsphinx":
        raise SystemExit(f"--words {name}: expected whisper:FOLDER, pocketsphinx or none")
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=RATE)

    def sphinx(wave: np.ndarray) -> str:
        decoder.start_utt()
        decoder.process_raw((np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return "" if found is None else found.hypstr

    return sphinx


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--words", required=True, help="whisper:FOLDER, pocketsphinx or none")
    parser.add_argument("--language", default="en")
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cascade = Cascade(words_of(options.words, options.language), options.threshold)
    for folder in options.sets:
        output = options.output / folder.resolve().name
        output.mkdir(parents=True, exist_ok=True)
        seconds_file = output / SECONDS_FILE
        seconds = json.loads(seconds_file.read_text()) if seconds_file.is_file() else {}
        files = sorted(file for file in folder.iterdir() if file.suffix in (".wav", ".flac", ".mp3", ".ogg"))
        for file in files[: options.limit]:
            target = output / f"{file.stem}.json"
            if target.is_file():
                continue
            started = time.process_time()
            duration, segments = cascade(file)
            seconds[file.stem] = round(time.process_time() - started, 3)
            transcript = Transcript(
                file.name, options.words.partition(":")[0], round(duration, 3), tuple(segments)
            )
            write_text(target, transcript.dumps())
            write_text(seconds_file, json.dumps(seconds, indent=2) + "\n")
            print(
                f"{file}: {len(segments)} turns, {duration:.1f} s in {seconds[file.stem]:.1f} s", flush=True
            )


if __name__ == "__main__":
    main()

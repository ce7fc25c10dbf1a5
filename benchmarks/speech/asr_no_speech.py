"""Sounds in which nobody speaks, and what recognizers write about them.

    python -m benchmarks.speech.asr_no_speech [--models bundled:whisper-tiny.en bundled:asr-tiny ...]

50 synthetic sounds of 6 s: near silence, noise of three colours, tunes of one to four voices, clicks. A tag such as
``[Music]`` is no word.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
from multiway_speech.audio import SoundArray
from multiway_speech.recognition import SpeechRecognizer

RATE, SECONDS = 16_000, 6
KINDS = {"silence": 10, "noise": 15, "music": 20, "clicks": 5}


def sounds(seed: int = 5) -> Iterator[tuple[str, np.ndarray]]:
    """(kind, float32 (T,)) of each."""
    generator = np.random.default_rng(seed)
    for kind, count in KINDS.items():
        for number in range(count):
            yield kind, MAKERS[kind](generator, number).astype(np.float32)


def silence(generator: np.random.Generator, number: int) -> np.ndarray:
    return generator.normal(size=SECONDS * RATE) * 10 ** -(3 + number / 3)


def noise(generator: np.random.Generator, number: int) -> np.ndarray:
    spectrum = np.fft.rfft(generator.normal(size=SECONDS * RATE))
    spectrum /= np.maximum(1, np.arange(len(spectrum))) ** (number % 3 / 2)
    sound = np.fft.irfft(spectrum, SECONDS * RATE)
    return sound / np.abs(sound).max() * generator.uniform(0.05, 0.8)


def music(generator: np.random.Generator, number: int) -> np.ndarray:
    time_T, sound = np.arange(SECONDS * RATE) / RATE, np.zeros(SECONDS * RATE)
    for _ in range(1 + number % 4):
        notes, beat = generator.integers(0, 24, 24), generator.uniform(0.2, 0.6)
        frequency_T = 110 * 2 ** (notes[(time_T / beat).astype(int) % 24] / 12)
        phase_T = 2 * np.pi * np.cumsum(frequency_T) / RATE
        timbre = generator.uniform(1, 2)
        tone_T = sum(np.sin(k * phase_T) / k**timbre for k in range(1, 6))
        sound += np.exp(-3 * ((time_T / beat) % 1)) * tone_T
    return sound / np.abs(sound).max() * 0.5


def clicks(generator: np.random.Generator, number: int) -> np.ndarray:
    return (generator.uniform(size=SECONDS * RATE) < 0.0005) * generator.uniform(0.3, 0.9)


MAKERS = {"silence": silence, "noise": noise, "music": music, "clicks": clicks}


def main() -> None:
    parser = harness.parser(__doc__, "speech")
    parser.add_argument("--models", nargs="+", default=["bundled:whisper-tiny.en", "bundled:asr-tiny"])
    options = parser.parse_args()
    rows = []
    for model in options.models:
        pipeline = SpeechRecognizer.from_pretrained(model)
        written, started = dict.fromkeys(KINDS, 0), time.process_time()
        for kind, sound in sounds():
            segments = pipeline(SoundArray(sound, RATE)).segments
            written[kind] += any(not segment.text.startswith("[") for segment in segments)
        rows.append({"model": model, **written, "cpu_seconds": round(time.process_time() - started, 1)})
    columns = ["model", *(f"{kind}, of {count}" for kind, count in KINDS.items()), "CPU s"]
    page = harness.table(columns, [list(row.values()) for row in rows])
    harness.save(
        options.output, "asr-no-speech", {**harness.provenance("asr-no-speech"), "rows": rows}, page + "\n"
    )


if __name__ == "__main__":
    main()

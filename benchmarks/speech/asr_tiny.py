"""Conversations of held-out texts and voices, and sentences with rare names, to measure ``bundled:asr-tiny`` on.

    python -m benchmarks.speech.asr_tiny --corpus corpus.npz --out CLIPS [--cmudict FILE --brown DIR]
    python -m benchmarks.speech.asr_sets --clips CLIPS --output SETS
    multiway-asr evaluate SETS/texts SETS/voices

Conversations are mixed (`multiway_speech.vibevoice_asr.mixtures`): 35 of texts that the training left out in voices
that it had (``texts``), 15 of voices that it never had (``voices``). With ``--cmudict``: 100 sentences with a name that
it never had, read by Piper, three times: told no names (``names-none``), three with the one that is said among them
(``names-told``), or three others (``names-false``).

Names need what `multiway_speech.speech_tokenizer.teachers` says.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks import harness

RATE = 16_000
TEXTS, VOICES, NAMES = 35, 15, 100
Row = dict[str, Any]


def make(options: argparse.Namespace) -> None:
    """Write FLAC files and ``clips.json``."""
    from multiway_speech.vibevoice_asr import corpus as corpora
    from multiway_speech.vibevoice_asr.mixtures import Pool, make_mixture

    corpus = corpora.load(options.corpus)
    options.out.mkdir(parents=True, exist_ok=True)
    clips: list[Row] = []
    for part, count, seed in (("texts", TEXTS, 1000), ("voices", VOICES, 2000)):
        pool = Pool(corpus, part)
        for number in range(count):
            rng = np.random.default_rng((seed, number))
            mixture = make_mixture(pool, rng, empty_chance=0.0, context_chance=0.0)
            name = f"{part}-{number:03}.flac"
            soundfile.write(options.out / name, mixture.waveform, RATE, subtype="PCM_16")
            clips.append({"file": name, "part": part, "segments": mixture.segments, "voices": mixture.voices})
    if options.cmudict:
        clips += make_names(options)
    (options.out / "clips.json").write_text(json.dumps(clips, indent=1))
    for part in dict.fromkeys(clip["part"] for clip in clips):
        chosen = [clip for clip in clips if clip["part"] == part]
        seconds = sum(soundfile.info(options.out / clip["file"]).duration for clip in chosen)
        print(f"{part}: {len(chosen)} clips, {seconds / 60:.1f} min")


def make_names(options: argparse.Namespace) -> list[Row]:
    """Sentences with a name that no training had, read by Piper, each with contexts that have it and have not."""
    from multiway_speech.audio import SoundArray, read
    from multiway_speech.speech_tokenizer.synthesize import brown_sentences
    from multiway_speech.speech_tokenizer.teachers import Piper
    from multiway_speech.vibevoice_asr import sentences

    names = [
        name
        for name in sentences.rare_names(options.cmudict, brown_sentences(options.brown))
        if sentences.is_held_out(name)
    ]
    rng, speaker = random.Random(3000), Piper()
    templates = [template for template in sentences.WITH_NAME if template.count("{}") == 1]
    clips: list[Row] = []
    for number in range(NAMES):
        name, *others = rng.sample(names, 6)
        text = rng.choice(templates).format(name)
        reading = speaker(text)
        waveform = read(SoundArray(reading.waveform, speaker.rate), RATE, max_seconds=60)
        file = f"names-{number:03}.flac"
        soundfile.write(options.out / file, waveform, RATE, subtype="PCM_16")
        said = [[reading.start, reading.ends[-1], 0, text]]
        told = rng.sample([name, *others[:2]], 3)
        for part, context in (("none", []), ("told", told), ("false", others[2:])):
            clips.append(
                {
                    "file": file,
                    "part": f"names-{part}",
                    "segments": said,
                    "voices": ["joe"],
                    "name": name,
                    "context": ", ".join(context),
                }
            )
    return clips


def main(arguments: Sequence[str] | None = None) -> None:
    parser = harness.parser(__doc__)
    parser.add_argument(
        "--corpus", type=Path, required=True, help="what multiway_speech.vibevoice_asr.corpus wrote"
    )
    parser.add_argument("--cmudict", type=Path, help="for names: cmudict.dict")
    parser.add_argument("--brown", type=Path, help="for names: the folder of Brown")
    parser.add_argument("--out", type=Path, required=True)
    make(parser.parse_args(arguments))


if __name__ == "__main__":
    main()

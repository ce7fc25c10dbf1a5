"""Words that no dictionary has: phone and word error rates of the bundled letter-to-sound model and its peers.

    python -m benchmarks.speech.pronunciation_quality --words 600
        --out benchmarks/results/speech/pronunciation-quality.json

The words are CMUdict's whose stems the bundled model has not seen (``train.is_held_out``), without apostrophes. Peers,
if they are there: ``g2p-en`` (its network alone, without its dictionary; which words of CMUdict it was trained on is
not published, so it may have seen these) and espeak-ng (through ``phonemizer-fork`` and ``espeakng-loader``; its rules
and its own list of exceptions; its letters of the International Phonetic Alphabet become CMUdict's phones by the table
of ``align``: it is compared without stress only, and differences of notation count against it).
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

from multiway_core.errors import InputError
from multiway_speech.pronunciation import EnglishPronouncer
from multiway_speech.pronunciation.align import phones_of
from multiway_speech.pronunciation.derived import derive
from multiway_speech.pronunciation.letter_to_sound import letter_to_sound
from multiway_speech.pronunciation.lexicon import look_up
from multiway_speech.pronunciation.recipe import held_out, measure
from multiway_speech.speech_tokenizer.teachers import Phonemizer

from benchmarks import harness

Pronounce = Callable[[str], tuple[str, ...]]


def with_parts(hidden: Callable[[str, str], bool]) -> Pronounce:
    """Parts in the dictionary first, as bundled; ``hidden(word, part)``: the dictionary must not give this part."""

    def pronounce(word: str) -> tuple[str, ...]:
        found = derive(word, lambda part: None if hidden(word, part) else look_up(part))
        return found or letter_to_sound(word)

    return pronounce


def g2p_en() -> Pronounce | None:
    """The network of ``g2p-en``."""
    # Its network needs none of what it reads whole texts with.
    for name in ("nltk", "nltk.corpus", "nltk.tokenize", "inflect"):
        sys.modules.setdefault(name, MagicMock())
    try:
        from g2p_en import g2p
    except ImportError as error:
        print(f"g2p-en is left out: {error}", flush=True)
        return None
    network = g2p.G2p()
    return lambda word: tuple(network.predict(word))


def espeak() -> Pronounce | None:
    """espeak-ng, American."""
    try:
        letters = Phonemizer("en-us", tie=False)
    except InputError:
        return None
    return lambda word: tuple(phones_of(list(letters(word))))


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--words", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    every = {word: phones for word, phones in held_out().items() if word.isalpha()}
    chosen = sorted(random.Random(args.seed).sample(sorted(every), min(args.words, len(every))))
    words = {word: every[word] for word in chosen}
    EnglishPronouncer().pronounce("warm")
    letter_to_sound("up")
    contestants = {
        "letters": letter_to_sound,
        "parts of other stems, then letters": with_parts(lambda _, part: part in every),
        "parts, then letters": with_parts(lambda word, part: part == word),
        "g2p-en": g2p_en(),
        "espeak-ng": espeak(),
    }
    results: dict[str, dict[str, float]] = {}
    for name, pronounce in contestants.items():
        if pronounce is not None:
            letter_to_sound.cache_clear()
            results[name] = measure(pronounce, words)
            print(name, results[name], flush=True)
    if args.out is not None:
        args.out.write_text(json.dumps({"seed": args.seed, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Training and evaluation of the letter-to-sound model on CMUdict: ``multiway-tts data letter-to-sound``.

Every twentieth word stem is held out with all its words (``cat``, ``cats``, ``cat's``): the model sees none of them.
"""

from __future__ import annotations

import random
import re
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rapidfuzz.distance import Levenshtein

from multiway_speech.pronunciation import graphones, ngram
from multiway_speech.pronunciation.letter_to_sound import save
from multiway_speech.pronunciation.lexicon import entries
from multiway_speech.pronunciation.phones import bare

ORDER = 6
THRESHOLD = 0.5
"""Nats per million graphones that an n-gram must save."""
HELD_OUT_ONE_IN = 20
_ALIGNED_FIRST = 20_000
_RAREST = 12
_ENDINGS = re.compile(
    "(?:'s|s'|'|s|es|ed|d|ings?|ers?|ly|ness|less|ful|able|ments?|ism|ists?|y|ies|ied|e|al|ally|ic|"
    "ization|ized?|ations?|ions?)$"
)


def dictionary() -> dict[str, list[tuple[str, ...]]]:
    """CMUdict's words of letters and apostrophes with their pronunciations."""
    words: dict[str, list[tuple[str, ...]]] = {}
    for word, phones in entries().items():
        match = re.fullmatch(r"('?[a-z][a-z']*)(?:\(\d\))?", word)
        if match:
            words.setdefault(match[1], []).append(tuple(phones.split()))
    return words


def is_held_out(word: str) -> bool:
    """Whether a word's stem is one of those kept for measuring."""
    stem = _ENDINGS.sub("", word)
    while stem != word and len(stem) >= 3:
        word, stem = stem, _ENDINGS.sub("", stem)
    return zlib.crc32(word.encode()) % HELD_OUT_ONE_IN == 0


def train(out: Path, order: int = ORDER, threshold: float = THRESHOLD) -> None:
    """Writes a model of the words that are not held out."""
    words = [
        (word, phones)
        for word, variants in dictionary().items()
        if not is_held_out(word)
        for phones in variants
        if len(phones) <= graphones.MAX_PHONES * len(word)
    ]
    sample = random.Random(0).sample(words, _ALIGNED_FIRST)
    table = graphones.estimate(sample)
    parted = [parts for parts in graphones.take_apart(words, table) if parts is not None]
    uses = Counter(graphone for parts in parted for graphone in parts)
    # A letter said in a way of its own is mostly an abbreviation or an error.
    parted = [parts for parts in parted if all(uses[graphone] >= _RAREST for graphone in parts)]
    known = sorted({graphone for parts in parted for graphone in parts})
    symbol = {graphone: place + 2 for place, graphone in enumerate(known)}
    sequences = [[symbol[graphone] for graphone in parts] for parts in parted]
    print(f"{len(sequences)} of {len(words)} words in {len(known)} graphones", flush=True)
    model = ngram.estimate(sequences, order)
    print(f"{len(model)} n-grams up to length {order}", flush=True)
    model = ngram.prune(model, threshold)
    save(out, known, ngram.tree(model))
    print(f"{len(model)} n-grams kept, {out.stat().st_size} bytes", flush=True)


def measure(
    pronounce: Callable[[str], tuple[str, ...]], words: dict[str, list[tuple[str, ...]]]
) -> dict[str, float]:
    """Phone and word error rates against the nearest of each word's pronunciations, with stress and without."""
    start = time.process_time()
    said = {word: pronounce(word) for word in words}
    result: dict[str, float] = {
        "words": len(words),
        "ms_per_word": 1e3 * (time.process_time() - start) / len(words),
    }
    forms: dict[str, Callable[[tuple[str, ...]], tuple[str, ...]]] = {
        "": tuple,
        "_without_stress": lambda phones: tuple(map(bare, phones)),
    }
    for name, form in forms.items():
        errors = [
            min((Levenshtein.distance(form(said[word]), form(variant)), len(variant)) for variant in variants)
            for word, variants in words.items()
        ]
        result["phone_error_rate" + name] = sum(e for e, _ in errors) / sum(n for _, n in errors)
        result["word_error_rate" + name] = sum(e > 0 for e, _ in errors) / len(errors)
    return {key: round(value, 4) for key, value in result.items()}


def held_out(count: int | None = None) -> dict[str, list[tuple[str, ...]]]:
    """The held-out words, or ``count`` of them drawn with seed 0."""
    words = {word: variants for word, variants in dictionary().items() if is_held_out(word)}
    names = sorted(words)
    if count is not None and count < len(names):
        names = sorted(random.Random(0).sample(names, count))
    return {word: words[word] for word in names}

"""Sentences for the synthesizers: rare names, digits, times and dialogue lines, among those of Brown.

Names are words of the CMU Pronouncing Dictionary that the Brown corpus does not have. One name in twenty is kept for
evaluation, by a hash of the name: such names are in ``held_out_names`` and in no sentence made here.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from pathlib import Path

from multiway_speech.speech_tokenizer.synthesize import brown_sentences

HELD_OUT_OF = 20
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = (
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
WITH_NAME = (
    "Please ask {} to call me back.",
    "I think {} is right about that.",
    "My name is {}.",
    "This is {} speaking.",
    "Thank you, {}.",
    "Has anyone seen {} today?",
    "We met {} at the station.",
    "{} will send the report on Monday.",
    "{} and {} are waiting outside.",
    "Doctor {} has moved to another office.",
    "The letter came from {}.",
    "You should talk to Mrs. {} first.",
    "Mr. {} did not agree with {}.",
    "They bought the house from {}.",
    "What did {} say about the meeting?",
    "The next question is for {}.",
    "I have worked with {} for years.",
    "Tell {} that the train is late.",
    "Captain {} gave the order.",
    "Nobody expected {} to win.",
    "The road to {} is closed.",
    "We drove from {} to {} in one night.",
    "It was {} who found the key.",
    "Good morning, {}, how are you?",
    "Can you spell {} for me?",
    "The firm was founded by {}.",
)
_LINES = (
    "Yes, of course.",
    "No, not today.",
    "I see.",
    "That sounds good to me.",
    "Could you say that again?",
    "Let me check.",
    "I am not sure about that.",
    "All right, let us begin.",
    "What do you mean?",
    "We can talk about it later.",
    "That is a very good point.",
    "Do you have any questions?",
    "Just a moment, please.",
    "I agree with you.",
    "How long will it take?",
    "Where should we meet?",
    "Thank you very much.",
    "See you next week.",
    "That is too expensive.",
    "Well, it depends.",
)
_WITH_NUMBER = (
    "{}.",
    "My number is {}.",
    "The code is {}.",
    "Please dial {}.",
    "Room {} is free.",
    "It is flight {}.",
)
_WITH_TIME = (
    "It is {}.",
    "The train leaves at {}.",
    "We meet at {}.",
    "Come back at {} tomorrow.",
    "The office closes at {}.",
    "I woke up at {} this morning.",
)


def is_held_out(word: str) -> bool:
    """Whether a name (or a text) is kept for evaluation."""
    digest = hashlib.blake2b(word.lower().encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_OF == 0


def rare_names(cmudict: Path, sentences: Sequence[str]) -> list[str]:
    """Words of 5 to 10 letters of the pronouncing dictionary that no sentence has, written as names."""
    common = {word for sentence in sentences for word in re.findall(r"[a-z]+", sentence.lower())}
    words = (line.partition(" ")[0] for line in cmudict.read_text("utf-8").splitlines())
    kept = {word for word in words if re.fullmatch(r"[a-z]{5,10}", word) and word not in common}
    return [word.capitalize() for word in sorted(kept) if not word.endswith("s")]


def spoken_number(value: int) -> str:
    """0 to 99 in words."""
    if value < 20:
        return (*DIGITS, *_TEENS)[value]
    return _TENS[value // 10 - 2] + (f"-{DIGITS[value % 10]}" if value % 10 else "")


def spoken_time(rng: random.Random) -> str:
    """A time of day in words."""
    hour, minute = rng.randrange(1, 13), rng.choice((0, 15, 30, 45, rng.randrange(1, 60)))
    if minute == 0:
        return f"{spoken_number(hour)} o'clock"
    return f"{spoken_number(hour)} {'oh ' if minute < 10 else ''}{spoken_number(minute)}"


def made_sentence(rng: random.Random, names: Sequence[str]) -> str:
    """One sentence: half with names, then digits, times, and short lines."""
    kind = rng.random()
    if kind < 0.5:
        template = rng.choice(WITH_NAME)
        return template.format(*(rng.choice(names) for _ in range(template.count("{}"))))
    if kind < 0.7:
        spoken = " ".join(rng.choice(DIGITS) for _ in range(rng.randint(1, 7)))
        sentence = rng.choice(_WITH_NUMBER).format(spoken)
    elif kind < 0.85:
        sentence = rng.choice(_WITH_TIME).format(spoken_time(rng))
    else:
        sentence = rng.choice(_LINES)
    return sentence[0].upper() + sentence[1:]


def write_sentences(
    brown: Path, cmudict: Path, out: Path, *, count: int = 4000, plain_share: float = 0.6, seed: int = 20
) -> tuple[int, int]:
    """Write a sentence a line; how many are of Brown, and how many were made."""
    rng = random.Random(seed)
    plain = brown_sentences(brown)
    names = [name for name in rare_names(cmudict, plain) if not is_held_out(name)]
    chosen = rng.sample(plain, min(len(plain), round(count * plain_share)))
    made = [made_sentence(rng, names) for _ in range(count - len(chosen))]
    lines = chosen + made
    rng.shuffle(lines)
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(chosen), len(made)

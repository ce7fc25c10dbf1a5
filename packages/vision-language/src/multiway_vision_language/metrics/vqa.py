"""VQA accuracy (Antol et al. 2015; Goyal et al. 2017), with the answer normalisation of the official evaluation."""

from __future__ import annotations

import re
from collections.abc import Sequence

_APOSTROPHES = """
ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's isn't
it'd it'll ma'am might've mightn't must've mustn't needn't not've o'clock oughtn't shan't should've shouldn't
somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's they'd
they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd
who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've couldn't've hadn't've
he'd've it'd've mightn't've 'ow's'at she'd've shouldn't've somebody'd've someone'd've something'd've there'd've
they'd've we'd've who'd've wouldn't've y'all'll y'all'd've you'd've
"""
# A word that lacks one of its apostrophes gets it back.
_CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word
    for word in _APOSTROPHES.split()
    for place, character in enumerate(word)
    if character == "'"
}
_NUMBERS = {
    "none": "0",
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}
_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
_GROUPED_DIGITS = re.compile(r"\d,\d")


def normalise(answer: str) -> str:
    """An answer in the form that is compared: no punctuation, articles or number words, lower case."""
    text = _one_line(answer)
    plain = text
    grouped = _GROUPED_DIGITS.search(text) is not None
    for mark in _PUNCTUATION:
        beside_a_space = f"{mark} " in text or f" {mark}" in text
        plain = plain.replace(mark, "" if beside_a_space or grouped else " ")
    words = [_NUMBERS.get(word, word) for word in _PERIOD.sub("", plain).lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(answer: str, references: Sequence[str]) -> float:
    """min(matches / 3, 1), averaged over leaving out each of the (ten) people's answers in turn.

    As in the official evaluation, answers are normalised only where people disagree. Raises ValueError without
    references.
    """
    if not references:
        raise ValueError("need at least one reference answer")
    truths = [_one_line(reference) for reference in references]
    given = _one_line(answer)
    if len(set(truths)) > 1:
        truths, given = [normalise(truth) for truth in truths], normalise(given)
    matches = truths.count(given)
    shares = [min((matches - (truth == given)) / 3, 1.0) for truth in truths]
    return sum(shares) / len(shares)


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()

"""RefinedWeb's rules for single sentences, with RedStone's definitions: sentences that do not belong to the text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace

from multiway_text.redstone.record import Record
from multiway_text.redstone.sentences import normalized, split_sentences

_COUNTER = re.compile(r"\d+\s+[a-zA-Z]+")
# "read more" and exactly three characters: in RedStone's pattern the dots are not escaped, so any three match.
_PATTERNS = re.compile(r"^sign[ -]in|^sign[ -]up|read more...$|items in cart")
RULES = ("upper_case", "numeric", "counter", "single_word", "pattern")


@dataclass(frozen=True)
class LineRules:
    """The stage's step: leaves out sentences that break a rule; drops a document that loses too many words.

    What is kept are the sentences, one a line: paragraphs are lost. ``meta["lines"]`` counts what each rule took,
    ``meta["lost_words"]`` their share of the words, at most ``max_lost``.
    """

    max_upper_case: float = 0.6
    max_lost: float = 0.05

    def __call__(self, record: Record) -> Record:
        sentences = split_sentences(record.text, record.meta.get("language", "en"))
        broken = [violation(sentence, self.max_upper_case) for sentence in sentences]
        words = [len(normalized(sentence).split()) for sentence in sentences]
        lost = sum(count for count, rule in zip(words, broken, strict=True) if rule) / (sum(words) or 1)
        counts = {rule: broken.count(rule) for rule in RULES if rule in broken}
        record = record.noted(lines=counts, lost_words=round(lost, 4))
        if lost > self.max_lost:
            return record.drop(f"lines: more than {self.max_lost:.0%} of the words")
        kept = [sentence for sentence, rule in zip(sentences, broken, strict=True) if not rule]
        if not kept:
            return record.drop("lines: nothing left")
        return replace(record, text="\n".join(kept))


def violation(sentence: str, max_upper_case: float = 0.6) -> str:
    """The first of ``RULES`` that a sentence breaks, else an empty string.

    Upper case is looked for in the sentence as it stands, everything else in its normal form.
    """
    letters = sum(map(str.isalpha, sentence))
    upper = sum(unicodedata.category(c) == "Lu" for c in sentence)
    if letters and upper / letters > max_upper_case:
        return "upper_case"
    normal = normalized(sentence)
    if normal and all(unicodedata.category(c)[0] in "NZC" for c in normal):
        return "numeric"
    if _COUNTER.fullmatch(normal):
        return "counter"
    if len(normal.split()) == 1:
        return "single_word"
    return "pattern" if _PATTERNS.search(normal) else ""

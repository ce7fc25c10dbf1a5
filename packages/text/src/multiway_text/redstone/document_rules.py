"""RedStone's rules for whole documents (Gopher's, with RedStone's definitions): what is measured, and what is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multiway_text.redstone.record import Record
from multiway_text.redstone.sentences import normalized, split_sentences

BULLETS = tuple("\u2022\u2023\u25b6\u25c0\u25e6\u25a0\u25a1\u25aa\u25ab\u2013")
STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))


@dataclass(frozen=True)
class Rule:
    """A document is kept when ``minimum <= value <= maximum``."""

    name: str
    minimum: float = 0.0
    maximum: float = float("inf")

    def keeps(self, value: float) -> bool:
        return self.minimum <= value <= self.maximum


RULES = (
    Rule("words", 50, 100_000),
    Rule("mean_word_length", 3, 10),
    Rule("symbols_to_words", maximum=0.1),
    Rule("words_with_letter", minimum=0.8),
    Rule("ellipsis_sentences", maximum=0.3),
    Rule("bullet_sentences", maximum=0.9),
    Rule("stop_words", minimum=2),
    *(Rule(f"top_{n}gram", maximum=most) for n, most in {2: 0.2, 3: 0.18, 4: 0.16}.items()),
    *(Rule(f"repeated_{n}grams", maximum=round(0.2 - 0.01 * n, 2)) for n in range(5, 11)),  # .15 to .10
    Rule("duplicate_sentences", maximum=0.3),
    Rule("duplicate_sentence_characters", maximum=0.2),
    Rule("duplicate_paragraphs", maximum=0.3),
    Rule("duplicate_paragraph_characters", maximum=0.2),
)


def measure(text: str, sentences: Sequence[str]) -> dict[str, float]:
    """The value of every rule for a text and its sentences; an empty text has zeros.

    Words are those of the normal form, divided at white space, so that punctuation stays with them. Shares of
    characters are of the words' (n-grams) or of the units' (sentences, paragraphs). Duplicates count with their
    first copy.
    """
    text_normal = normalized(text)
    words = text_normal.split()
    normal = [normalized(sentence) for sentence in sentences]
    count, characters = len(words) or 1, sum(map(len, words))
    values = {
        "words": float(len(words)),
        "mean_word_length": characters / count,
        "symbols_to_words": (text_normal.count("#") + text_normal.count("...")) / count,
        "words_with_letter": sum(any(map(str.isalpha, word)) for word in words) / count,
        "ellipsis_sentences": sum(s.endswith("...") for s in normal) / (len(normal) or 1),
        "bullet_sentences": sum(s.lstrip().startswith(BULLETS) for s in normal) / (len(normal) or 1),
        "stop_words": float(sum(word in STOP_WORDS for word in words)),
    }
    lengths = [len(word) for word in words]
    for n in (2, 3, 4):
        values[f"top_{n}gram"] = _top_ngram(words, n) / (characters or 1)
    is_repeating = True
    for n in range(5, 11):
        # Where no n-gram occurs twice, no longer one does.
        share = _repeated_ngrams(words, lengths, n) / (characters or 1) if is_repeating else 0.0
        is_repeating = share > 0
        values[f"repeated_{n}grams"] = share
    for name, units in (("sentence", sentences), ("paragraph", text.split("\n"))):
        values[f"duplicate_{name}s"], values[f"duplicate_{name}_characters"] = _duplicates(units)
    return values


def violations(values: Mapping[str, float], rules: Sequence[Rule] = RULES) -> list[str]:
    """The names of the rules that do not keep a document of these values, in the rules' order."""
    return [rule.name for rule in rules if not rule.keeps(values[rule.name])]


@dataclass(frozen=True)
class DocumentRules:
    """The stage's step: notes every value as ``rules`` and drops what violates one, named by the first."""

    rules: Sequence[Rule] = RULES

    def __call__(self, record: Record) -> Record:
        sentences = split_sentences(record.text, record.meta.get("language", "en"))
        values = measure(record.text, sentences)
        broken = violations(values, self.rules)
        record = record.noted(rules={name: round(value, 4) for name, value in values.items()})
        return record.drop(f"document: {broken[0]}", violations=broken) if broken else record


def _top_ngram(words: Sequence[str], n: int) -> int:
    """Characters of the most frequent n-gram (of several, the first) times how often it occurs; 0 if once."""
    counts = Counter(zip(*(words[i:] for i in range(n)), strict=False))
    if not counts:
        return 0
    gram, count = max(counts.items(), key=lambda item: item[1])
    return sum(map(len, gram)) * count if count > 1 else 0


def _repeated_ngrams(words: Sequence[str], lengths: Sequence[int], n: int) -> int:
    """Characters of the words that an n-gram covers which occurs twice or more."""
    grams = list(zip(*(words[i:] for i in range(n)), strict=False))
    counts = Counter(grams)
    if len(counts) == len(grams):
        return 0
    total, covered_to = 0, 0
    for i, gram in enumerate(grams):
        if counts[gram] > 1:
            total += sum(lengths[max(i, covered_to) : i + n])
            covered_to = i + n
    return total


def _duplicates(units: Sequence[str]) -> tuple[float, float]:
    """(share of units, share of their characters) that stand there twice or more, first copies included."""
    characters = sum(map(len, units))
    if not characters:
        return 0.0, 0.0
    twice = [(unit, count) for unit, count in Counter(units).items() if count > 1]
    return (
        sum(count for _, count in twice) / len(units),
        sum(len(unit) * count for unit, count in twice) / characters,
    )

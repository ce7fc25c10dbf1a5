"""A WordPiece vocabulary that grows until a domain's texts gain little by it (Yao et al. 2021, section 3.1).

The old pieces stay first, with their numbers. New ones are learnt by the procedure of tensor2tensor's
SubwordTextEncoder: words are cut with the pieces so far, every beginning of a rest from each cut on is counted, and
what is frequent enough is kept, long ones first, their counts taken off their beginnings. Pieces are in WordPiece's
form (``##`` inside words) from the start. What is equally frequent is ordered by its text, so that runs agree.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Literal

from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from tokenizers import Tokenizer

Keep = Literal["last", "previous"]
UNKNOWN = "[UNK]"
_LONGEST_WORD = 100  # characters; longer ones are unknown, as in BERT
_LONGEST_PIECE = 20
_ITERATIONS = 5
_CLOSE = 0.01  # of the size that was aimed at


@dataclass(frozen=True)
class Step:
    """A size that was tried: pieces in all, P(D), and its relative gain over the size before."""

    size: int
    log_probability: float
    gain: float


@dataclass(frozen=True)
class Growth:
    """New pieces in their order, and the sizes that were tried."""

    pieces: list[str]
    steps: list[Step]


def word_counts(texts: Iterable[str], tokenizer: TextTokenizer) -> tuple[Counter[str], int]:
    """(words by how often they come, number of texts), as BERT's rules cut words. InputError: there is no text."""
    _pieces(tokenizer)
    library = tokenizer.library
    counts: Counter[str] = Counter()
    number = 0
    for text in texts:
        normal = library.normalizer.normalize_str(text) if library.normalizer else text
        counts.update(word for word, _ in library.pre_tokenizer.pre_tokenize_str(normal))
        number += 1
    if not counts:
        raise InputError("there is no text to learn words from")
    return counts, number


def segment(word: str, pieces: Set[str] | Mapping[str, int], *, inside: bool = False) -> list[str]:
    """WordPiece: the longest piece first; ``[UNK]`` where none fits. ``inside``: this is the rest of a longer word."""
    found, start = [], 0
    while start < len(word):
        mark = "##" if start or inside else ""
        for end in range(len(word), start, -1):
            piece = mark + word[start:end]
            if piece in pieces:
                break
        else:
            return [UNKNOWN]
        found.append(piece)
        start = end
    return found if len(word) <= _LONGEST_WORD else [UNKNOWN]


def log_probability(counts: Mapping[str, int], documents: int, pieces: Set[str]) -> float:
    """P(D): the mean over documents of the sum of their tokens' log frequencies in all of them."""
    tokens: Counter[str] = Counter()
    for word, count in counts.items():
        for piece in segment(word, pieces):
            tokens[piece] += count
    total = sum(tokens.values())
    return math.fsum(count * math.log(count / total) for count in tokens.values()) / documents


def learn(counts: Mapping[str, int], raw: Set[str], size: int) -> list[str]:
    """New pieces beside the raw ones, about ``size`` with them, most frequent first."""
    low, high = 1, max(counts.values())
    best: list[str] = []
    while low <= high:
        middle = (low + high) // 2
        found = _learn(counts, raw, middle)
        if not best or abs(len(raw) + len(found) - size) < abs(len(raw) + len(best) - size):
            best = found
        if abs(len(raw) + len(found) - size) <= _CLOSE * size:
            break
        if len(raw) + len(found) > size:
            low = middle + 1
        else:
            high = middle - 1
    return best


def _learn(counts: Mapping[str, int], raw: Set[str], min_count: int) -> list[str]:
    pieces: Set[str] = raw
    new: list[str] = []
    for _ in range(_ITERATIONS):
        candidates: Counter[str] = Counter()
        for word, count in counts.items():
            if len(word) <= _LONGEST_WORD:
                for candidate in _candidates(word, pieces):
                    candidates[candidate] += count
        by_length: dict[int, list[str]] = {}
        for candidate, count in candidates.items():
            if count >= min_count:
                by_length.setdefault(len(candidate.removeprefix("##")), []).append(candidate)
        kept: list[tuple[int, str]] = []
        for length in sorted(by_length, reverse=True):
            for candidate in by_length[length]:
                count = candidates[candidate]
                if count < min_count:
                    continue
                if candidate not in raw:
                    kept.append((count, candidate))
                mark = len(candidate) - length
                for end in range(mark + 1, len(candidate)):
                    candidates[candidate[:end]] -= count
        new = [candidate for _, candidate in sorted(kept, key=lambda item: (-item[0], item[1]))]
        pieces = raw | set(new)
    return new


def _candidates(word: str, pieces: Set[str]) -> Iterator[str]:
    start = 0
    cut = segment(word, pieces)
    # A word that no piece begins is looked at as a whole, or it would never get one.
    lengths = [len(piece.removeprefix("##")) for piece in cut] if cut != [UNKNOWN] else [len(word)]
    for length in lengths:
        mark = "##" if start else ""
        for end in range(start + 1, min(len(word), start + _LONGEST_PIECE) + 1):
            yield mark + word[start:end]
        start += length


def grow(
    texts: Iterable[str],
    tokenizer: TextTokenizer,
    *,
    interval: int = 10_000,
    delta: float = 0.01,
    keep: Keep = "last",
) -> Growth:
    """Grow by about ``interval`` pieces at a time until P(D) gains no more than ``delta``, relatively.

    The first size is the old one rounded down to the interval, plus the interval. ``keep``: the vocabulary whose gain
    was too small (the released code), or the one before. Raises InputError: no texts, no WordPiece vocabulary, or
    numbers out of range.
    """
    if interval < 1 or not 0 < delta < 1 or keep not in ("last", "previous"):
        raise InputError(
            f"interval {interval} must be at least 1, delta {delta} between 0 and 1, keep {keep!r} last or previous"
        )
    counts, documents = word_counts(texts, tokenizer)
    raw = frozenset(_pieces(tokenizer))
    before = log_probability(counts, documents, raw)
    steps = [Step(len(raw), before, 0.0)]
    size = len(raw) // interval * interval
    if size + interval - len(raw) <= _CLOSE * (size + interval):
        raise InputError(
            f"an interval of {interval} adds {size + interval - len(raw)} pieces to {len(raw)}, less than the "
            f"{100 * _CLOSE:g} % by which a size may be missed; take a larger one"
        )
    last: list[str] = []
    while True:
        size += interval
        previous, last = last, learn(counts, raw, size)
        now = log_probability(counts, documents, raw | set(last))
        gain = (before - now) / before if before else 0.0
        steps.append(Step(len(raw) + len(last), now, gain))
        if gain <= delta:
            return Growth(last if keep == "last" else previous, steps)
        before = now


def extended(tokenizer: TextTokenizer, pieces: Iterable[str]) -> TextTokenizer:
    """The same tokenizer with more pieces, numbered from its size on. InputError: a piece is there already."""
    content = json.loads(tokenizer.library.to_str())
    vocab = content["model"]["vocab"]
    first = tokenizer.vocab_size
    new = list(pieces)
    there = [piece for piece in new if piece in vocab]
    if there or len(set(new)) < len(new):
        raise InputError(f"a new piece is in the vocabulary already: {(there or new)[0]!r}")
    vocab.update({piece: first + number for number, piece in enumerate(new)})
    return TextTokenizer(Tokenizer.from_str(json.dumps(content)))


@dataclass(frozen=True)
class Report:
    """What new pieces do to texts: words, tokens before and after, and words (of ``words``) that are cut otherwise."""

    words: int
    tokens_before: int
    tokens_after: int
    words_cut_otherwise: int

    @property
    def saved(self) -> float:
        """Share of the tokens that is gone."""
        return 1 - self.tokens_after / self.tokens_before


def compare(texts: Iterable[str], before: TextTokenizer, after: TextTokenizer) -> Report:
    """Texts under two vocabularies."""
    counts, _ = word_counts(texts, before)
    old, new = _pieces(before), _pieces(after)
    tokens_before = tokens_after = otherwise = 0
    for word, count in counts.items():
        cuts = segment(word, old), segment(word, new)
        tokens_before += count * len(cuts[0])
        tokens_after += count * len(cuts[1])
        otherwise += count * (cuts[0] != cuts[1])
    return Report(sum(counts.values()), tokens_before, tokens_after, otherwise)


def _pieces(tokenizer: TextTokenizer) -> dict[str, int]:
    if tokenizer.kind != "WordPiece":
        raise InputError(f"a vocabulary grows by WordPiece's rules; this one is {tokenizer.kind}")
    vocab: dict[str, int] = tokenizer.library.get_vocab(with_added_tokens=False)
    return vocab

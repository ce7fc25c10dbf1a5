"""Scores from edit distances of strings: NED (KOSMOS-2.5 paper, appendix A.3), CER and WER.

The error rate of a corpus is its summed edits over its summed reference length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import jiwer
from rapidfuzz.distance import Levenshtein

Pairs = Iterable[tuple[str, str]]
"""(prediction, reference) of each sample."""


def ned(prediction: str, reference: str) -> float:
    """Normalised edit *similarity* 1 - Lev(s, t) / max(|s|, |t|), 0 to 1, higher is better.

    Runs of spaces and tabs count as one and blanks at the ends of lines and of the text do not count; line
    breaks do. Two empty texts score 1.0.
    """
    return Levenshtein.normalized_similarity(_squeeze(prediction), _squeeze(reference))


def cer(prediction: str, reference: str) -> float:
    """Character error rate: edits / reference characters; may exceed 1. All white space counts as one space.

    With an empty reference: 0.0 for an empty prediction, else 1.0.
    """
    return _rate([character_edits(prediction, reference)])


def wer(prediction: str, reference: str) -> float:
    """Word error rate over whitespace-separated words; empty references as in :func:`cer`."""
    return _rate([word_edits(prediction, reference)])


def corpus_cer(pairs: Pairs) -> float:
    """Character error rate of a corpus: all edits over all reference characters."""
    return _rate(character_edits(*pair) for pair in pairs)


def character_edits(prediction: str, reference: str) -> tuple[int, int]:
    """Edits and reference characters, for summing over a corpus."""
    reference = " ".join(reference.split())
    return Levenshtein.distance(" ".join(prediction.split()), reference), len(reference)


def word_edits(prediction: str, reference: str) -> tuple[int, int]:
    """Edits (substitutions, deletions, insertions) and reference words, for summing over a corpus."""
    prediction, reference = " ".join(prediction.split()), " ".join(reference.split())
    counts = jiwer.process_words(reference, prediction)
    return (
        counts.substitutions + counts.deletions + counts.insertions,
        counts.hits + counts.substitutions + counts.deletions,
    )


def _squeeze(text: str) -> str:
    lines = (re.sub(r"[^\S\n]+", " ", line).strip() for line in text.replace("\r\n", "\n").split("\n"))
    return "\n".join(lines).strip()


def _rate(counts: Iterable[tuple[int, int]]) -> float:
    edits = length = 0
    for sample_edits, sample_length in counts:
        edits += sample_edits
        length += sample_length
    return edits / length if length else float(edits > 0)


def _mean(values: Iterable[float]) -> float:
    scores = list(values)
    return sum(scores) / len(scores) if scores else 0.0

"""Scores from edit distances of strings: NED (KOSMOS-2.5 paper, appendix A.3), CER, WER and ANLS.

Error rates of a corpus are summed edits over summed reference length; NED and ANLS are means over samples.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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


def corpus_ned(pairs: Pairs) -> float:
    """NED of a category: the mean over its samples; 0.0 without samples."""
    return _mean(ned(*pair) for pair in pairs)


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


def corpus_wer(pairs: Pairs) -> float:
    """Word error rate of a corpus: all edits over all reference words."""
    return _rate(word_edits(*pair) for pair in pairs)


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


def anls(prediction: str, answers: Sequence[str], *, threshold: float = 0.5) -> float:
    """Average normalised Levenshtein similarity of one question (Biten et al. 2019), 0 to 1.

    The best similarity over the accepted answers, without regard to case and outer blanks; below
    ``threshold`` it counts as a wrong answer, 0. Raises ValueError without answers.
    """
    if not answers:
        raise ValueError("anls needs at least one accepted answer")
    given = " ".join(prediction.lower().split())
    best = max(Levenshtein.normalized_similarity(given, " ".join(a.lower().split())) for a in answers)
    return best if best >= threshold else 0.0


def corpus_anls(samples: Iterable[tuple[str, Sequence[str]]]) -> float:
    """ANLS of (prediction, accepted answers) samples: the mean; 0.0 without samples."""
    return _mean(anls(*sample) for sample in samples)


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

"""Captions against several references: CIDEr-D, BLEU-4 and METEOR as the COCO caption evaluation computes them.

CIDEr-D (Vedantam et al. 2015) and BLEU (Papineni et al. 2002) are computed here, equal to the official code on
equal words. METEOR (Denkowski & Lavie 2014) needs its Java program with a table of paraphrases of 60 MB, so it runs
only where ``pycocoevalcap`` (extra ``meteor``) and Java are installed.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
from collections import Counter
from collections.abc import Sequence

import numpy as np
from multiway_core.errors import InputError

from multiway_vision_language.metrics.caption_tokens import caption_tokens

ORDERS = 4
_SIGMA = 6.0  # of CIDEr-D's penalty for a caption that is longer or shorter than a reference
_NGram = tuple[str, ...]
_TINY, _SMALL = (
    1e-15,
    1e-9,
)  # the official code's guard against division by zero; it decides very short corpora


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """CIDEr-D of each caption, float64 (n,), 0 to 10; the corpus' score is their mean.

    Rare n-grams weigh more, by how many pictures' references have them, so a score depends on the set, and a set of
    one picture scores 0. Papers print it times 100.

    Raises ValueError: no captions, lengths differ, or a caption without references.
    """
    _check(captions, references)
    words = [[_ngrams(caption_tokens(text)) for text in texts] for texts in references]
    frequency: Counter[_NGram] = Counter()
    for texts in words:
        frequency.update({ngram for counts in texts for ngram in counts})
    size = math.log(len(words))

    def vector(counts: Counter[_NGram]) -> tuple[list[dict[_NGram, float]], list[float], int]:
        weights: list[dict[_NGram, float]] = [{} for _ in range(ORDERS)]
        for ngram, count in counts.items():
            weights[len(ngram) - 1][ngram] = count * (size - math.log(max(1, frequency[ngram])))
        norms = [math.sqrt(sum(weight**2 for weight in order.values())) for order in weights]
        # The official code takes the number of word pairs for the length.
        return weights, norms, sum(count for ngram, count in counts.items() if len(ngram) == 2)

    scores = []
    for caption, texts in zip(captions, words, strict=True):
        weights, norms, length = vector(_ngrams(caption_tokens(caption)))
        total = 0.0
        for text in texts:
            reference_weights, reference_norms, reference_length = vector(text)
            similarity = 0.0
            for order in range(ORDERS):
                shared = sum(
                    min(weight, reference_weights[order].get(ngram, 0.0))
                    * reference_weights[order].get(ngram, 0.0)
                    for ngram, weight in weights[order].items()
                )
                if norms[order] and reference_norms[order]:
                    similarity += shared / (norms[order] * reference_norms[order])
            total += similarity / ORDERS * math.exp(-((length - reference_length) ** 2) / (2 * _SIGMA**2))
        scores.append(10 * total / len(texts))
    return np.array(scores)


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """BLEU-1 to BLEU-4 of the whole corpus, 0 to 1, with the length of the closest reference of each caption.

    Raises ValueError as :func:`cider_d` does.
    """
    _check(captions, references)
    matched, proposed = [0] * ORDERS, [0] * ORDERS
    length = reference_length = 0
    for caption, texts in zip(captions, references, strict=True):
        words = caption_tokens(caption)
        truths = [caption_tokens(text) for text in texts]
        length += len(words)
        reference_length += min((abs(len(truth) - len(words)), len(truth)) for truth in truths)[1]
        most: Counter[_NGram] = Counter()
        for truth in truths:
            most |= _ngrams(truth)
        for ngram, count in _ngrams(words).items():
            matched[len(ngram) - 1] += min(count, most[ngram])
            proposed[len(ngram) - 1] += count
    ratio = (length + _TINY) / (reference_length + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for order in range(ORDERS):
        product *= (matched[order] + _TINY) / (proposed[order] + _SMALL)
        scores.append(brevity * product ** (1 / (order + 1)))
    return scores


def has_meteor() -> bool:
    """Whether METEOR can run: ``pycocoevalcap`` and a Java runtime are installed."""
    return importlib.util.find_spec("pycocoevalcap") is not None and shutil.which("java") is not None


def meteor(captions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, np.ndarray]:
    """METEOR 1.5 of the corpus (an aggregate, not the mean) and of each caption, 0 to 1.

    Raises:
        InputError: ``pycocoevalcap`` or Java is missing, or its program fails.
        ValueError: as :func:`cider_d` does.
    """
    _check(captions, references)
    if not has_meteor():
        raise InputError(
            "METEOR needs a Java runtime and pip install 'multiway-vision-language[meteor]'; CIDEr and BLEU do not"
        )
    from pycocoevalcap.meteor.meteor import Meteor

    # "|||" separates sentences in its protocol, and it never answers an empty one.
    def sentence(text: str) -> str:
        return " ".join(caption_tokens(text.replace("|", " "))) or "."

    given = {number: [sentence(text)] for number, text in enumerate(captions)}
    truths = {number: [sentence(text) for text in texts] for number, texts in enumerate(references)}
    try:
        total, scores = Meteor().compute_score(truths, given)
    except (OSError, ValueError) as error:  # the program died: no answer, or not a number
        raise InputError(f"METEOR's Java program failed ({error}); it needs 2 GB of memory") from error
    return float(total), np.array(scores, dtype=np.float64)


def _ngrams(words: Sequence[str]) -> Counter[_NGram]:
    return Counter(
        tuple(words[start : start + order])
        for order in range(1, ORDERS + 1)
        for start in range(len(words) - order + 1)
    )


def _check(captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not captions or len(captions) != len(references) or not all(references):
        raise ValueError(
            f"need at least one caption and references for each, not {len(captions)} captions and references for "
            f"{sum(map(bool, references))}"
        )

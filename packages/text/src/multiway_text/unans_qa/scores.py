"""How near written twins are to human ones: GLEU, edit precision, and the share of copies.

GLEU is that of grammatical error correction (Napoles et al. 2015, 2016): BLEU that takes off n-grams of the source
which the reference has not, so that copying the question does not pay.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from multiway_text.unans_qa.pairs import words

Words = Sequence[str]


def gleu(sources: Sequence[str], written: Sequence[str], references: Sequence[str], order: int = 4) -> float:
    """Of a corpus with one reference a source, 0 to 100."""
    right, total, length, wanted = [0] * order, [0] * order, 0, 0
    for source, output, reference in zip(sources, written, references, strict=True):
        s, o, r = words(source), words(output), words(reference)
        length, wanted = length + len(o), wanted + len(r)
        for n in range(order):
            of_s, of_o, of_r = (_ngrams(text, n + 1) for text in (s, o, r))
            penalty = ((of_o & of_s) - (of_o & of_r)).total()
            right[n] += max(0, (of_o & of_r).total() - penalty)
            total[n] += of_o.total()
    if not length or not min(right):
        return 0.0
    mean = sum(math.log(hits / count) for hits, count in zip(right, total, strict=True)) / order
    return 100 * math.exp(mean + min(0.0, 1 - wanted / length))


def edit_precision(sources: Sequence[str], written: Sequence[str], references: Sequence[str]) -> float:
    """Of the words that were taken out or put in, the share that the human twin takes out or puts in, too."""
    shared = made = 0
    for source, output, reference in zip(sources, written, references, strict=True):
        s, o, r = (Counter(words(text)) for text in (source, output, reference))
        made += (s - o).total() + (o - s).total()
        shared += ((s - o) & (s - r)).total() + ((o - s) & (r - s)).total()
    return shared / made if made else 0.0


def copy_rate(sources: Sequence[str], written: Sequence[str]) -> float:
    """The share of outputs that say what the source says."""
    pairs = zip(sources, written, strict=True)
    return sum(words(a) == words(b) for a, b in pairs) / max(1, len(sources))


def _ngrams(text: Words, n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))

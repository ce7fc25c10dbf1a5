"""The sliding-window baseline of SQuAD (Rajpurkar et al. 2016, section 5.1; Richardson et al. 2013): no training.

Candidates are the phrases of the parse. Those are kept whose sentence, without them, shares most words with the
question; of these the one wins around which a window of the context has most of the words of question and candidate.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacy.tokens import Doc, Span

MAX_WORDS = 10
"""Of a candidate."""


def sliding_window(question: str, context: Doc) -> str:
    """The answer's text; empty where the context has no phrase."""
    asked = _words(question)
    spans = [
        one
        for one in candidates(context)
        if any(not token.is_stop and token.lower_ not in asked for token in one)
    ]
    if not spans:
        return ""
    words = [token.lower_ for token in context]
    counts = Counter(words)
    shared = []
    for span in spans:
        sentence = span[0].sent
        others = {words[i] for i in range(sentence.start, sentence.end) if not span.start <= i < span.end}
        shared.append(len(others & asked))
    best = max(shared)
    kept = [span for span, count in zip(spans, shared, strict=True) if count == best]
    return str(max(kept, key=lambda span: _window(words, counts, asked, span)).text)


def candidates(context: Doc) -> list[Span]:
    """Entities and the words below each word, without those that hold no letter or digit."""
    spans = {(one.start, one.end) for one in context.ents}
    spans |= {(token.left_edge.i, token.right_edge.i + 1) for token in context}
    found = [context[start:end] for start, end in sorted(spans) if end - start <= MAX_WORDS]
    return [one for one in found if any(token.is_alpha or token.like_num for token in one)]


def _window(words: list[str], counts: Counter[str], asked: set[str], span: Span) -> float:
    """The best window of as many words as question and candidate have: the rarer a shared word, the more it counts."""
    wanted = asked | {token.lower_ for token in span}
    values = [math.log(1 + 1 / counts[word]) if word in wanted else 0.0 for word in words]
    size = len(wanted)
    total = best = sum(values[:size])
    for place in range(size, len(values)):
        total += values[place] - values[place - size]
        best = max(best, total)
    return best


def _words(text: str) -> set[str]:
    return {word.strip(".,;:!?\"'()").lower() for word in text.split()}

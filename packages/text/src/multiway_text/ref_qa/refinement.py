"""Iterative refinement (section 3.3 of the paper): what a reader finds replaces, turn by turn, what was harvested.

A reader is asked the questions of a part. A span that it gives with enough probability is, beside the harvested answer,

* the same: the pair is put aside;
* a piece of it: the pair is kept as it is;
* another one: it becomes the answer, and a question is made for it from the same statement.

The reader goes on with the pairs that were kept and changed, and as many of those put aside.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from multiway_text.data.squad import Answer, normalized
from multiway_text.encoder.reader import Reading
from multiway_text.encoder.result import SpanAnswer
from multiway_text.ref_qa.clauses import shortest_clause
from multiway_text.ref_qa.pairs import Pair
from multiway_text.ref_qa.questions import TYPES, Writer

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span

CANDIDATES = 20
"""Spans of a reading, as in the paper."""


@dataclass(frozen=True)
class Refinement:
    """How a part is refined.

    Attributes:
        threshold: the least probability of a span; ``decay`` multiplies it from turn to turn.
        retype: a new answer is asked by its own entity's question word; False keeps that of the old, as the paper does.
    """

    threshold: float = 0.15
    decay: float = 0.9
    retype: bool = True

    def at(self, turn: int) -> float:
        """The threshold of a turn, counted from 0."""
        return self.threshold * self.decay**turn


@dataclass(frozen=True)
class Refined:
    """``changed``: kept and new pairs; ``same``: pairs that the reader answers as harvested; ``counts`` by outcome."""

    changed: list[Pair]
    same: list[Pair]
    counts: Counter[str]

    def training_set(self, random_: random.Random) -> list[Pair]:
        """The refined pairs and as many of the others, in random order."""
        some = random_.sample(self.same, min(len(self.same), len(self.changed)))
        found = [*self.changed, *some]
        random_.shuffle(found)
        return found


def refine(
    pairs: Sequence[Pair],
    readings: Iterable[Reading],
    nlp: Language,
    write: Writer,
    settings: Refinement,
    *,
    turn: int,
    random_: random.Random,
) -> Refined:
    """Compare each pair with what a reader says to it (`EncoderPipeline.read` with `CANDIDATES` spans)."""
    least = settings.at(turn)
    found = Refined([], [], Counter())
    docs = nlp.pipe(pair.statement for pair in pairs)
    for pair, reading, doc in zip(pairs, readings, docs, strict=True):
        said = [span for span in reading.spans if span.score >= least]
        found.counts["without a span above the threshold"] += not said
        for span in said:
            outcome = _outcome(pair, span)
            if outcome == "same":
                found.same.append(pair)
            elif outcome == "inside":
                found.changed.append(pair)
            else:
                new = _rewritten(pair, span, doc, write, settings.retype, random_)
                outcome = "new" if new is not None else "not in the statement"
                found.changed.extend([] if new is None else [new])
            found.counts[outcome] += 1
    return found


def _outcome(pair: Pair, span: SpanAnswer) -> str:
    answer = pair.question.answers[0]
    said, right = normalized(span.text), normalized(answer.text)
    if said == right:
        return "same"
    inside = f" {said} " in f" {right} " and answer.start <= span.start and span.end <= answer.end
    return "inside" if inside else "new"


def _rewritten(
    pair: Pair, span: SpanAnswer, doc: Doc, write: Writer, retype: bool, random_: random.Random
) -> Pair | None:
    """A question for another span; None where the statement does not have it."""
    start = doc.text.find(span.text) if span.text.strip() else -1
    answer: Span | None = (
        None if start < 0 else doc.char_span(start, start + len(span.text), alignment_mode="expand")
    )
    if answer is None:
        return None
    sentence = answer[0].sent
    if answer.end > sentence.end:
        return None
    label = _label(answer, pair.label) if retype else pair.label
    question = write(shortest_clause(sentence, answer), label, random_)
    if write.language == "en" and not question.lower().startswith(("wh", "how", "in wh", "at wh")):
        return None
    asked = replace(pair.question, question=question, answers=(Answer(span.text, span.start),))
    return Pair(asked, pair.statement, label)


def _label(answer: Span, old: str) -> str:
    """Of the entity that shares most words with the answer; without one the old label."""
    shared = {
        entity: len(set(range(entity.start, entity.end)) & set(range(answer.start, answer.end)))
        for entity in answer.doc.ents
        if entity.label_ in TYPES
    }
    best = max(shared, key=lambda entity: shared[entity], default=None)
    return old if best is None or not shared[best] else str(best.label_)

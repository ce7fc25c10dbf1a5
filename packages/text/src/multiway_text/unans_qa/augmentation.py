"""Twins beside the questions of SQuAD files: data for models that must say when a text does not answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from multiway_text.data.squad import Question
from multiway_text.unans_qa.pairs import Answerable, words

SCHEMA = "multiway.question-answering.twins/1"


class TwinWriter(Protocol):
    """`UnansQaPipeline` and `RulePipeline` are such."""

    def twins(
        self, questions: Sequence[Answerable], on_progress: Callable[[int, int], None] | None = None
    ) -> list[str]: ...


@dataclass(frozen=True)
class Augmented:
    """Questions, each followed by its twin, and how many there are of each.

    Attributes:
        answerable, unanswerable: questions of the input.
        added: twins.
        copies: dropped, because they say what a question of the context says already.
        unwritten: answerable questions that the writer found nothing for (no rule applies, or too long).
    """

    questions: list[Question]
    answerable: int
    unanswerable: int
    added: int
    copies: int
    unwritten: int

    def to_json(self) -> dict[str, object]:
        """The counts, as JSON takes them."""
        counts = asdict(replace(self, questions=[]))
        del counts["questions"]
        return {"schema": SCHEMA, **counts}


def with_twins(
    questions: Sequence[Question], writer: TwinWriter, on_progress: Callable[[int, int], None] | None = None
) -> Augmented:
    """Each answerable question gets an unanswerable twin; its first answer becomes the plausible answer of that."""
    answerable = [one for one in questions if one.answers]
    examples = [
        Answerable(one.question, one.context, one.answers[0].start, one.answers[0].end) for one in answerable
    ]
    written = iter(writer.twins(examples, on_progress))
    known = {(one.context, *words(one.question)) for one in questions}
    found: list[Question] = []
    copies = unwritten = 0
    for one in questions:
        found.append(one)
        if not one.answers:
            continue
        twin = next(written)
        told = one.context, *words(twin)
        if not words(twin):
            unwritten += 1
        elif told in known:
            copies += 1
        else:
            known.add(told)
            name = f"{one.id}-unanswerable"
            found.append(replace(one, id=name, question=twin, answers=(), plausible=one.answers[:1]))
    added = len(found) - len(questions)
    return Augmented(found, len(answerable), len(questions) - len(answerable), added, copies, unwritten)

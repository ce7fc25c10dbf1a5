"""Twins of English questions by rules, for want of a trained generator: three edits that annotators often make.

In this order, the first that applies:

1. swap: a number or a name of the question becomes another of the same kind that the context has;
2. antonym: a word of `ANTONYMS` becomes its opposite;
3. negation: the first auxiliary gets "n't"; without one, "never" stands behind the question word.

Nothing makes sure that the context does not answer a twin after all; that is rare for 2 and 3, and less so for 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from multiway_text.unans_qa.pairs import Answerable

_PAIRS = (
    "first last|before after|most least|more less|largest smallest|larger smaller|large small|highest lowest|"
    "higher lower|high low|oldest youngest|older younger|old new|longest shortest|longer shorter|long short|"
    "best worst|better worse|good bad|earliest latest|earlier later|early late|north south|northern southern|"
    "east west|eastern western|increase decrease|increased decreased|maximum minimum|begin end|began ended|"
    "start finish|started finished|won lost|win lose|inside outside|above below|with without|always never|"
    "import export|open close|opened closed|strongest weakest|strong weak|public private|male female|men women|"
    "fastest slowest|faster slower|similar different|positive negative|major minor|joined left|"
    "accepted rejected|allowed forbidden|supported opposed|built destroyed|created destroyed|bought sold"
)
ANTONYMS: dict[str, str] = {
    word: other
    for pair in _PAIRS.split("|")
    for word, other in (tuple(pair.split()), tuple(reversed(pair.split())))
}
_AUXILIARIES = "is|are|was|were|do|does|did|has|had|could|would|should"
_NEGATED = {
    **{word: f"{word}n't" for word in _AUXILIARIES.split("|")},
    "can": "can't",
    "will": "won't",
}
_QUESTION_WORD = re.compile(r"\b(who|what|which|when|where|why|how(?: many| much)?)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"[A-Z][\w'-]*(?: [A-Z][\w'-]*)*")


class RulePipeline:
    """The rules at work, with the methods of a trained generator."""

    def twins(
        self, questions: Sequence[Answerable], on_progress: Callable[[int, int], None] | None = None
    ) -> list[str]:
        """A twin of each question; "" where no rule applies."""
        return [_swapped(one) or _opposite(one.question) or _negated(one.question) for one in questions]


def _swapped(one: Answerable) -> str:
    answer = one.context[one.start : one.end]
    for kind in (_NUMBER, _NAME):
        own = [match for match in kind.finditer(one.question) if match.start()]
        others = [
            match[0]
            for match in kind.finditer(one.context)
            if match[0] not in one.question and match[0] not in answer and answer not in match[0]
        ]
        if kind is _NAME:  # a sentence's first word is a name only where it stands inside one, too
            others = [name for name in others if re.search(rf"[\w,] {re.escape(name)}\b", one.context)]
        for match in own:
            like = [other for other in others if _shape(other) == _shape(match[0])]
            if like:
                return one.question[: match.start()] + like[0] + one.question[match.end() :]
    return ""


def _shape(text: str) -> tuple[int, bool]:
    """Of a number its digits, of a name its words."""
    is_number = text[0].isdigit()
    return (len(text) if is_number else len(text.split()), is_number)


def _opposite(question: str) -> str:
    for match in re.finditer(r"\w+", question):
        if match[0] in ANTONYMS:
            return question[: match.start()] + ANTONYMS[match[0]] + question[match.end() :]
    return ""


def _negated(question: str) -> str:
    for match in re.finditer(r"\w+", question):
        if match[0] in _NEGATED and not question[match.end() :].startswith(("n't", " n't", " not")):
            return question[: match.start()] + _NEGATED[match[0]] + question[match.end() :]
    found = _QUESTION_WORD.search(question)
    return "" if found is None else f"{question[: found.end()]} never{question[found.end() :]}"

"""What makes a page one of math, of code, or of questions with answers: RedStone's cues in the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from multiway_text.redstone.record import Record

_COMMANDS = """
displaystyle alpha beta gamma delta zeta eta iota kappa mu nu xi rho tau phi chi psi omicron epsilon pi
lambda omega sigma theta vartheta times cdot dot div frac log exp poly eq neq leq geq approx infty int sum
lim begin subset supset top star sim simeq ne ll gg pm mp triangleleft triangleright ast circ bullet oplus
odot otimes ominus oslash bigcirc wr dagger bigtriangleup bigtriangledown setminus sqcup wedge dotplus
centerdot ltimes rtimes prod coprod iint iiint iiiint idotsint bigoplus big oint rightarrow to leftarrow
gets uparrow downarrow forall exists pmod cup cap hat acute check grave vec ddot tilde breve mathring land
lor lnot in smile frown mid sin cos tan equiv dfrac prec preccurlyeq sqrt
"""
_COMMAND = re.compile(r"\\[A-Z]{0,9}[a-z]{2,9}")
_LISTED = re.compile(rf"\\({'|'.join(_COMMANDS.split())})(?=[^a-zA-Z])")
_SYMBOL = re.compile(r"[-+*/%=<>^_()\[\]{}$]|\|\||&&|sqrt|sum|int")
_QUESTION = re.compile(
    r"[^a-zA-Z](?:q&a|q & a|q:|que:|question:|quiz:|exam:|examination:|probe:|request:|challenge:|test:|query:|survey:"
    r"|what|where|why|when|who|whoes|how)[^a-zA-Z]"
)
_ANSWER = re.compile(
    r"[^a-zA-Z](?:q&a|q & a|a:|ans:|answer:|solution:|reply:|response:|result:|outcome:|explanation:|conclusion:"
    r"|finding:|assertion:|statement:|clarification:)[^a-zA-Z]"
)
_OPTIONS = [
    [form.format(name) for name in names]
    for names in (("a", "b", "c", "d"), ("1", "2", "3", "4"), ("i", "ii", "iii", "iv"))
    for form in ("{}.", "{})", "\n{} ", ">{}<")
]
_FENCE = re.compile(r"^(`{3,})[^`\n]*\n.*?^\1$", re.MULTILINE | re.DOTALL)
_CHANGES = re.compile(r"blame\.php|diff\.php")
MIN_COMMANDS = 5


class Classifier(Protocol):
    """Text -> probability (0..1) that it is of the domain."""

    def __call__(self, text: str) -> float: ...


@dataclass(frozen=True)
class MathFilter:
    """Keeps texts with five listed LaTeX commands, or with one and the classifier's word for it."""

    classifier: Classifier | None = None
    threshold: float = 0.5

    def __call__(self, record: Record) -> Record:
        commands = math_commands(record.text)
        record = record.noted(math_commands=len(commands))
        if not _COMMAND.search(record.text) or not commands:
            return record.drop("math: no LaTeX command")
        if len(commands) == 1 and not _SYMBOL.search(record.text.lower()):
            return record.drop("math: one command and no symbol")
        if len(commands) >= MIN_COMMANDS:
            return record
        return _judged(record, "math", f"fewer than {MIN_COMMANDS} commands", self.classifier, self.threshold)


def math_commands(text: str) -> set[str]:
    """The listed LaTeX commands in a text, upper case as lower."""
    return set(_LISTED.findall(text.lower()))


@dataclass(frozen=True)
class CodeFilter:
    """Keeps texts with a fenced block of code; no pages of revisions."""

    def __call__(self, record: Record) -> Record:
        if _CHANGES.search(record.uri):
            return record.drop("code: a page of changes")
        blocks = sum(1 for _ in _FENCE.finditer(record.text))
        return record.noted(code_blocks=blocks) if blocks else record.drop("code: no block of code")


@dataclass(frozen=True)
class QuestionFilter:
    """Keeps open questions with answers and multiple-choice questions; ``meta["question"]`` says which."""

    classifier: Classifier | None = None
    threshold: float = 0.5

    def __call__(self, record: Record) -> Record:
        kind = (
            "choice" if is_multiple_choice(record.text) else "open" if has_open_questions(record.text) else ""
        )
        if not kind:
            return record.drop("question: no cues of questions and answers")
        if self.classifier is not None:
            record = _judged(record, "question", "the classifier's no", self.classifier, self.threshold)
        return record if record.drop_reason else record.noted(question=kind)


@dataclass(frozen=True)
class ClassifierFilter:
    """Keeps texts that the classifier says yes to."""

    classifier: Classifier
    threshold: float = 0.5

    def __call__(self, record: Record) -> Record:
        return _judged(record, "classifier", f"less than {self.threshold:g}", self.classifier, self.threshold)


def has_open_questions(text: str) -> bool:
    """Two cues of questions (``question:``, ``why`` ...) and two of answers (``a:``, ``solution:`` ...)."""
    lower = text.lower()
    return len(_QUESTION.findall(lower)) >= 2 and len(_ANSWER.findall(lower)) >= 2


def is_multiple_choice(text: str) -> bool:
    """The words "choice question" and the marks of four options in one of twelve styles."""
    lower = text.lower()
    return "choice question" in lower and any(all(mark in lower for mark in marks) for marks in _OPTIONS)


def _judged(
    record: Record, domain: str, reason: str, classifier: Classifier | None, threshold: float
) -> Record:
    if classifier is None:
        return record.drop(f"{domain}: {reason}")
    score = classifier(record.text)
    record = record.noted(classifier=round(score, 4))
    return record if score >= threshold else record.drop(f"{domain}: {reason}")

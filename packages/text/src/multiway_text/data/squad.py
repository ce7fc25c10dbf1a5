"""Questions on contexts in SQuAD's JSON (SQuAD 1.1 and 2.0, MLQA, XQuAD, TyDiQA-GoldP), and exact match and F1.

Whatever is wrong is a DataError that names the file and the place inside it.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from multiway_core.data_files import get, get_items
from multiway_core.errors import DataError, InputError

from multiway_text.documents import find_files
from multiway_text.encoder.rows import read_bytes


@dataclass(frozen=True)
class Answer:
    """Text of the context and where it begins, in characters."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """The character behind the last."""
        return self.start + len(self.text)


@dataclass(frozen=True)
class Question:
    """A question on a context; without answers where the context has none (SQuAD 2.0)."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...]
    where: str

    @property
    def text(self) -> str:
        """What is held out together: the context."""
        return self.context


def read_squad(paths: Sequence[str]) -> list[Question]:
    """The questions of JSON files and folders. Raises InputError (none), DataError (an answer that does not occur)."""
    found: list[Question] = []
    for path in paths:
        for file in [Path(path)] if Path(path).is_file() else find_files([path]):
            found += _of_file(file)
    if not found:
        raise InputError(f"{', '.join(paths)}: no question")
    return found


def _of_file(path: Path) -> list[Question]:
    try:
        content = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: expected a file in SQuAD's form") from error
    found: list[Question] = []
    for article, where in get_items(content, "data", str(path)):
        for paragraph, place in get_items(article, "paragraphs", where):
            context = get(paragraph, "context", str, place)
            for item, at in get_items(paragraph, "qas", place):
                question = get(item, "question", str, at)
                possible = "answers" in item and item.get("is_impossible") is not True
                answers = _answers(item, context, at) if possible else ()
                found.append(Question(str(item.get("id", len(found))), question, context, answers, at))
    return found


def _answers(item: object, context: str, where: str) -> tuple[Answer, ...]:
    found = []
    for answer, at in get_items(item, "answers", where):
        text, start = get(answer, "text", str, at), get(answer, "answer_start", int, at)
        if not text.strip():
            raise DataError(f"{at}.text: empty; a question without an answer has an empty list of answers")
        if context[start : start + len(text)] != text or start < 0:
            # Some files count another text's characters: the nearest place where the answer stands is taken.
            places = [match.start() for match in re.finditer(re.escape(text), context)]
            if not places:
                raise DataError(f"{at}: the answer {text[:40]!r} does not occur in the context")
            start = min(places, key=lambda place: abs(place - start))
        found.append(Answer(text, start))
    return tuple(found)


def normalized(text: str) -> str:
    """Lower case, without punctuation, English articles and doubled spaces, as SQuAD's script compares answers."""
    text = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(predicted: str, right: Sequence[str]) -> float:
    """1 where the prediction equals an answer, normalized; ``right`` is empty for a question without an answer."""
    return max(float(normalized(predicted) == normalized(answer)) for answer in right or [""])


def token_f1(predicted: str, right: Sequence[str]) -> float:
    """The best F1 of the words in common with an answer."""
    return max(_f1(normalized(predicted).split(), normalized(answer).split()) for answer in right or [""])


def _f1(predicted: list[str], right: list[str]) -> float:
    if not predicted or not right:
        return float(predicted == right)
    common = sum((Counter(predicted) & Counter(right)).values())
    return 2 * common / (len(predicted) + len(right))

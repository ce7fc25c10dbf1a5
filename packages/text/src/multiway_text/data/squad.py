"""Questions on contexts in SQuAD's JSON (SQuAD 1.1 and 2.0, MLQA, XQuAD, TyDiQA-GoldP): read, written, and scored.

Whatever is wrong is a DataError that names the file and the place inside it. Scores are those of SQuAD 2.0's script.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from multiway_core.data_files import get, get_items
from multiway_core.errors import DataError, InputError
from multiway_core.files import write_text

from multiway_text.documents import find_files
from multiway_text.encoder.rows import read_bytes, read_rows


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
    """A question on a context; without answers where the context has none (SQuAD 2.0).

    Attributes:
        where: the file and the place inside it.
        plausible: of a question without answers, what could be taken for one.
        title: of the article.
    """

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...]
    where: str
    plausible: tuple[Answer, ...] = ()
    title: str = ""

    @property
    def texts(self) -> list[str]:
        """The answers' texts, as the scores below take them."""
        return [answer.text for answer in self.answers]

    @property
    def text(self) -> str:
        """What is held out together: the context."""
        return self.context


def read_squad(paths: Sequence[str]) -> list[Question]:
    """The questions of JSON files, of folders of them, and of rows (JSONL, Parquet).

    Raises InputError (none), DataError (an answer that does not occur)."""
    found: list[Question] = []
    for path in paths:
        inside = sorted([*Path(path).glob("*.json"), *Path(path).glob("*.json.gz")])
        for file in [Path(path)] if Path(path).is_file() else inside or find_files([path]):
            rows = file.name.removesuffix(".gz").endswith((".jsonl", ".ndjson", ".parquet"))
            found += _of_rows(file) if rows else _of_file(file)
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
        title = _text(article, "title", where) if isinstance(article, dict) and "title" in article else ""
        for paragraph, place in get_items(article, "paragraphs", where):
            context = _text(paragraph, "context", place)
            for item, at in get_items(paragraph, "qas", place):
                found.append(_question(item, context, title, at, len(found)))
    return found


def _of_rows(path: Path) -> list[Question]:
    """As the hub's data sets have them: a row a question, ``answers`` an object with lists of texts and starts."""
    return [question_of(row.fields, row.where, number) for number, row in enumerate(read_rows([str(path)]))]


def question_of(row: Mapping[str, Any], where: str, number: int = 0) -> Question:
    """The question of a row; ``number`` is its id where the row has none. Raises DataError."""
    fields = dict(row)
    if "answers" in fields:
        texts, starts = (
            get(fields["answers"], key, list, f"{where}: answers") for key in ("text", "answer_start")
        )
        if len(texts) != len(starts):
            raise DataError(f"{where}: answers: {len(texts)} texts, but {len(starts)} starts")
        pairs = zip(texts, starts, strict=True)
        fields["answers"] = [{"text": text, "answer_start": start} for text, start in pairs]
    title = _text(fields, "title", where) if fields.get("title") is not None else ""
    return _question(fields, _text(fields, "context", where), title, where, number)


def _question(item: Any, context: str, title: str, where: str, number: int) -> Question:
    question = _text(item, "question", where)
    if not question.strip():
        raise DataError(f"{where}.question: empty")
    possible = "answers" in item and item.get("is_impossible") is not True
    answers = _answers(item, "answers", context, where) if possible else ()
    is_plausible = not answers and item.get("plausible_answers")
    plausible = _answers(item, "plausible_answers", context, where) if is_plausible else ()
    name = _encodable(str(item.get("id", number)))
    return Question(name, question, context, answers, where, plausible, title)


def _answers(item: object, key: str, context: str, where: str) -> tuple[Answer, ...]:
    found = []
    for answer, at in get_items(item, key, where):
        text, start = _text(answer, "text", at), get(answer, "answer_start", int, at)
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


def _text(data: Any, key: str, where: str) -> str:
    return _encodable(get(data, key, str, where))


def _encodable(text: str) -> str:
    """JSON may hold halves of characters, which no tokenizer and no file takes; each becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def write_squad(path: Path, questions: Iterable[Question]) -> None:
    """Write SQuAD 2.0's JSON; questions of one context that follow each other share a paragraph. Raises OutputError."""
    articles: list[dict[str, Any]] = []
    for title, of_title in groupby(questions, lambda one: one.title):
        paragraphs = [
            {"context": context, "qas": [_item(one) for one in of_context]}
            for context, of_context in groupby(of_title, lambda one: one.context)
        ]
        articles.append({"title": title, "paragraphs": paragraphs})
    write_text(Path(path), json.dumps({"version": "v2.0", "data": articles}, ensure_ascii=False) + "\n")


def _item(one: Question) -> dict[str, Any]:
    def listed(answers: Sequence[Answer]) -> list[dict[str, Any]]:
        return [{"text": answer.text, "answer_start": answer.start} for answer in answers]

    item: dict[str, Any] = {"id": one.id, "question": one.question, "answers": listed(one.answers)}
    item["is_impossible"] = not one.answers
    return item | ({"plausible_answers": listed(one.plausible)} if one.plausible else {})


def normalized(text: str) -> str:
    """Lower case, without punctuation, English articles and doubled spaces, as SQuAD's script compares answers."""
    text = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(predicted: str, right: Sequence[str]) -> float:
    """1 where the prediction equals an answer, normalized; ``right`` is empty for a question without an answer."""
    return max(float(normalized(predicted) == answer) for answer in _gold(right))


def token_f1(predicted: str, right: Sequence[str]) -> float:
    """The best F1 of the words in common with an answer."""
    return max(_f1(normalized(predicted).split(), answer.split()) for answer in _gold(right))


def best_threshold(
    scores: Sequence[float], no_answer: Sequence[float], has_answer: Sequence[bool]
) -> tuple[float, float]:
    """(mean score, threshold) where saying "no answer" above the threshold scores best on average.

    Args:
        scores: of each question's answer, right or not (exact match or F1; 0 where there is none).
        no_answer: of each question, higher the likelier it has no answer; any scale.

    As the script's ``find_best_thresh``, but questions of an equal ``no_answer`` cannot be told apart.
    """
    order = sorted(range(len(scores)), key=lambda row: no_answer[row])
    total = float(sum(not has for has in has_answer))  # nothing is answered
    best, threshold = total, float("-inf")
    for value, rows in groupby(order, lambda row: no_answer[row]):
        total += sum(scores[row] if has_answer[row] else -1.0 for row in rows)
        if total > best:
            best, threshold = total, value
    return best / max(1, len(scores)), threshold


def _gold(right: Sequence[str]) -> list[str]:
    """Normalized; an answer of which nothing is left does not count beside others."""
    return [answer for answer in map(normalized, right) if answer] or [""]


def _f1(predicted: list[str], right: list[str]) -> float:
    if not predicted or not right:
        return float(predicted == right)
    common = sum((Counter(predicted) & Counter(right)).values())
    return 2 * common / (len(predicted) + len(right))

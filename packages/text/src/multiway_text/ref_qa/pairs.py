"""Harvested pairs in JSONL: SQuAD's columns, and the statement and the label that refinement needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from multiway_core.errors import DataError
from multiway_core.files import atomic_write

from multiway_text.data.squad import Question, read_squad
from multiway_text.encoder.rows import read_rows


@dataclass(frozen=True)
class Pair:
    """A question with its answer, its sentence, and the answer's label (``DATE``, ``PHRASE``)."""

    question: Question
    statement: str
    label: str


def write_pairs(path: Path, pairs: Iterable[Pair]) -> int:
    """Write a row a pair as they come, and count them; `read_squad` takes the file, too. Raises OutputError."""
    count = 0
    with atomic_write(path) as file:
        for pair in pairs:
            one = pair.question
            row = {
                "id": one.id,
                "title": one.title,
                "context": one.context,
                "question": one.question,
                "answers": {"text": one.texts, "answer_start": [answer.start for answer in one.answers]},
                "statement": pair.statement,
                "label": pair.label,
            }
            file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            count += 1
    return count


def read_pairs(paths: Sequence[str]) -> list[Pair]:
    """What `write_pairs` wrote. Raises InputError, DataError: a row without statement, label or answer."""
    rows = [row for path in paths for row in read_rows([path])]
    found = []
    for row, one in zip(rows, read_squad(paths), strict=True):
        if not one.answers:
            raise DataError(f"{row.where}: a pair needs an answer")
        found.append(Pair(one, row.text("statement"), row.label("label")))
    return found

"""Pairs of an answerable and an unanswerable question: from SQuAD 2 files, from the released lists, to batches.

SQuAD 2 gives an unanswerable question a plausible answer. Where that is the answer of another question of the context,
the two are a pair; of several candidates the one with the least words edited, and each question serves once.

Shape suffixes: B rows, T target pieces.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from multiway_core.data_files import read_text
from multiway_core.errors import DataError, InputError
from multiway_core.tokenization import TextTokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from multiway_text.data.squad import Question, read_squad
from multiway_text.unans_qa.config import UnansQaConfig
from multiway_text.unans_qa.model import Source

_CONTEXT, _ANSWER, _QUESTION = range(3)
_RELEASED = "context.txt"
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Answerable:
    """A question that characters [start, end) of its context answer."""

    question: str
    context: str
    start: int
    end: int


@dataclass(frozen=True)
class Pair:
    """A question and its unanswerable twin."""

    answerable: Answerable
    twin: str


class Batch(NamedTuple):
    """Sources, and targets from ``[CLS]`` to ``[SEP]``, int64 (B, T)."""

    sources: tuple[Source, ...]
    target_BT: Tensor


def words(text: str) -> list[str]:
    """Words and marks in lower case: what questions are compared by."""
    return _WORD.findall(text.lower())


def read_pairs(paths: Sequence[str | Path]) -> list[Pair]:
    """Pairs of SQuAD 2 files and folders, and of released lists, which are named by their ``...context.txt``.

    Raises InputError for no pair at all, DataError that names file and place.
    """
    released = [Path(path) for path in paths if str(path).endswith(_RELEASED)]
    squad = [str(path) for path in paths if not str(path).endswith(_RELEASED)]
    found = [pair for path in released for pair in read_released(path)]
    found += aligned(read_squad(squad)) if squad else []
    if not found:
        raise InputError(
            f"{', '.join(map(str, paths)) or 'no file'}: no pair: expected SQuAD 2 files in which an unanswerable "
            "question has the answer of an answerable one as its plausible answer"
        )
    return found


def aligned(questions: Sequence[Question]) -> list[Pair]:
    """The pairs of SQuAD 2 questions, in the order of the answerable ones; a question's first answer counts.

    Raises InputError: rapidfuzz is missing.
    """
    try:
        from rapidfuzz.distance import Levenshtein
    except ModuleNotFoundError as error:
        raise InputError(
            "aligning questions needs rapidfuzz: pip install 'multiway-text[training]'"
        ) from error
    by_span: dict[tuple[str, int, int], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for number, question in enumerate(questions):
        for side, answers in enumerate((question.answers[:1], question.plausible[:1])):
            for answer in answers:
                by_span[question.context, answer.start, answer.end][side].append(number)
    pairs: dict[int, Pair] = {}
    for (context, start, end), (answerable, unanswerable) in by_span.items():
        told = {number: words(questions[number].question) for number in answerable + unanswerable}
        candidates = sorted(
            (Levenshtein.distance(told[a], told[u]), a, u) for a in answerable for u in unanswerable
        )
        used: set[int] = set()
        for _, a, u in candidates:
            if a not in used and u not in used:
                used |= {a, u}
                pairs[a] = Pair(Answerable(questions[a].question, context, start, end), questions[u].question)
    return [pairs[number] for number in sorted(pairs)]


def read_released(path: Path) -> list[Pair]:
    """The pairs of ``...context.txt`` and the two lists of questions beside it (`haichao592/UnAnsQ`, folder QG).

    Fields stand between TABs: the context and its answer's sentence; an id, the question and its answer; the numbers
    count words between spaces. Raises DataError.
    """
    stem = str(path).removesuffix(_RELEASED)
    files = [path, Path(f"{stem}answerable-questions.txt"), Path(f"{stem}unanswerable-questions.txt")]
    lines = [read_text(file).strip("\n").split("\n") for file in files]
    if len({len(of_file) for of_file in lines}) > 1:
        counts = ", ".join(f"{file}: {len(rows)}" for file, rows in zip(files, lines, strict=True))
        raise DataError(f"lists of unequal length: {counts}")
    return [_released_pair(files, number, *rows) for number, rows in enumerate(zip(*lines, strict=True), 1)]


def _released_pair(files: Sequence[Path], number: int, context: str, question: str, twin: str) -> Pair:
    rows = [line.split("\t") for line in (context, question, twin)]
    for file, row, count in zip(files, rows, (3, 4, 4), strict=True):
        if len(row) != count or not all(field.strip().isdecimal() for field in row[-2:]):
            raise DataError(
                f"{file}:{number}: expected {count} fields between TABs, the last two whole numbers"
            )
    if rows[1][2:] != rows[2][2:]:
        raise DataError(f"{files[2]}:{number}: not the answer of the answerable question")
    pieces, first, last = rows[0][0].split(" "), int(rows[1][2]), int(rows[1][3])
    if not first <= last < len(pieces):
        raise DataError(f"{files[1]}:{number}: the answer {first} to {last} is not in {len(pieces)} words")
    start = len(" ".join([*pieces[:first], ""]))
    end = len(" ".join(pieces[: last + 1]))
    return Pair(Answerable(rows[1][1], rows[0][0], start, end), rows[2][1])


class Rows(NamedTuple):
    """The pieces of an example's sources with their tags, and those of its target."""

    sources: list[tuple[list[int], list[int]]]
    target: list[int]


def encode(
    examples: Sequence[Answerable], tokenizer: TextTokenizer, config: UnansQaConfig, twins: Sequence[str] = ()
) -> list[Rows]:
    """Examples as pieces. Of a context the ``max_context`` pieces around the answer are read.

    Raises InputError for a question that is empty or too long, or an answer without text.
    """
    targets = tokenizer.encode_batch(list(twins)) if twins else [[]] * len(examples)
    return [
        Rows(_sources(example, tokenizer, config), target)
        for example, target in zip(examples, targets, strict=True)
    ]


def _sources(
    example: Answerable, tokenizer: TextTokenizer, config: UnansQaConfig
) -> list[tuple[list[int], list[int]]]:
    question = tokenizer.encode(example.question)
    if not 0 < len(question) <= config.max_question:
        raise InputError(
            f"question {example.question[:60]!r}: {len(question)} pieces; expected 1 to {config.max_question}"
        )
    found = tokenizer.encode_with_offsets(example.context, add_special_tokens=False)
    tags = [_ANSWER if a < example.end and b > example.start else _CONTEXT for a, b in found.offsets]
    if _ANSWER not in tags:
        raise InputError(f"question {example.question[:60]!r}: its answer has no text in the context")
    middle = tags.index(_ANSWER) + tags.count(_ANSWER) // 2
    begin = max(0, min(middle - config.max_context // 2, len(tags) - config.max_context))
    window = slice(begin, begin + config.max_context)
    context, of_context = found.ids[window], tags[window]
    of_question = [_QUESTION] * len(question)
    if config.arch == "pair2seq":
        return [(context, of_context), (question, of_question)]
    return [([*context, config.end_id, *question], [*of_context, _QUESTION, *of_question])]


def collate(rows: Sequence[Rows], config: UnansQaConfig) -> Batch:
    """Rows side by side, padded on the right."""
    sources = []
    for columns in zip(*(row.sources for row in rows), strict=True):
        ids, tags = ([torch.tensor(column[part]) for column in columns] for part in range(2))
        sources.append(
            Source(pad_sequence(ids, batch_first=True, padding_value=config.pad_id), pad_sequence(tags, True))
        )
    targets = [torch.tensor([config.begin_id, *row.target, config.end_id]) for row in rows]
    return Batch(tuple(sources), pad_sequence(targets, batch_first=True, padding_value=config.pad_id))

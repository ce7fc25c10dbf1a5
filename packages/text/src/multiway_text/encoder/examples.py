"""Labelled texts of users' files as training examples: classes, tags (CoNLL or JSONL), pairs that belong together.

The held-out part is every tenth text by its hash, so that one text never stands on both sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from multiway_core.data_files import shown
from multiway_core.errors import DataError, InputError

from multiway_text.data.squad import Question
from multiway_text.documents import find_files
from multiway_text.encoder.rows import Row, read_bytes, read_rows

HELD_OUT = 10
"""One text in so many is held out."""


@dataclass(frozen=True)
class Labelled:
    """A text, or a pair of them, with its label."""

    text: str
    label: str
    where: str
    pair: str | None = None


@dataclass(frozen=True)
class TaggedText:
    """Words with a tag each."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    where: str

    @property
    def text(self) -> str:
        """The words with spaces between them."""
        return " ".join(self.words)


@dataclass(frozen=True)
class Pair:
    """Two texts that belong together, and perhaps one that does not belong to the first."""

    text: str
    positive: str
    where: str
    negative: str | None = None


Example = TypeVar("Example", Labelled, TaggedText, Pair, Question)


def read_labelled(
    paths: Sequence[str], *, text: str, label: str, pair: str | None, columns: Sequence[str] | None = None
) -> list[Labelled]:
    """Rows with a text and a label. Raises InputError, DataError (file and line)."""
    return [
        Labelled(
            row.text(text, "--text-column"),
            row.label(label),
            row.where,
            None if pair is None else row.text(pair, "--pair-column"),
        )
        for row in _given(read_rows(paths, columns=columns), paths)
    ]


def read_pairs(
    paths: Sequence[str], *, text: str, pair: str, negative: str | None, columns: Sequence[str] | None = None
) -> list[Pair]:
    """Rows with two texts that belong together. Raises InputError, DataError (file and line)."""
    found = []
    for row in _given(read_rows(paths, columns=columns), paths):
        one = Pair(
            row.text(text, "--text-column"),
            row.text(pair, "--pair-column"),
            row.where,
            None if negative is None else row.text(negative, "--negative-column"),
        )
        if not one.text.strip() or not one.positive.strip():
            raise DataError(f"{row.where}: an empty text belongs to nothing; leave the row out")
        found.append(one)
    return found


def read_tagged(paths: Sequence[str]) -> list[TaggedText]:
    """Sentences of CoNLL files (a word a line, its tag in the last column, an empty line behind each sentence), or of
    JSONL rows ``{"tokens": [...], "tags": [...]}``. Raises InputError, DataError (file and line).
    """
    found: list[TaggedText] = []
    for file in [
        file for path in paths for file in ([Path(path)] if Path(path).is_file() else find_files([path]))
    ]:
        if file.name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
            found += [_tagged_row(row) for row in read_rows([str(file)])]
        else:
            found += _conll(file)
    if not found:
        raise InputError(f"{', '.join(paths)}: no sentence")
    return found


def split(examples: Sequence[Example], labels: bool = True) -> tuple[list[Example], list[Example]]:
    """(to train on, held out). The first text of every class is trained on; of few texts the last is held out.

    Raises InputError: fewer than two different texts.
    """
    kept: list[Example] = []
    held_out: list[Example] = []
    seen: set[str] = set()
    for example in examples:
        own = classes_of(example) if labels else set()
        digest = hashlib.sha256(example.text.strip().encode("utf-8", "replace")).digest()
        chosen = int.from_bytes(digest[:4], "big") % HELD_OUT == 0 and own <= seen
        (held_out if chosen else kept).append(example)
        seen |= own
    texts = {example.text for example in held_out}
    kept = [example for example in kept if example.text not in texts]
    if not held_out and kept:
        last = kept[-1]
        held_out = [example for example in kept if example.text == last.text]
        kept = [example for example in kept if example.text != last.text]
    if not kept or not held_out:
        raise InputError(
            f"{len(examples)} texts are too few: some are needed to train on and some to hold out"
        )
    return kept, held_out


def classes_of(example: Labelled | TaggedText | Pair | Question) -> set[str]:
    """The labels of an example."""
    if isinstance(example, Labelled):
        return {example.label}
    return set(example.tags) if isinstance(example, TaggedText) else set()


def labels_of(examples: Iterable[Labelled | TaggedText]) -> list[str]:
    """All labels, sorted. Raises InputError: fewer than two."""
    labels = sorted({label for example in examples for label in classes_of(example)})
    if len(labels) < 2:
        raise InputError(f"there is one label only ({', '.join(labels)}): nothing can be learnt from it")
    return labels


def check_labels(examples: Iterable[Labelled | TaggedText], labels: Sequence[str]) -> None:
    """Raise DataError for a label that was not there in training."""
    known = set(labels)
    for example in examples:
        unseen = sorted(classes_of(example) - known)
        if unseen:
            there = ", ".join(labels[:8]) + (" ..." if len(labels) > 8 else "")
            raise DataError(
                f"{example.where}: the label {unseen[0]!r} does not occur in the training data; it has {there}"
            )


def _given(rows: Iterable[Row], paths: Sequence[str]) -> list[Row]:
    found = list(rows)
    if not found:
        raise InputError(f"{', '.join(paths)}: no row")
    return found


def _tagged_row(row: Row) -> TaggedText:
    columns = []
    for names in (("tokens", "words"), ("tags", "labels", "ner_tags")):
        name = next((name for name in names if name in row.fields), names[0])
        value = row.fields.get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise DataError(f"{row.where}: {name}: expected a list of texts, got {shown(value)}")
        columns.append(tuple(value))
    words, tags = columns
    if len(words) != len(tags) or not words:
        raise DataError(f"{row.where}: {len(words)} words and {len(tags)} tags; expected a tag for each word")
    return TaggedText(words, tags, row.where)


def _conll(file: Path) -> list[TaggedText]:
    found: list[TaggedText] = []
    rows: list[tuple[str, str]] = []
    first = 1
    universal = file.name.removesuffix(".gz").endswith(".conllu")  # the word's form and its part of speech
    try:
        lines = read_bytes(file).decode("utf-8-sig").split("\n")  # words may hold other ends of lines
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text") from error
    for number, line in enumerate([*lines, ""], 1):
        cells = line.split("\t") if "\t" in line else line.split()
        # A remark, unless it is the word "#" with its tag.
        is_remark = line.startswith("-DOCSTART-") or (
            line.startswith("#") and (universal or "\t" not in line)
        )
        if any(cells) and not is_remark:
            if universal and not cells[0].isdecimal():
                continue  # a range or an empty node
            if len(cells) < (4 if universal else 2):
                raise DataError(
                    f"{file}:{number}: expected a word and its tag, such as 'Paris B-LOC', got {shown(line)}"
                )
            rows.append((cells[1], cells[3]) if universal else (cells[0], cells[-1].strip()))
            first = number if len(rows) == 1 else first
        elif rows and not any(cells):
            words, tags = zip(*rows, strict=True)
            found.append(TaggedText(words, tags, f"{file}:{first}"))
            rows = []
    return found

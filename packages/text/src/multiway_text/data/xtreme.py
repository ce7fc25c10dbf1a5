"""The files of XTREME's tasks as they are downloaded: XNLI, PAWS-X, PANX (WikiAnn) and UDPOS.

MLQA, XQuAD and TyDiQA are in SQuAD's form (`multiway_text.data.squad`). Errors name the file and the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from multiway_core.data_files import read_text, shown
from multiway_core.errors import DataError, InputError

from multiway_text.data.squad import read_squad
from multiway_text.encoder.examples import Labelled, TaggedText, read_tagged

_COLUMNS = (
    ("sentence1", "sentence2", "gold_label"),  # xnli.dev.tsv, xnli.test.tsv, multinli_1.0_train.txt
    ("premise", "hypo", "label"),  # multinli.train.en.tsv
    ("sentence1", "sentence2", "label"),  # PAWS-X
)
_WRITTEN = {"contradictory": "contradiction"}  # so in multinli.train
_VOTE = re.compile(
    r"label\d"
)  # a column of MultiNLI for each annotator; where fewer voted, a row ends before
_UNDECIDED = "-"  # MultiNLI's gold label where no three annotators agree
_LANGUAGE = re.compile(r"^[a-z]{2,3}(-[a-z]+)?:(?=.)")


def read_xnli(paths: Sequence[str]) -> dict[str, list[Labelled]]:
    """By language, where a column tells it, else by file. Raises InputError, DataError."""
    return _sentence_pairs(paths, {"entailment", "neutral", "contradiction"})


def read_paws_x(paths: Sequence[str]) -> dict[str, list[Labelled]]:
    """By file. Raises InputError, DataError."""
    return _sentence_pairs(paths, {"0", "1"})


def read_panx(paths: Sequence[str]) -> dict[str, list[TaggedText]]:
    """By file; the language that WikiAnn writes before each word (``en:Paris``) is taken off."""
    found = _tagged(paths)
    return {name: [_without_language(one) for one in rows] for name, rows in found.items()}


def _tagged(paths: Sequence[str]) -> dict[str, list[TaggedText]]:
    return {_name(path): read_tagged([path]) for path in paths}


READERS: Mapping[str, Callable[[Sequence[str]], Mapping[str, list[Any]]]] = {
    "xnli": read_xnli,
    "paws-x": read_paws_x,
    "panx": read_panx,
    "udpos": _tagged,
    "squad": lambda paths: {_name(path): read_squad([path]) for path in paths},
}
"""Layout of files -> their examples by language or file."""


def _sentence_pairs(paths: Sequence[str], labels: set[str]) -> dict[str, list[Labelled]]:
    """Tables with a line of names, in any of the known ways, or XTREME's three columns: text, pair, label.

    Rows of MultiNLI without a gold label are left out, as its users do.
    """
    found: dict[str, list[Labelled]] = {}
    for path in paths:
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file")
        lines = read_text(Path(path)).split("\n")
        names = lines[0].split("\t")
        columns = next((known for known in _COLUMNS if set(known) <= set(names)), None)
        wanted = [names.index(name) for name in columns] if columns else [0, 1, 2]
        width = len(names) if columns else 3
        least = width
        while columns and _VOTE.fullmatch(names[least - 1]):
            least -= 1
        language = names.index("language") if columns and "language" in names else None
        for number, line in enumerate(lines[1 if columns else 0 :], 2 if columns else 1):
            if not line.strip():
                continue
            cells = line.split("\t")
            if not least <= len(cells) <= width:
                raise DataError(
                    f"{path}:{number}: {len(cells)} columns, expected {width}: two texts and a label"
                )
            text, pair, label = (cells[place].strip() for place in wanted)
            if label == _UNDECIDED and columns == _COLUMNS[0]:
                continue
            label = _WRITTEN.get(label, label)
            if label not in labels:
                raise DataError(
                    f"{path}:{number}: expected one of {', '.join(sorted(labels))}, got {shown(label)}"
                )
            key = _name(path) if language is None else cells[language]
            found.setdefault(key, []).append(Labelled(text, label, f"{path}:{number}", pair))
    if not found:
        raise InputError(f"{', '.join(paths)}: no row")
    return found


def _without_language(one: TaggedText) -> TaggedText:
    if not all(_LANGUAGE.match(word) for word in one.words):
        return one
    return replace(one, words=tuple(_LANGUAGE.sub("", word) for word in one.words))


def _name(path: str) -> str:
    """A file's own name, after its folder's where that is a language (``de/dev.tsv``)."""
    file = Path(path)
    return f"{file.parent.name}/{file.name}" if re.fullmatch(r"[a-z]{2,3}", file.parent.name) else file.name

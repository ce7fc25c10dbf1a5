"""Documents to harvest, from the files that `multiway-search` reads, and rows that pair a statement with a document."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from multiway_core.errors import DataError, InputError

from multiway_text.encoder.rows import read_rows
from multiway_text.search import extract
from multiway_text.search.update import scan

PIECE = 20_000
"""Characters, about, of a long text that are parsed together; a parse takes some 1,000 times the memory of its text."""
_ROWS = (*extract.LINES, *extract.TABLES)
_END = re.compile(r"[.!?:;,]$")


@dataclass(frozen=True)
class Source:
    """A text to be asked about.

    Attributes:
        name: its file with page, line or part.
        title: stands for pronouns in questions; may be empty.
        statement: a text whose sentences the questions are made of, where the answers are in another one (a sentence of
            Wikipedia and the page that it cites).
    """

    text: str
    name: str
    title: str = ""
    statement: str = ""


def read_sources(
    paths: Sequence[str | Path],
    *,
    field: str = "text",
    statement: str = "statement",
    on_problem: Callable[[str, str], None] = lambda path, reason: None,
) -> Iterator[Source]:
    """The texts of files and folders; ``on_problem`` is told which file cannot be read, or has no text, and why.

    Args:
        field: where the text is in rows; ``title`` may stand beside it.
        statement: where rows have a statement about the text, if they have one.

    Raises InputError: a path leads nowhere. DataError: a row without the field.
    """
    found = scan(paths)
    for path, reason in found.unread:
        on_problem(path, reason)
    if not found.files and not found.unread:
        raise InputError(f"{', '.join(map(str, paths))}: no file of {', '.join(extract.SUFFIXES)}")
    for path in found.files:
        try:
            sources = _of_rows(path, field, statement) if path.lower().endswith(_ROWS) else _of_file(path)
            some = False
            for source in sources:
                some = True
                yield source
            if not some:
                told = (
                    "; its pages may be pictures: multiway-ocr reads them"
                    if path.lower().endswith(extract.PDF)
                    else ""
                )
                on_problem(path, f"no text{told}")
        except DataError as error:
            on_problem(path, str(error).removeprefix(f"{path}: "))


def _of_file(path: str) -> Iterator[Source]:
    for section in extract.sections(Path(path), field="text", on_problem=lambda reason: None):
        where = f"{path}:{section.place}" if section.place else path
        title, text = _titled(section.text)
        parts = list(_pieces(text))
        for number, part in enumerate(parts, 1):
            yield Source(part, f"{where}:{number}" if len(parts) > 1 else where, title)


def _of_rows(path: str, field: str, statement: str) -> Iterator[Source]:
    for row in read_rows([path]):
        title, told = row.fields.get("title"), row.fields.get(statement)
        for part in _pieces(row.text(field)):
            yield Source(
                part,
                row.where,
                title.strip() if isinstance(title, str) else "",
                told if isinstance(told, str) else "",
            )


def _titled(text: str) -> tuple[str, str]:
    """(title, rest): a first line that stands alone and is no sentence, without the marks of Markdown."""
    first, _, rest = text.lstrip().partition("\n")
    title = first.strip(" #=*\r")
    if (
        rest.strip()
        and title
        and len(title) <= 80
        and not _END.search(title)
        and (first[:1] == "#" or not rest.split("\n")[0].strip())
    ):
        return title, rest
    return "", text


def _pieces(text: str) -> Iterator[str]:
    """The text in parts, cut at paragraphs where it has any; none where it is empty."""
    while len(text) > PIECE:
        cut = max(text.rfind("\n\n", 1, PIECE), 0) or max(text.rfind(" ", 1, PIECE), 0) or PIECE
        if text[:cut].strip():
            yield text[:cut]
        text = text[cut:]
    if text.strip():
        yield text

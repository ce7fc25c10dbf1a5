"""The text of files: plain text, Markdown, HTML, PDF, and rows of JSONL, CSV, TSV and Parquet."""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from multiway_core.errors import DataError, MultiwayError, os_reason
from multiway_core.guarded_process import GuardedProcess, ProcessDied

from multiway_text.encoder.rows import Row, read_rows

TEXT, HTML, PDF = (".txt", ".md", ".markdown", ".rst", ".org", ".tex"), (".html", ".htm", ".xhtml"), (".pdf",)
LINES, TABLES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"), (".csv", ".tsv", ".parquet")
SUFFIXES = (*TEXT, *HTML, *PDF, *LINES, *TABLES)
MAX_BYTES = 64 << 20
"""Of a file that is one text."""
MAX_LINE = 16 << 20
PDF_SECONDS = 120.0
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset=[\"']?([\w-]{1,40})", re.I)


@dataclass(frozen=True)
class Section:
    """A part of a file in which characters are counted: ``place`` is ``page 3``, ``line 12``, or empty for all."""

    text: str
    place: str = ""


def is_read(name: str) -> bool:
    """Whether a file of this name is searched for in folders."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def sections(path: Path, *, field: str, on_problem: Callable[[str], None]) -> Iterator[Section]:
    """The sections of a file, empty ones too. A broken row costs only itself: ``on_problem`` is told.

    Raises DataError: the file cannot be read, is broken or no text.
    """
    name = path.name.lower()
    if name.endswith(PDF):
        yield from _pdf(path)
    elif name.endswith(LINES):
        yield from _rows(path, field, on_problem)
    elif name.endswith(TABLES):
        for row in read_rows([str(path)]):
            yield _row(row, field, row.where.rpartition(":")[2])
    elif name.endswith(HTML):
        yield Section(html_text(_decoded(path, _bytes(path), html=True)))
    else:
        yield Section(_decoded(path, _bytes(path)))


def html_text(page: str) -> str:
    """What a reader of the page sees, paragraphs apart; the title first."""
    reader = _Page()
    reader.feed(page)
    reader.close()
    text = re.sub(r"[^\S\n]+", " ", "".join(reader.parts))
    return re.sub(r" ?\n ?(?:\n ?)+", "\n\n", text).strip()


class _Page(HTMLParser):
    _SILENT = frozenset({"script", "style", "noscript", "template", "svg", "nav"})
    _INLINE = frozenset(
        "a abbr b bdi cite code em font i img kbd mark q s samp small span strong sub sup u".split()  # noqa: SIM905
    )

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in self._SILENT:
            self._silent.append(tag)
        self._part(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent:
            del self._silent[self._silent.index(tag) :]
        if tag == "body":
            self._silent.clear()
        self._part(tag)

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data.replace("\n", " "))

    def _part(self, tag: str) -> None:
        if tag not in self._INLINE:
            self.parts.append("\n" if tag in ("br", "li", "tr", "td") else "\n\n")


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {os_reason(error)}") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{path}: larger than {MAX_BYTES >> 20} MB; for many texts in one file use JSONL")
    return data


def _decoded(path: Path, data: bytes, *, html: bool = False) -> str:
    """UTF-8, what a mark or an HTML page says, or else the Latin alphabet of old files."""
    known = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    said = _CHARSET.search(data[:4096]) if html and known is None else None
    for encoding in (known, said and said.group(1).decode("ascii"), "utf-8", "cp1252", "latin-1"):
        if encoding is None:
            continue
        try:
            text = data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
        if (
            "\0" in text
            or sum(c < " " and c not in "\t\n\r\f\x0b\x1b" for c in text[:4096]) > len(text[:4096]) / 20
        ):
            raise DataError(f"{path}: binary data, not text")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    raise DataError(f"{path}: not text")


def _rows(path: Path, field: str, on_problem: Callable[[str], None]) -> Iterator[Section]:
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise DataError(f"{path}:{number}: a line of more than {MAX_LINE >> 20} MB")
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                    row = {"text": value} if isinstance(value, str) else value
                    if not isinstance(row, dict):
                        raise DataError(f'{path}:{number}: expected an object, {{"{field}": "..."}}')
                    yield _row(Row(row, f"{path}:{number}"), field, str(number))
                except (ValueError, RecursionError, MultiwayError) as error:
                    bug = str(error) if isinstance(error, MultiwayError) else f"{path}:{number}: not JSON"
                    on_problem(bug)
                    yield Section("", f"line {number}")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _row(row: Row, field: str, number: str) -> Section:
    text = row.text(field, "--field")
    title = row.fields.get("title")
    if field != "title" and isinstance(title, str) and title.strip():
        text = f"{title.strip()}\n\n{text}"
    return Section(text, f"line {number}")


@cache
def _reader() -> GuardedProcess:
    return GuardedProcess(["-m", "multiway_text.search.pdf_pages"])


def _pdf(path: Path) -> Iterator[Section]:
    """The pages' text layers, read in a process of its own: PDFium is in C++, and files come from anywhere."""
    try:
        answer, data = _reader().ask({"path": str(path.resolve())}, PDF_SECONDS)
    except ProcessDied as error:
        raise DataError(
            f"{path}: PDFium fails on this PDF file, or takes over {PDF_SECONDS:.0f} s"
        ) from error
    if "error" in answer:
        raise DataError(f"{path}: {answer['error']}")
    for number, text in enumerate(json.loads(data), 1):
        yield Section(text, f"page {number}")

"""Texts in several languages, and pairs that are translations of each other, from the files that people have.

A source is written ``LANGUAGE=FILES`` for texts of one language, or ``LANGUAGE-LANGUAGE=FILE[,FILE]`` for pairs:

    de=news.de.txt                  one language: txt, JSONL, Parquet, folders, globs (`multiway_text.documents`)
    en-de=corpus.en,corpus.de       two files of equal line counts
    en-de=pairs.tsv                 two columns, with or without a line of names
    en-de=pairs.jsonl               {"en": ..., "de": ...}, or that inside "translation"
    en-de=memory.tmx                a translation memory

Files ending in ``.gz`` are unpacked on the way. Pairs of which a side is empty are left out.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple
from xml.etree import ElementTree

from multiway_core.errors import DataError, InputError

from multiway_text.data.languages import check_language
from multiway_text.documents import find_files, read_lines

_XML_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


class Pair(NamedTuple):
    """A text and its translation."""

    first: str
    second: str


@dataclass(frozen=True)
class ParallelFile:
    """The pairs of one or two files; may be gone through as often as one likes.

    Attributes:
        languages: of a pair's texts, in their order.
        paths: one file that holds both sides, or a file for each.
        fields: names of the two texts in rows of JSONL; those of the languages by default.

    Raises InputError: more than two files, or two of unequal line counts, of which both are named.
    """

    languages: tuple[str, str]
    paths: tuple[Path, ...]
    fields: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if len(self.paths) > 2:
            raise InputError(
                f"{'-'.join(self.languages)}: {len(self.paths)} files; expected one with both languages, or one each"
            )
        if len(self.paths) == 2:
            counts = [sum(1 for _ in read_lines(path)) for path in self.paths]
            if counts[0] != counts[1]:
                told = " and ".join(
                    f"{path} has {n} lines" for path, n in zip(self.paths, counts, strict=True)
                )
                raise InputError(f"{told}; line n of the one must be the translation of line n of the other")

    def __iter__(self) -> Iterator[Pair]:
        for pair in self._pairs():
            if pair.first.strip() and pair.second.strip():
                yield pair

    def _pairs(self) -> Iterator[Pair]:
        path = self.paths[0]
        name = path.name.removesuffix(".gz").lower()
        if len(self.paths) == 2:
            for (_, first), (_, second) in zip(*map(read_lines, self.paths), strict=True):
                yield Pair(first, second)
        elif name.endswith((".jsonl", ".ndjson")):
            yield from self._json_lines(path)
        elif name.endswith(".tmx"):
            yield from self._translation_memory(path)
        else:
            yield from self._table(path)

    def _table(self, path: Path) -> Iterator[Pair]:
        for number, line in read_lines(path):
            cells = line.split("\t")
            if number == 1 and tuple(cells) == self.languages:
                continue
            if len(cells) != 2:
                raise DataError(f"{path}:{number}: {len(cells)} columns, expected 2, divided by a tab")
            yield Pair(*cells)

    def _json_lines(self, path: Path) -> Iterator[Pair]:
        names = self.fields or self.languages
        for number, line in read_lines(path):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                reason = getattr(error, "msg", "nested too deeply")
                raise DataError(f"{path}:{number}: not JSON: {reason}") from error
            if isinstance(row, dict) and isinstance(row.get("translation"), dict):
                row = row["translation"]
            found = [row.get(name) for name in names] if isinstance(row, dict) else [None]
            if not all(isinstance(text, str) for text in found):
                expected = f'{{"{names[0]}": "...", "{names[1]}": "..."}}'
                raise DataError(f"{path}:{number}: expected two texts, {expected}")
            yield Pair(*found)

    def _translation_memory(self, path: Path) -> Iterator[Pair]:
        """Units that have both languages; a variant's region counts only where it was asked for."""
        try:
            with _opened(path) as file:
                for _, element in ElementTree.iterparse(file):
                    if element.tag == "tu":
                        texts = dict(_variants(element))
                        found = [texts.get(language) for language in self.languages]
                        if found[0] is not None and found[1] is not None:
                            yield Pair(found[0], found[1])
                        element.clear()
        except (OSError, EOFError, zlib.error, ElementTree.ParseError) as error:
            raise DataError(f"{path}: not a translation memory (TMX): {error}") from error


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _variants(unit: ElementTree.Element) -> Iterator[tuple[str, str]]:
    for variant in unit.iter("tuv"):
        code = variant.get(_XML_LANGUAGE) or variant.get("lang") or ""
        text = "".join(variant.find("seg").itertext()) if variant.find("seg") is not None else ""  # type: ignore[union-attr]
        language, _, region = code.replace("-", "_").partition("_")
        yield language.lower(), text
        yield f"{language.lower()}_{region}", text


@dataclass(frozen=True)
class Sources:
    """What ``--data`` names: files of texts by language, and files of pairs."""

    texts: dict[str, list[Path]]
    pairs: list[ParallelFile]

    @classmethod
    def parse(cls, data: Sequence[str], fields: tuple[str, str] | None = None) -> Sources:
        """Of sources as the module describes them. Raises InputError (form, language, path, line counts)."""
        texts: dict[str, list[Path]] = {}
        pairs = []
        for source in data:
            languages, equals, names = source.partition("=")
            if not equals or not names:
                raise InputError(
                    f"{source!r}: expected LANGUAGE=FILE for texts or LANGUAGE-LANGUAGE=FILE[,FILE] for pairs, such as "
                    "de=news.txt or en-de=corpus.en,corpus.de"
                )
            codes = [check_language(code, source) for code in languages.split("-")]
            paths = list(chain.from_iterable(find_files([name]) for name in names.split(",")))
            if len(codes) == 1:
                texts.setdefault(codes[0], []).extend(paths)
            elif len(codes) == 2 and codes[0] != codes[1]:
                pairs.append(ParallelFile((codes[0], codes[1]), tuple(paths), fields))
            else:
                raise InputError(f"{source!r}: expected two languages, such as en-de, got {languages}")
        return cls(texts, pairs)

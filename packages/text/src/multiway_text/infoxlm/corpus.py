"""What is trained on: texts by language and translations by pair of languages, each with every 20th held out.

Without data, the sentences of Python's documentation and a cipher of them (letters turned by 13 places): a "language"
that shares no word with English and needs no file.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer

from multiway_text.data.parallel import Pair, Sources
from multiway_text.documents import HELD_OUT, Document, Split, TextFiles, documents
from multiway_text.packing import FACTS_FILE, TokenFile

CIPHER = "qaa"
"""A code that ISO 639 leaves to its users."""


@dataclass(frozen=True)
class _Stream:
    """Documents that may be gone through as often as one likes."""

    start: Callable[[], Iterator[Document]]

    def __iter__(self) -> Iterator[Document]:
        return self.start()


@dataclass(frozen=True)
class Corpus:
    """Groups of texts and of pairs by name, such as "de" and "en-de"."""

    text_groups: dict[str, Iterable[Document]]
    pair_groups: dict[str, list[Iterable[Pair]]]

    @classmethod
    def read(
        cls, data: Sequence[str], *, field: str = "text", pair_fields: tuple[str, str] | None = None
    ) -> Corpus:
        """Of sources as `multiway_text.data.parallel` describes them. Raises InputError."""
        if not data:
            return cls({}, {f"en-{CIPHER}": [_cipher_pairs()]})
        sources = Sources.parse(data, pair_fields)
        pairs: dict[str, list[Iterable[Pair]]] = {}
        for file in sources.pairs:
            pairs.setdefault("-".join(file.languages), []).append(file)
        return cls({name: TextFiles(paths, field=field) for name, paths in sources.texts.items()}, pairs)

    def texts(self, held_out: bool) -> dict[str, Iterable[Document]]:
        """By language, the held-out ones or the others; the sides of the pairs where there are no texts."""
        if self.text_groups:
            return {name: Split(group, held_out) for name, group in self.text_groups.items()}
        languages = sorted({code for name in self.pair_groups for code in name.split("-")})
        return {code: _Stream(lambda code=code: self._sides(code, held_out)) for code in languages}  # type: ignore[misc]

    def pairs(self, held_out: bool) -> dict[str, Iterable[Document]]:
        """By pair of languages, the two texts of a pair as documents one behind the other."""
        return {
            name: _Stream(lambda name=name: chain.from_iterable(self._pairs(name, held_out)))  # type: ignore[misc]
            for name in self.pair_groups
        }

    def vocabulary_texts(self) -> Iterator[str]:
        """Every text that is trained on, once."""
        groups = chain(self.texts(False).values() if self.text_groups else (), self.pairs(False).values())
        return (document.text for group in groups for document in group)

    def _pairs(self, name: str, held_out: bool) -> Iterator[tuple[Document, Document]]:
        for number, pair in enumerate(chain.from_iterable(self.pair_groups[name])):
            if (number % HELD_OUT == HELD_OUT - 1) == held_out:
                yield Document(pair.first, name), Document(pair.second, name)

    def _sides(self, code: str, held_out: bool) -> Iterator[Document]:
        for name in self.pair_groups:
            if code in name.split("-"):
                side = name.split("-").index(code)
                yield from (pair[side] for pair in self._pairs(name, held_out))


def read_or_encode(
    folder: Path, group: Iterable[Document], tokenizer: TextTokenizer, max_tokens: int | None
) -> TokenFile:
    """The tokens of a group with the tokenizer's end behind every text, made once. Raises InputError, DataError."""
    if not (folder / FACTS_FILE).is_file():
        try:
            TokenFile.write(folder, group, tokenizer, max_tokens=max_tokens)
        except InputError as error:
            raise InputError(
                f"{folder.parent.name}: {error}; every {HELD_OUT}th is held out, so that {HELD_OUT} are needed"
            ) from error
    return TokenFile.open(folder)


def _cipher_pairs() -> list[Pair]:
    sentences = (
        " ".join(sentence.split())
        for document in documents(())
        for sentence in re.split(r"(?<=[.:])\s+", document.text)
    )
    return [Pair(text, codecs.encode(text, "rot13")) for text in sentences if 40 <= len(text) <= 300]

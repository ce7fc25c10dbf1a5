"""Running text from installed packages: documentation, licences, fortunes, dictionary glosses.

Documents are read lazily, freed of their markup and split into training and held-out parts by document (a
hash of the file's path), 5 % held out. Several packages quote the same licence, so a held-out document may
share sentences with training; suites that must not should bring their own text.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from multiway_document.alphabet import ALPHABET, normalise

Split = Literal["train", "held_out"]
HELD_OUT_PERCENT = 5
MAX_DOCUMENT_BYTES = 60_000
MIN_DOCUMENT_CHARACTERS = 400

_UNKNOWN = re.compile(f"[^{re.escape(ALPHABET)}]+")

LATIN_LANGUAGES = (
    "cs",
    "da",
    "de",
    "es",
    "fi",
    "fr",
    "hr",
    "hu",
    "id",
    "it",
    "nl",
    "pl",
    "pt",
    "pt_BR",
    "ro",
    "sv",
    "tr",
)


def is_held_out(key: str) -> bool:
    """The side of the split on which a document lies; depends on its name alone."""
    return (
        int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:4], "big") % 100
        < HELD_OUT_PERCENT
    )


def in_alphabet(text: str) -> str:
    """Single-spaced text without characters that the alphabet lacks (as :func:`restrict`, but fast on long
    text).
    """
    return " ".join(_UNKNOWN.sub("", normalise(" ".join(text.split()))).split())


def strip_html(text: str) -> str:
    text = re.sub(r"(?is)<(script|style|head|svg)\b.*?</\1\s*>|<!--.*?-->", " ", text)
    text = re.sub(r"(?i)</?(p|div|li|h\d|tr|td|th|br|pre|section|dt|dd)\b[^>]*>", "\n", text)
    text = html.unescape(re.sub(r"<[^>]*>", "", text)).replace("¶", " ")
    return re.sub(r"Help content debug info:\s*This page is:\s*\S+|Title is:.*", " ", text)


_ROFF_TEXT = re.compile(r"^\.\s*(?:SH|SS|B|I|BR|IB|IR|RB|RI|BI|Nm|Fl|Ar|Xr|Pa|Dq|Em)\s+(.*)$")
_ROFF_CHARACTERS = {
    "\\-": "-", "\\(em": "—", "\\(en": "–", "\\(aq": "'", "\\(dq": '"', "\\(co": "©", "\\(bu": "•", "\\(lq": "“",
    "\\(rq": "”", "\\(oq": "‘", "\\(cq": "’", "\\e": "\\", "\\&": "", "\\ ": " ", "\\~": " ",
}  # fmt: skip


def strip_roff(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if line.startswith((".", "'")):
            match = _ROFF_TEXT.match(line)
            if match is None:
                continue
            line = match[1].replace('"', "")
        lines.append(line)
    text = re.sub(r"\\f(?:\(..|\[[^\]]*\]|.)|\\s[+-]?\d", "", "\n".join(lines))
    for escape, character in _ROFF_CHARACTERS.items():
        text = text.replace(escape, character)
    return re.sub(r"\\(?:\(..|\[[^\]]*\]|[*n](?:\(..|.)|\S)", "", text)


def strip_fortunes(text: str) -> str:
    return text.replace("\n%\n", "\n")


def _plain(text: str) -> str:
    return text


def read_text(path: Path) -> str:
    """At most 60 kB of a text file, gzip-compressed or not; "" if it cannot be read as text."""
    try:
        with gzip.open(path) if path.suffix in (".gz", ".dz") else path.open("rb") as file:
            return file.read(MAX_DOCUMENT_BYTES).decode(
                "utf-8", "strict" if path.suffix == ".gz" else "ignore"
            )
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):
        return ""


@dataclass
class Corpus:
    """Documents of one kind. ``weight`` is how often the kind is drawn."""

    name: str
    weight: float
    paths: list[Path]
    strip: Callable[[str], str] = _plain
    _texts: dict[Path, str] = field(default_factory=dict, repr=False)

    def document(self, index: int) -> str:
        """Single-spaced text of a document in the alphabet ("" if it holds too little)."""
        path = self.paths[index]
        if path not in self._texts:
            text = in_alphabet(self.strip(read_text(path)))
            self._texts[path] = text if len(text) >= MIN_DOCUMENT_CHARACTERS else ""
        return self._texts[path]

    def passage(self, rng: np.random.Generator, length: int) -> str:
        """``length`` characters or a few less from the start of a random word; "" if a dud was drawn."""
        text = self.document(int(rng.integers(len(self.paths))))
        if not text:
            return ""
        start = text.find(" ", int(rng.integers(max(1, len(text) - length)))) + 1
        piece = text[start : start + length + 1]
        cut = piece.rfind(" ")
        return (piece[:cut] if cut > 0 and len(piece) > length else piece[:length]).strip()


def _files(folder: str, patterns: Iterable[str]) -> Iterator[Path]:
    root = Path(folder)
    if root.is_dir():
        for pattern in patterns:
            yield from (path for path in root.glob(pattern) if path.is_file())


def _at_most_of_each_tool(paths: Iterable[Path], limit: int = 60) -> list[Path]:
    """Few files of a folder that begin alike: one tool may install thousands of generated manual pages."""
    seen: dict[tuple[Path, str], int] = {}
    kept = []
    for path in paths:
        key = (path.parent, re.split(r"[-_.:]", path.name)[0])
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= limit:
            kept.append(path)
    return kept


def dictionary_glosses(split: Split) -> list[str]:
    """WordNet glosses of the ``dict-wn`` package in pieces of 20,000 characters, split by piece."""
    path = Path("/usr/share/dictd/wn.dict.dz")
    if not path.is_file():
        return []
    with gzip.open(path) as file:
        text = in_alphabet(file.read(12_000_000).decode("utf-8", "ignore"))
    text = re.sub(r"[{}]", "", text)
    pieces = [text[start : start + 20_000] for start in range(4000, len(text), 20_000)]
    return [piece for i, piece in enumerate(pieces) if is_held_out(f"wn/{i}") == (split == "held_out")]


def discover(split: Split) -> list[Corpus]:
    """The corpora of one side of the split that this machine has (none is needed)."""
    handbook = "/usr/share/doc/debian-handbook/html"
    manual = {language: f"/usr/share/man/{language}" for language in LATIN_LANGUAGES}
    candidates = [
        Corpus("prose", 0.34, [
            *_files(handbook, ["en-US/*.html"]),
            *_files("/usr/share/developers-reference", ["*.html"]),
            *_files("/usr/share/doc", ["*/*.html", "*/html/*.html", "*/manual/*.html"]),
            *_files("/usr/share/libreoffice/help/en-US/text", ["**/*.html"]),
        ], strip_html),
        Corpus("other languages", 0.12, [
            *(path for path in _files(handbook, ["*/*.html"]) if path.parent.name[:2] in LATIN_LANGUAGES),
        ], strip_html),
        Corpus("manuals in other languages", 0.05, [
            path for folder in manual.values() for path in _files(folder, ["man*/*.gz"])
        ], strip_roff),
        Corpus("licences", 0.08, [
            *_files("/usr/share/common-licenses", ["*"]), *_files("/usr/share/doc", ["*/copyright"])
        ]),
        Corpus("fortunes", 0.24, [
            path for path in _files("/usr/share/games/fortunes", ["*"]) if path.suffix not in (".dat", ".u8")
        ], strip_fortunes),
        Corpus("manuals", 0.17, [*_files("/usr/share/man", ["man[1-8]/*.gz"])], strip_roff),
    ]  # fmt: skip
    kept = []
    for corpus in candidates:
        unique = _at_most_of_each_tool(sorted({path.resolve() for path in corpus.paths}))
        corpus.paths = [path for path in unique if is_held_out(str(path)) == (split == "held_out")]
        if corpus.paths:
            kept.append(corpus)
    return kept

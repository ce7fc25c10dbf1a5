"""Bilingual dictionaries for code-switching: MUSE's text files (``en-de.txt``) and those of freedict (``*.index``)."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from multiway_core.data_files import read_text
from multiway_core.errors import DataError, InputError

Dictionary = Mapping[str, Sequence[str]]
"""Lower-case word -> its translations, one word each."""
_BASE64 = {
    letter: value
    for value, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}
_REMARK = re.compile(r"<[^>]*>|\[[^\]]*\]|\([^)]*\)|\{[^}]*\}|^\s*\d+\.")


def read_dictionaries(paths: Sequence[str], languages: Sequence[str] = ()) -> dict[str, Dictionary]:
    """Dictionaries by the code of the language they lead to: what stands behind the last hyphen of a file's name.

    Args:
        paths: files, or folders of them.
        languages: only these; all without.

    Raises InputError (a path or a language that is not there), DataError (file and line).
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(
                f"{path}: no such dictionary; expected MUSE's en-de.txt or freedict-eng-deu.index"
            )
        inside = sorted([*path.glob("*-*.txt"), *path.glob("*-*.index")]) if path.is_dir() else [path]
        if not inside:
            raise InputError(
                f"{path}: no dictionary in this folder; expected MUSE's en-de.txt or freedict's *.index"
            )
        files += inside
    by_language = {file.stem.rpartition("-")[2]: file for file in files}
    unknown = [language for language in languages if language not in by_language]
    if unknown:
        raise InputError(f"no dictionary into {unknown[0]!r}; there are: {', '.join(sorted(by_language))}")
    chosen = languages or sorted(by_language)
    return {
        name: _freedict(file) if file.suffix == ".index" else _muse(file)
        for name, file in by_language.items()
        if name in chosen
    }


def _muse(path: Path) -> Dictionary:
    """A pair of words a line, with a tab or a space between them."""
    found: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        words = line.strip().split("\t") if "\t" in line else line.split()
        if len(words) != 2 or not all(word.strip() for word in words):
            raise DataError(
                f"{path}:{number}: expected a word and its translation, got {line.strip()[:60]!r}"
            )
        found.setdefault(words[0].strip().lower(), []).append(words[1].strip())
    if not found:
        raise DataError(f"{path}:1: a dictionary without words")
    return found


def _freedict(index: Path) -> Dictionary:
    """The dictd format: lines of headword, offset and length in base 64, into ``*.dict.dz`` or ``*.dict`` beside it."""
    packed, plain = index.with_suffix(".dict.dz"), index.with_suffix(".dict")
    try:
        content = gzip.decompress(packed.read_bytes()) if packed.is_file() else plain.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{index}: cannot read {packed.name} beside it: {error}") from error
    found: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(index).rstrip("\n").split("\n"), 1):
        cells = line.split("\t")
        if len(cells) < 3 or not all(cell and set(cell) <= set(_BASE64) for cell in cells[1:3]):
            raise DataError(f"{index}:{number}: expected headword, offset and length, got {line[:60]!r}")
        word = cells[0].strip().lower()
        if word.startswith("00database") or len(word.split()) != 1:
            continue
        offset, length = map(_number, cells[1:3])
        if offset + length > len(content):
            raise DataError(f"{index}:{number}: the entry of {word!r} ends behind the end of the dictionary")
        entry = content[offset : offset + length].decode("utf-8", "replace")
        translations = [item for item in _translations(entry) if item not in found.get(word, ())]
        if translations:
            found.setdefault(word, []).extend(translations)
    if not found:
        raise DataError(f"{index}:1: a dictionary without words")
    return found


def _translations(entry: str) -> list[str]:
    """The single words of an entry's lines: the headword is its first line, remarks and examples are indented."""
    lines = [line for line in entry.split("\n")[1:] if line.strip() and not line.startswith((" ", "\t"))]
    items = [item.strip(" .!?\"'") for line in lines for item in re.split(r"[,;]", _REMARK.sub("", line))]
    return [item for item in dict.fromkeys(items) if item and len(item.split()) == 1]


def _number(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value * 64 + _BASE64[digit]
    return value

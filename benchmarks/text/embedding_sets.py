"""Texts that the embedding benchmarks share: XQuAD (SQuAD's format), AG News (tsv) and Tatoeba, of the user."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from pathlib import Path

_SENTENCE = re.compile(r"(?<=[.!?]) +(?=[A-Z\"'])")


@dataclass(frozen=True)
class Retrieval:
    """Questions, paragraphs, and for each question the paragraph that it was asked of."""

    questions: list[str]
    paragraphs: list[str]
    answers: list[int]


def xquad(folder: Path, language: str = "en") -> Retrieval:
    """``xquad.en.json.gz`` of a folder: 1,190 questions of 240 paragraphs."""
    content = json.loads(_text(folder / f"xquad.{language}.json.gz"))
    found = Retrieval([], [], [])
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            for entry in paragraph["qas"]:
                found.questions.append(entry["question"])
                found.answers.append(len(found.paragraphs))
            found.paragraphs.append(paragraph["context"])
    return found


def ag_news(folder: Path, parts: tuple[str, ...] = ("test",)) -> list[str]:
    """The news items of ``test.tsv.gz`` and others: a title and a sentence or two each. The files have no header."""
    lines = (line for part in parts for line in _text(folder / f"{part}.tsv.gz").splitlines())
    return [text for text, tab, _ in (line.rpartition("\t") for line in lines) if tab]


def sentences(texts: list[str], count: int, words: range = range(4, 26)) -> list[str]:
    """The first ``count`` sentences of texts with so many words."""
    found = (one.strip() for text in texts for one in _SENTENCE.split(text))
    return [one for one in found if len(one.split()) in words][:count]


def passages(texts: list[str], count: int, characters: int) -> list[str]:
    """Neighbouring texts joined until a passage has so many characters."""
    found: list[str] = []
    parts: list[str] = []
    for text in texts:
        parts.append(text)
        if sum(map(len, parts)) >= characters:
            found.append(" ".join(parts))
            parts = []
        if len(found) == count:
            break
    return found


def tatoeba(folder: Path) -> list[str]:
    """The English sides of all pairs, each sentence once."""
    lines = [line for path in sorted(folder.glob("*.eng")) for line in path.read_text("utf-8").splitlines()]
    return list(dict.fromkeys(line for line in lines if line.strip()))


def _text(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode("utf-8")

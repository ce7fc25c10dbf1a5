"""Unanswerable twins in small: pair-to-sequence against seq2seq, rules and a copy of the question.

    python -m benchmarks.text.unans_qa_small --pairs FOLDER [--work FOLDER] [--minutes 9]

FOLDER holds the released dev and test lists of `haichao592/UnAnsQ` (QG/{dev,test}-{context,answerable-questions,
unanswerable-questions}.txt): 4,570 pairs on 1,740 contexts; the train lists lack their contexts. A seed draws which
contexts are tested (about 900 pairs); of the others the recipe holds one in 20 out and keeps the weights with the least
loss there. Arms begin with the embeddings of the bundled MiniLM and see 64 pieces around the answer.

BLEU-4 (sacrebleu, lower case), GLEU, edit precision and the share of copies: see `multiway_text.unans_qa.scores`. The
work is cut in cells (an arm with a seed); one that --work holds is not done again, and after --minutes none is begun:
run it again to go on.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

from multiway_core.files import write_text
from multiway_core.training import TrainOptions
from multiway_text.unans_qa.pairs import Pair, read_pairs, words
from multiway_text.unans_qa.pipeline import UnansQaPipeline
from multiway_text.unans_qa.recipe import RECIPES
from multiway_text.unans_qa.rules import RulePipeline
from multiway_text.unans_qa.scores import copy_rate, edit_precision, gleu
from sacrebleu.metrics import BLEU

TESTS, SEEDS = 900, 3
ARMS = ("copy", "rules", "seq2seq", "pair2seq")
LISTS = ("context", "answerable-questions", "unanswerable-questions")


def shuffled(folder: Path, seed: int) -> tuple[list[Any], dict[str, int]]:
    """The rows of the released lists by context, and the place of each context in an order that the seed draws."""
    rows: list[Any] = []
    for part in ("dev", "test"):
        files = [(folder / f"{part}-{name}.txt").read_text().strip("\n").split("\n") for name in LISTS]
        rows += list(zip(*files, strict=True))
    contexts = sorted({row[0].split("\t")[0] for row in rows})
    random.Random(seed).shuffle(contexts)
    place = {context: number for number, context in enumerate(contexts)}
    rows.sort(key=lambda row: place[row[0].split("\t")[0]])
    return rows, place


def write_lists(rows: Any, stem: Path) -> Path:
    """Rows as three released lists beside each other; the path of the first."""
    for name, column in zip(LISTS, zip(*rows, strict=True), strict=True):
        write_text(stem.with_name(f"{stem.name}-{name}.txt"), "\n".join(column) + "\n")
    return stem.with_name(f"{stem.name}-{LISTS[0]}.txt")


def split(folder: Path, seed: int, work: Path) -> tuple[Path, list[Pair]]:
    """The lists to learn from, written to ``work``, and the pairs of the contexts that are tested."""
    rows, place = shuffled(folder, seed)
    last = place[rows[TESTS][0].split("\t")[0]]
    sides: dict[str, list[Any]] = {"train": [], "test": []}
    for row in rows:
        sides["test" if place[row[0].split("\t")[0]] < last else "train"].append(row)
    paths = {side: write_lists(chosen, work / f"{side}-{seed}") for side, chosen in sides.items()}
    return paths["train"], read_pairs([paths["test"]])


def scores(pairs: Sequence[Pair], written: Sequence[str]) -> dict[str, float]:
    """The numbers of an arm."""
    sources, references = [pair.answerable.question for pair in pairs], [pair.twin for pair in pairs]
    spaced = [[" ".join(words(text)) for text in texts] for texts in (written, references)]
    return {
        "bleu": BLEU(tokenize="none", force=True).corpus_score(spaced[0], [spaced[1]]).score,
        "gleu": gleu(sources, written, references),
        "edit_precision": edit_precision(sources, written, references),
        "copies": copy_rate(sources, written),
    }


def cell(arm: str, seed: int, folder: Path, work: Path) -> dict[str, Any]:
    """Train an arm and score it."""
    train, pairs = split(folder, seed, work)
    questions = [pair.answerable for pair in pairs]
    found: dict[str, Any] = {"arm": arm, "seed": seed, "pairs": len(pairs)}
    if arm in ("copy", "rules"):
        rules = RulePipeline().twins(questions)
        written = [one.question for one in questions] if arm == "copy" else rules
    else:
        started = time.process_time()
        options = TrainOptions(work / f"{arm}-{seed}", data=(str(train),), seed=seed)
        report = harness.trained(RECIPES[f"{arm}-small"], options)
        found |= {"train_seconds": time.process_time() - started, "steps": report.steps}
        found |= {"held_out_loss": report.held_out["loss"], "parameters": report.parameters}
        pipeline = UnansQaPipeline.from_pretrained(str(report.folder))
        started = time.process_time()
        others = pipeline.twins(questions)
        found["questions_per_second"] = len(questions) / (time.process_time() - started)
        found["without_copies"] = scores(pairs, others)
        pipeline.copies = True
        written = pipeline.twins(questions)
    write_text(work / f"written-{arm}-{seed}.json", json.dumps(written) + "\n")
    return {**found, **scores(pairs, written)}


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("unans-qa-small"))
    parser.add_argument("--minutes", type=float, default=9)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    cells = []
    for seed in range(SEEDS):
        for arm in ARMS:
            path = given.work / f"cell-{arm}-{seed}.json"
            make = partial(cell, arm, seed, given.pairs, given.work)
            cells += filter(None, [harness.kept(path, make, given.minutes)])
    columns = ("arm", "seeds", "BLEU-4", "GLEU", "edit precision", "copies", "questions/s")
    lines = []
    for arm in ARMS:
        own = [c for c in cells if c["arm"] == arm]
        speed = [c["questions_per_second"] for c in own if "questions_per_second" in c]
        others = [c["without_copies"] for c in own if "without_copies" in c]
        for name, of in ((arm, own), (f"{arm}, copies passed over", others)):
            if of:
                shown = [mean([c[key] for c in of]) for key in ("bleu", "gleu", "edit_precision", "copies")]
                lines.append((name, len(of), *shown, f"{statistics.mean(speed):.0f}" if speed else "-"))
    page = f"# Unanswerable twins in small\n\n{harness.table(columns, lines)}\n"
    harness.save(
        given.output, "unans-qa-small", {**harness.provenance("unans-qa-small"), "cells": cells}, page
    )


def mean(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    digits = 1 if max(values) > 1 else 3
    spread = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.{digits}f} ± {spread:.{digits}f}"


if __name__ == "__main__":
    main()

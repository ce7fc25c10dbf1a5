"""Whether a reader knows better that a text does not answer, once it was taught generated unanswerable twins.

    python -m benchmarks.text.unans_qa_reader --pairs FOLDER [--work FOLDER] [--minutes 9] [--seeds 3] [--steps 100]

FOLDER holds the released lists of `haichao592/UnAnsQ`, as for `benchmarks.text.unans_qa_small`. A seed cuts their
contexts in four: a generator (pair2seq, its small preset) learns on the first part, the second part teaches readers,
100 pairs choose a threshold, and about 900 pairs are tested. Every reader goes on from ``--start`` (the bundled reader,
which no labelled span has taught) with the same number of steps on the answerable questions of the second
part, beside: ``none``, nothing; ``another text``, the same
questions asked of another context; ``rules``, twins by rules; ``pair2seq``, generated twins; ``people``, the twins that
people wrote. The weights of the last step are tested.

F1 is SQuAD 2.0's over both kinds of questions, at the threshold that is best for the 100 pairs; "always none" has 50.
ROC AUC tells answerable from unanswerable questions without a threshold: 50 is chance. Between a question and a twin of
a person only few words differ.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_core.training import TrainOptions
from multiway_text.data.squad import Answer, Question, best_threshold, token_f1, write_squad
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.recipe import RECIPES as ENCODER
from multiway_text.unans_qa.augmentation import with_twins
from multiway_text.unans_qa.pairs import Pair, read_pairs
from multiway_text.unans_qa.pipeline import UnansQaPipeline
from multiway_text.unans_qa.recipe import RECIPES
from multiway_text.unans_qa.rules import RulePipeline
from sklearn.metrics import roc_auc_score

from benchmarks.text.ref_qa_small import LastStep
from benchmarks.text.unans_qa_small import shuffled, write_lists

START = "bundled:qa-small"
ARMS = ("another text", "pair2seq", "people", "rules", "none")
TESTED, DEV = 900, 100
LENGTH, BATCH, RATE = 192, 32, 1e-4


def parts(folder: Path, seed: int, work: Path) -> tuple[Path, list[Pair], list[Pair], list[Pair]]:
    """(lists for the generator, pairs for readers, pairs for the threshold, tested pairs); no context in two parts."""
    rows, place = shuffled(folder, seed)
    starts = [place[rows[count][0].split("\t")[0]] for count in (TESTED, TESTED + DEV)]
    middle = (starts[1] + len(place)) // 2
    cuts = {"test": (0, starts[0]), "dev": tuple(starts), "reader": (starts[1], middle)}
    cuts["generator"] = (middle, len(place))
    paths = {}
    for name, (first, last) in cuts.items():
        chosen = [row for row in rows if first <= place[row[0].split("\t")[0]] < last]
        paths[name] = write_lists(chosen, work / f"{name}-{seed}")
    reader, dev, test = (read_pairs([paths[name]]) for name in ("reader", "dev", "test"))
    return paths["generator"], reader, dev, test


def answerable(pairs: Sequence[Pair]) -> list[Question]:
    """The questions of pairs that have an answer."""
    found = []
    for number, pair in enumerate(pairs):
        one = pair.answerable
        answer = Answer(one.context[one.start : one.end], one.start)
        found.append(Question(f"a{number}", one.question, one.context, (answer,), "pairs"))
    return found


def unanswerable(pairs: Sequence[Pair]) -> list[Question]:
    """Their twins, which people wrote."""
    return [
        Question(f"u{number}", pair.twin, pair.answerable.context, (), "pairs")
        for number, pair in enumerate(pairs)
    ]


def generator(train: Path, seed: int, work: Path) -> UnansQaPipeline:
    """pair2seq, trained once a seed."""
    folder = work / f"pair2seq-{seed}"
    options = TrainOptions(folder, data=(str(train),), seed=seed)
    return UnansQaPipeline.from_pretrained(str(harness.trained(RECIPES["pair2seq-small"], options).folder))


def taught(arm: str, pairs: list[Pair], train: Path, seed: int, work: Path) -> list[Question]:
    """What the reader of an arm is taught."""
    questions = answerable(pairs)
    if arm == "none":
        return questions
    if arm == "people":
        return questions + unanswerable(pairs)
    if arm == "another text":
        contexts = sorted({one.context for one in questions})
        draw = random.Random(seed)
        others = []
        for one in questions:
            context = draw.choice([text for text in draw.sample(contexts, 2) if text != one.context])
            others.append(replace(one, id=f"{one.id}-other", context=context, answers=()))
        return questions + others
    writer = RulePipeline() if arm == "rules" else generator(train, seed, work)
    return with_twins(questions, writer).questions


def cell(arm: str, seed: int, given: Any) -> dict[str, Any]:
    """Train the reader of an arm and score it."""
    train, pairs, dev, test = parts(given.pairs, seed, given.work)
    questions = taught(arm, pairs, train, seed, given.work)
    name = f"{arm.replace(' ', '-')}-{seed}"
    data, held_out = given.work / f"taught-{name}.json", given.work / f"held-out-{seed}.json"
    write_squad(data, questions)
    write_squad(held_out, answerable(dev)[:8])  # only reported: no weights are chosen
    extract = ENCODER["extract"]
    recipe: Any = LastStep(
        **{
            **vars(extract),
            "base": given.start,
            "max_length": LENGTH,
            "batch_size": BATCH,
            "held_out": (str(held_out),),
            "train": replace(extract.train, learning_rate=RATE),
        }
    )
    options = TrainOptions(
        given.work / f"reader-{name}",
        data=(str(data),),
        init_from=given.start,
        seed=seed,
        steps=given.steps,
        precision="bf16",
    )
    started = time.process_time()
    report = harness.trained(recipe, options)
    seconds = time.process_time() - started
    reader = EncoderPipeline.from_pretrained(str(report.folder), dtype=torch.bfloat16)
    asked = [answerable(one) + unanswerable(one) for one in (dev, test)]
    (dev_none, dev_f1), (none, f1) = (read(reader, one) for one in asked)
    _, threshold = best_threshold(dev_f1, dev_none, [bool(one.answers) for one in asked[0]])
    said = [value <= threshold for value in none]
    scores = [
        score if answers and one.answers else float(answers == bool(one.answers))
        for score, answers, one in zip(f1, said, asked[1], strict=True)
    ]
    has = [bool(one.answers) for one in asked[1]]
    return {
        "arm": arm,
        "seed": seed,
        "taught": len(questions),
        "unanswerable": sum(not one.answers for one in questions),
        "f1": 100 * sum(scores) / len(scores),
        "has_answer_f1": 100 * sum(f1) / sum(has),
        "roc_auc": 100 * float(roc_auc_score([not one for one in has], none)),
        "tested": len(has),
        "train_seconds": seconds,
    }


def read(reader: EncoderPipeline, asked: Sequence[Question]) -> tuple[list[float], list[float]]:
    """Of each question (minus the margin of its answer, F1 of the answer; 0 where it has none)."""
    readings = list(reader.read([(one.question, one.context) for one in asked]))
    f1 = [
        token_f1(reading.best().text, one.texts) if one.answers else 0.0
        for reading, one in zip(readings, asked, strict=True)
    ]
    return [-reading.margin for reading in readings], f1


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("unans-qa-reader"))
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--start", default=START, help="the reader that is taught on (default: %(default)s)")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    cells = []
    for seed in range(given.seeds):
        for arm in ARMS:
            path = given.work / f"cell-{arm.replace(' ', '-')}-{seed}.json"
            cells += filter(None, [harness.kept(path, partial(cell, arm, seed, given), given.minutes)])
    columns = (
        "taught beside the answerable",
        "seeds",
        "F1",
        "ROC AUC",
        "F1 of the answerable",
        "unanswerable taught",
    )
    lines = []
    for arm in ARMS:
        own = [one for one in cells if one["arm"] == arm]
        if own:
            keys = (("f1", 1), ("roc_auc", 1), ("has_answer_f1", 1), ("unanswerable", 0))
            shown = [harness.spread([one[key] for one in own], digits) for key, digits in keys]
            lines.append((arm, len(own), *shown))
    page = f"# Unanswerable twins for a reader\n\n{given.steps} steps of {BATCH} windows from `{given.start}`.\n\n"
    report = {
        **harness.provenance("unans-qa-reader"),
        "steps": given.steps,
        "start": given.start,
        "cells": cells,
    }
    harness.save(given.output, "unans-qa-reader", report, page + harness.table(columns, lines) + "\n")


if __name__ == "__main__":
    main()

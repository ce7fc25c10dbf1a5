"""MiniLM in small: which way of distilling an encoder is best in the same number of steps?

    python -m benchmarks.text.minilm_small --teacher all-MiniLM-L6-v2 --descriptions FOLDER [--work FOLDER]

Teacher: the published all-MiniLM-L6-v2 (6 layers of 384). Students of 3 layers of 192 read the same rows of package
descriptions in the same order. They all begin alike: embeddings are the teacher's on its principal components, layers
are random. Arms: `none` (the beginning), `hidden` (squared error of states, projected), `minilm` (12 attention heads),
`minilmv2` (12 relation heads), `assistant` (half of the steps for a 6x192, half for the student, MiniLMv2).

Measured on packages of other sources: title to body accuracy@1 and a ridge probe of the section, both with frozen
vectors, and the section after fine-tuning on 1,000 texts. The work is cut in cells (an arm with a seed); one that the
folder --work holds is not computed again, and after --minutes none is begun.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_blocks import text_encoder
from multiway_core import hub
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainOptions
from multiway_text.minilm.recipe import RECIPES, Recipe

from benchmarks.text.encoder_downstream import Corpus, finetuned, probe, retrieval

ROWS, LENGTH, BATCH_TOKENS = 6000, 64, 2048
MEASURES = ("retrieval", "probe", "finetuned")
ARMS: dict[str, dict[str, Any]] = {
    "none": {},
    "hidden": {"method": "hidden"},
    "minilm": {"method": "minilm"},
    "minilmv2": {"method": "minilmv2"},
    "assistant": {"method": "minilmv2", "assistant": True},
}
CLAIMS = [("none", "minilmv2"), ("hidden", "minilmv2"), ("minilm", "minilmv2"), ("minilmv2", "assistant")]


def recipe(arm: str, teacher: Path, steps: int) -> Recipe:
    """The numbers of an arm."""
    steps = 1 if arm == "none" else steps // 2 if arm == "assistant" else steps
    base = RECIPES["minilm-small"]
    train = replace(
        base.train, steps=steps, warmup_steps=steps // 10, learning_rate=0 if arm == "none" else 1e-3
    )
    sizes = {"length": LENGTH, "batch_tokens": BATCH_TOKENS, "max_rows": ROWS, "field": "body"}
    return replace(base, teacher=str(teacher), principal_embedding=True, train=train, **sizes, **ARMS[arm])


def cell(
    arm: str, seed: int, teacher: Path, corpus: Corpus, data: Path, work: Path, steps: int
) -> dict[str, Any]:
    """One student's scores."""
    tokenizer = TextTokenizer.from_folder(teacher)
    if arm == "teacher":
        folder, cpu = teacher, 0.0
    else:
        started = time.process_time()
        report = harness.trained(
            recipe(arm, teacher, steps),
            TrainOptions(work / f"{arm}-{seed}", data=(str(data / "train.jsonl"),), seed=seed),
        )
        folder, cpu = report.folder, time.process_time() - started
    encoder = text_encoder.load(folder)
    scores = {
        "retrieval": retrieval(encoder, tokenizer, corpus),
        "probe": probe(encoder, tokenizer, corpus),
    }
    rate = 2e-4 if arm == "teacher" else 5e-4
    scores["finetuned"] = finetuned(encoder, tokenizer, corpus, seed, rate=rate)
    return {"arm": arm, "seed": seed, "steps": steps, "cpu_seconds": cpu, **scores}


def page(cells: list[dict[str, Any]], steps: int) -> str:
    """The tables."""
    by_arm = {arm: [c for c in cells if c["arm"] == arm] for arm in (*ARMS, "teacher")}
    teacher = by_arm["teacher"]

    def shown(found: list[dict[str, Any]], name: str) -> str:
        values = torch.tensor([100 * c[name] for c in found])
        text = f"{values.mean():.1f}" + (f" ± {values.std():.1f}" if len(values) > 1 else "")
        if teacher and found is not teacher:
            text += f" ({100 * values.mean() / (100 * teacher[0][name]):.0f} %)"
        return text

    rows = [
        [arm, len(found), *(shown(found, name) for name in MEASURES)]
        for arm, found in by_arm.items()
        if found
    ]
    columns = ["arm", "seeds", "title to body, accuracy@1", "section, ridge probe", "section, fine-tuned"]
    text = (
        f"# MiniLM in small\n\nStudents of 3 x 192, {steps} steps of {BATCH_TOKENS} tokens; percent, and in brackets "
        f"of the teacher's. {harness.machine()['cpu']}, one thread; `{harness.command()}`.\n\n"
        f"{harness.table(columns, rows)}\n"
    )
    for name in MEASURES:
        scores = {arm: {c["seed"]: 100 * c[name] for c in found} for arm, found in by_arm.items()}
        gaps = []
        for low, high in CLAIMS:
            seeds = sorted(set(scores[low]) & set(scores[high]))
            if seeds:
                gap = torch.tensor([scores[high][s] - scores[low][s] for s in seeds])
                spread = f" ± {gap.std():.1f}" if len(gap) > 1 else ""
                gaps.append(
                    [
                        f"{high} above {low}",
                        f"{gap.mean():+.1f}{spread}",
                        f"{int((gap > 0).sum())} of {len(gap)}",
                    ]
                )
        columns = ["claim", "gap", "seeds in which it is seen"]
        text += f"\n{name}, points over seeds:\n\n{harness.table(columns, gaps)}\n"
    return text


def main() -> None:
    """Compute what is missing, and write the page."""
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--descriptions", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("minilm-small"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--minutes", type=float, default=9.0)
    options = parser.parse_args()
    corpus, teacher = Corpus.read(options.descriptions), hub.resolve(options.teacher)
    cells = []
    for arm, seed in [*((a, s) for s in range(options.seeds) for a in ARMS), ("teacher", 0)]:
        path = options.work / f"{arm}-{seed}-{options.steps}.json"
        make = partial(cell, arm, seed, teacher, corpus, options.descriptions, options.work, options.steps)
        cells += filter(None, [harness.kept(path, make, options.minutes)])
    report = {**harness.provenance("minilm-small"), "cells": cells}
    harness.save(options.output, "minilm-small", report, page(cells, options.steps))


if __name__ == "__main__":
    main()

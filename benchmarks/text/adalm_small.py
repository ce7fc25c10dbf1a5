"""AdaLM in small: four ways to a small encoder of a domain, beside a general one, and what its words save.

    python -m benchmarks.text.adalm_small --teacher MODEL --descriptions FOLDER [--work FOLDER]

Teacher: the published all-MiniLM-L6-v2, a general encoder. Domain: package descriptions. Students of 3 layers of 192
whose embeddings begin as the teacher's on its principal components. `general` is distilled on the domain's texts with
the general vocabulary and teacher. Measured on packages of other sources: title to body accuracy@1 and a ridge probe of
the section, with frozen vectors, and tokens a word. Students that the folder --work holds are not trained again; after
--minutes none is begun.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_blocks import text_encoder
from multiway_core import hub
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainOptions
from multiway_text.adalm import recipe, vocabulary
from multiway_text.minilm import recipe as minilm

from benchmarks.text.encoder_downstream import LENGTH, Corpus, probe, retrieval

ARMS = ("general", *recipe.STRATEGIES)
CLAIMS = (
    ("general", "adapt-and-distil"),
    ("adapt-then-distil", "adapt-and-distil"),
    ("scratch", "adapt-and-distil"),
)


def numbers(arm: str, teacher: str, adapt: int, distil: int) -> recipe.Recipe | minilm.Recipe:
    """The recipe of an arm."""
    base = minilm.RECIPES["minilm-small"]
    small = replace(
        base,
        teacher=teacher,
        principal_embedding=True,
        length=LENGTH,
        batch_tokens=2048,
        max_rows=6000,
        field="body",
        train=replace(base.train, steps=distil, warmup_steps=distil // 10, learning_rate=1e-3),
    )
    if arm == "general":
        return small
    domain = recipe.RECIPES["adalm-small"]
    steps = adapt + distil if arm == "scratch" else adapt
    return replace(
        domain,
        teacher=teacher,
        strategy=arm,
        interval=5000,
        vocabulary_texts=20_000,
        field="body",
        adapt=replace(domain.adapt, steps=steps, warmup_steps=steps // 10, learning_rate=3e-4),
        distil=small,
    )


def cell(
    arm: str, options: TrainOptions, teacher: str, corpus: Corpus, steps: tuple[int, int]
) -> dict[str, object]:
    """A student's scores."""
    started = time.process_time()
    report = harness.trained(numbers(arm, teacher, *steps), options)
    cpu = time.process_time() - started
    assert report.folder is not None
    encoder, tokenizer = text_encoder.load(report.folder), TextTokenizer.from_folder(report.folder)
    before = TextTokenizer.from_folder(hub.resolve(teacher))
    found = vocabulary.compare([one.body for one in corpus.test], before, tokenizer)
    return {
        "arm": arm,
        "seed": options.seed,
        "vocabulary": encoder.config.vocab_size,
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "tokens_a_word": found.tokens_after / found.words,
        "saved": found.saved,
        "retrieval": retrieval(encoder, tokenizer, corpus),
        "probe": probe(encoder, tokenizer, corpus),
        "cpu_seconds": cpu,
    }


def main() -> None:
    """Train what is missing, and write the page."""
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--descriptions", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("adalm-small"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, nargs=2, default=(40, 80), metavar=("ADAPT", "DISTIL"))
    parser.add_argument("--minutes", type=float, default=6.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    corpus = Corpus.read(options.descriptions)
    adapt, distil = options.steps
    cells = []
    for seed in range(options.seeds):
        for arm in ARMS:
            output = options.work / f"{arm}-{seed}-{adapt}-{distil}"
            data = (str(options.descriptions / "train.jsonl"),)
            training = TrainOptions(output, data=data, seed=seed)
            make = partial(cell, arm, training, options.teacher, corpus, (adapt, distil))
            cells += filter(None, [harness.kept(output / "scores.json", make, options.minutes)])
    rows = [
        [
            one["arm"],
            one["seed"],
            f"{one['parameters'] / 1e6:.1f} M",
            f"{one['vocabulary']:,}",
            f"{one['tokens_a_word']:.3f} ({-100 * one['saved']:+.1f} %)",
            f"{100 * one['retrieval']:.1f}",
            f"{100 * one['probe']:.1f}",
            f"{one['cpu_seconds']:.0f}",
        ]
        for one in cells
    ]
    columns = ["student", "seed", "parameters", "pieces", "tokens a word", "title to body, accuracy@1"]
    columns += ["section, ridge probe", "CPU seconds"]
    by_arm = {(one["arm"], one["seed"]): one for one in cells}
    gaps = []
    for low, high in CLAIMS:
        for seed in range(options.seeds):
            if (low, seed) in by_arm and (high, seed) in by_arm:
                lower, higher = by_arm[low, seed], by_arm[high, seed]
                gap = [f"{100 * (higher[name] - lower[name]):+.1f}" for name in ("retrieval", "probe")]
                gaps.append([f"{high} above {low}", seed, *gap])
    page = (
        f"# AdaLM in small\n\nStudents of 3 x 192; {adapt} steps of adaptation and {distil} of distillation, of some "
        f"2,000 tokens. Percent, on packages of other sources. {harness.machine()['cpu']}, one thread; "
        f"`{harness.command()}`.\n\n{harness.table(columns, rows)}\n"
    )
    if gaps:
        page += f"\n{harness.table(['claim', 'seed', 'title to body, points', 'section, points'], gaps)}\n"
    harness.save(options.output, "adalm-small", {**harness.provenance("adalm-small"), "cells": cells}, page)


if __name__ == "__main__":
    main()

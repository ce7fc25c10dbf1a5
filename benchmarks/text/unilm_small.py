"""UniLM and UniLMv2 in small: does one encoder serve understanding and generation?

    python -m benchmarks.text.unilm_small --data FOLDER [--work FOLDER] [--seeds 3] [--minutes 10]

FOLDER holds train.jsonl, dev.jsonl and test.jsonl of `multiway_text.data.package_descriptions`, split by source.
Encoders of 2 layers of 128 (vocabulary of 4,000 pieces, texts of 48 tokens, bfloat16 autocast) are pretrained on the
bodies of the training split with one objective each, then fine-tuned for two tasks of the same packages:

* section: the package's section, 58 classes, from the body (pooled first token);
* title: the title line from the body. The target is predicted at pseudo masks, as in s2s-ft, and decoded greedily.

UniLM's arms have equal steps; UniLMv2's equal CPU time, which `STEPS` makes of the measured time of a step. "none" is
not pretrained. Controls of the title: the first eight words of the body, and the title of the training body that is
nearest by TF-IDF. All arms are fine-tuned at one rate; "none" at the better of two on the dev split. All
numbers are of the test split, which nothing else reads. Title nats are the cross-entropy of a true title's token given
the body and the title so far; ROUGE-L is `rouge_score`'s F1, unstemmed, on lower-cased text. Cloze nats are those of
the pretrained encoder alone, at the same hidden places of test bodies for all arms. Needs rouge-score and scikit-learn.

The work is cut in cells (an arm with a seed); what the folder --work holds is not done again, and after --minutes of
CPU time none is begun. Processes with one folder share the work: a cell is claimed by a file beside its result.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import torch
from multiway_blocks.masks import Role
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainConfig, TrainOptions
from multiway_text.data.masked_batch import NO_TARGET, MaskedBatch, Part, collate, masked_lm_loss
from multiway_text.data.package_descriptions import PackageDescription, load
from multiway_text.data.vocabulary import train_word_piece
from multiway_text.encoder import checkpoint
from multiway_text.encoder.heads import MaskedLM, SequenceClassifier
from multiway_text.pretraining import SHORTEST, TASKS, Objective, Recipe, row_maker, vocabulary
from torch import Tensor, nn

from benchmarks.text.paired_gaps import paired_gaps

LENGTH, TITLE = 48, 14
BATCH = 16
SECTION_TEXTS, TITLE_PAIRS = 3000, 3000
DEV, SECTION_TEST, TITLE_TEST, CLOZE_TEST = 500, 2000, 500, 500
RATE, RATES_OF_NONE = 1e-3, (1e-3, 2e-3)


@dataclass(frozen=True)
class Arm:
    """An objective and its steps of pretraining; ``types``: segment ids of a source and a target."""

    objective: Objective = "unilm"
    tasks: tuple[str, ...] = ()
    steps: int = 0
    types: tuple[int, int] = (0, 0)


STEPS = 1500
ARMS = {
    "none": Arm(types=(4, 5)),
    "UniLM": Arm(steps=STEPS, types=(4, 5)),
    "bidirectional": Arm(tasks=("bidirectional",), steps=STEPS, types=(0, 1)),
    "left to right": Arm(tasks=("left_to_right",), steps=STEPS, types=(2, 2)),
    "PMLM": Arm("pmlm", steps=1250),
    "autoencoding": Arm("pmlm", ("autoencoding",), steps=1800),
    "autoregressive": Arm("pmlm", ("autoregressive",), steps=1500),
}
CLAIMS = [
    ("none", "UniLM"), ("bidirectional", "UniLM"), ("left to right", "UniLM"),
    ("autoencoding", "PMLM"), ("autoregressive", "PMLM"),
]  # fmt: skip
MEASURES = {"section accuracy": -1, "title nats": 1, "title ROUGE-L": -1}
"""And the sign that makes a loss of each."""


@dataclass(frozen=True)
class Data:
    tokenizer: TextTokenizer
    train: list[PackageDescription]
    dev: list[PackageDescription]
    test: list[PackageDescription]

    @property
    def sections(self) -> list[str]:
        return sorted({record.section for record in self.train})

    def body(self, record: PackageDescription) -> list[int]:
        return self.tokenizer.encode(record.body)[: LENGTH - 2]


def recipe_of(arm: Arm, tokenizer: Path) -> Recipe:
    return Recipe(
        objective=arm.objective,
        tasks=arm.tasks,
        size="tiny",
        tokenizer=str(tokenizer),
        length=LENGTH,
        batch_size=BATCH,
        field="body",
        held_out_rows=32,
        train=TrainConfig(
            steps=max(arm.steps, 1),
            learning_rate=RATE if arm.steps else 0.0,
            warmup_steps=arm.steps // 10,
            schedule="linear",
            betas=(0.9, 0.98),
            weight_decay=0.01,
            precision="bf16",
            log_every=500,
            checkpoint_every_seconds=0,
        ),
    )


def prepare(data: Path, work: Path) -> None:
    """The tokenizer, and the training split's tokens, once for all runs."""
    bodies = [record.body for record in load(data / "train.jsonl")]
    train_word_piece(bodies, 4000).save(work / "tokenizer")
    options = TrainOptions(work / "prepared", (str(data / "train.jsonl"),))
    recipe_of(ARMS["none"], work / "tokenizer").build(options)
    (work / "prepared" / "data").rename(work / "data")


def pretrain(arm: Arm, seed: int, data: Path, work: Path, output: Path) -> None:
    if not (output / "data").exists():
        shutil.copytree(work / "data", output / "data")
    options = TrainOptions(output, (str(data / "train.jsonl"),), seed=seed, checkpoint_every=0)
    harness.trained(recipe_of(arm, work / "tokenizer"), options)


def fit(model: nn.Module, batches: Sequence[Any], loss: Any, rate: float) -> None:
    """One pass of AdamW with a linear rise over a tenth and decay."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    for step, batch in enumerate(batches):
        at = (step + 1) / len(batches)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(at / 0.1, (1 - at) / 0.9 + 1e-6)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(model, batch)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def padded(rows: Sequence[Sequence[int]], frame: tuple[int, int]) -> tuple[Tensor, Tensor]:
    length = max(map(len, rows)) + 2
    ids_BT = torch.zeros(len(rows), length, dtype=torch.long)
    for index, row in enumerate(rows):
        ids_BT[index, : len(row) + 2] = torch.tensor([frame[0], *row, frame[1]])
    return ids_BT, torch.arange(length) < torch.tensor([[len(row) + 2] for row in rows])


def section_accuracy(
    encoder: MaskedLM, data: Data, seed: int, rate: float, test: Sequence[PackageDescription]
) -> float:
    torch.manual_seed(seed)
    model = SequenceClassifier(encoder.encoder, len(data.sections))
    generator = np.random.default_rng(seed)
    chosen = [data.train[i] for i in generator.choice(len(data.train), SECTION_TEXTS, replace=False)]
    number = {section: index for index, section in enumerate(data.sections)}
    frame = data.tokenizer.special["[CLS]"], data.tokenizer.special["[SEP]"]

    def loss(model: SequenceClassifier, records: Sequence[PackageDescription]) -> Tensor:
        logits_BC = model(*padded([data.body(record) for record in records], frame))
        return nn.functional.cross_entropy(
            logits_BC.float(), torch.tensor([number[r.section] for r in records])
        )

    fit(model, [chosen[i : i + BATCH] for i in range(0, len(chosen), BATCH)], loss, rate)
    right = 0
    with torch.no_grad():
        for start in range(0, len(test), 64):
            records = test[start : start + 64]
            best = model(*padded([data.body(record) for record in records], frame)).argmax(1).tolist()
            right += sum(data.sections[k] == record.section for k, record in zip(best, records, strict=True))
    return right / len(test)


def title_row(
    data: Data,
    arm: Arm,
    record: PackageDescription,
    known: Sequence[int],
    hidden: Sequence[int],
    first: int = 0,
) -> list[Part]:
    """A body, the known tokens of its title, and pseudo masks for ``hidden``, tokens ``first`` and on of the title."""
    special = data.tokenizer.special
    source = [special["[CLS]"], *data.body(record), special["[SEP]"]]

    def part(role: Role, ids: Sequence[int], index_T: Any, targets: Sequence[int] | None = None) -> Part:
        start = 0 if role == Role.CONTEXT else len(source)
        types_T = np.full(len(ids), arm.types[role != Role.CONTEXT])
        wanted_T = np.full(len(ids), NO_TARGET) if targets is None else np.asarray(targets)
        return Part(role, np.asarray(ids, np.int64), wanted_T, start + index_T, types_T, index_T)

    return [
        part(Role.CONTEXT, source, np.arange(len(source))),
        part(Role.TRUE, known, np.arange(len(known))),
        part(Role.PSEUDO, [special["[MASK]"]] * len(hidden), np.arange(len(hidden)) + first, hidden),
    ]


def train_titles(model: MaskedLM, arm: Arm, data: Data, seed: int, rate: float) -> None:
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    chosen = [data.train[i] for i in generator.choice(len(data.train), TITLE_PAIRS, replace=False)]

    def loss(model: MaskedLM, records: Sequence[PackageDescription]) -> Tensor:
        found = masked_lm_loss(model, title_batch(data, arm, records))
        return found.total / found.weight

    fit(model, [chosen[i : i + BATCH] for i in range(0, len(chosen), BATCH)], loss, rate)


def title_batch(data: Data, arm: Arm, records: Sequence[PackageDescription]) -> MaskedBatch:
    end = data.tokenizer.special["[SEP]"]
    targets = [[*data.tokenizer.encode(record.title)[: TITLE - 1], end] for record in records]
    return collate([title_row(data, arm, r, ids, ids) for r, ids in zip(records, targets, strict=True)], 0)


@torch.no_grad()
def title_nats(model: MaskedLM, arm: Arm, data: Data, records: Sequence[PackageDescription]) -> float:
    """Cross-entropy of a true title's token given the body and the tokens before it."""
    found = [
        masked_lm_loss(model, title_batch(data, arm, records[i : i + 50])) for i in range(0, len(records), 50)
    ]
    return sum(float(loss.total) for loss in found) / sum(float(loss.weight) for loss in found)


@torch.no_grad()
def cloze_nats(model: MaskedLM, objective: Objective, data: Data) -> dict[str, float]:
    """Cross-entropy of a hidden token in bodies of the test split, task by task, at the same places for all arms."""
    found = {}
    for task in TASKS[objective]:
        make = row_maker(objective, {task: 1.0}, vocabulary(data.tokenizer))
        rows = [
            make(np.array(data.body(record)), np.random.default_rng(index))
            for index, record in enumerate(data.test[:CLOZE_TEST])
            if len(data.body(record)) >= SHORTEST
        ]
        losses = [masked_lm_loss(model, collate(rows[i : i + 50], 0)) for i in range(0, len(rows), 50)]
        found[task] = sum(float(loss.total) for loss in losses) / sum(float(loss.weight) for loss in losses)
    return found


@torch.no_grad()
def titles(model: MaskedLM, arm: Arm, data: Data, records: Sequence[PackageDescription]) -> list[str]:
    """Greedy titles; a token that would repeat the one before is never taken."""
    end = data.tokenizer.special["[SEP]"]
    written: list[str] = []
    for start in range(0, len(records), 50):
        part = records[start : start + 50]
        known: list[list[int]] = [[] for _ in part]
        going = list(range(len(part)))
        for step in range(TITLE):
            batch: MaskedBatch = collate(
                [title_row(data, arm, part[i], known[i], [0], step) for i in going], 0
            )
            with torch.autocast("cpu", dtype=torch.bfloat16):
                hidden_BTE = model.encoder(
                    batch.ids_BT,
                    batch.valid_BT,
                    mask=batch.visibility(),
                    positions_BT=batch.positions_BT,
                    types_BT=batch.types_BT,
                ).hidden_BTE[:, -1]
                logits_BV = model.logits(hidden_BTE).float()
            logits_BV[:, : len(data.tokenizer.special)] = torch.where(
                torch.arange(len(data.tokenizer.special)) == end,
                logits_BV[:, : len(data.tokenizer.special)],
                -torch.inf,
            )
            for row, i in enumerate(going):
                if step:
                    logits_BV[row, known[i][-1]] = -torch.inf
                else:
                    logits_BV[row, end] = -torch.inf
            best = logits_BV.argmax(1).tolist()
            for i, token in zip(going, best, strict=True):
                known[i].append(token)
            going = [i for i, token in zip(going, best, strict=True) if token != end]
            if not going:
                break
        written += [data.tokenizer.decode([token for token in ids if token != end]) for ids in known]
    return written


def rouge_l(found: Sequence[str], records: Sequence[PackageDescription]) -> float:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    scores = [
        scorer.score(record.title.lower(), text.lower())["rougeL"].fmeasure
        for text, record in zip(found, records, strict=True)
    ]
    return 100 * statistics.mean(scores)


def controls(data: Data) -> dict[str, float]:
    """ROUGE-L of the lead and of the nearest body's title; accuracy of the most frequent section."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    test = data.test[:TITLE_TEST]
    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    train = vectorizer.fit_transform([record.body for record in data.train])
    nearest = (vectorizer.transform([record.body for record in test]) @ train.T).toarray().argmax(1)
    counts = [record.section for record in data.train]
    most = max(set(counts), key=counts.count)
    return {
        "lead, ROUGE-L": rouge_l([" ".join(record.body.split()[:8]) for record in test], test),
        "nearest body's title, ROUGE-L": rouge_l([data.train[i].title for i in nearest], test),
        "most frequent section, accuracy": statistics.mean(record.section == most for record in data.test),
    }


def rates_of_none(arm: Arm, data: Data, fresh: Callable[[], MaskedLM], path: Path) -> dict[str, float]:
    """The better rate for each task on the dev split, with seed 0."""
    if not path.is_file():
        scores: dict[str, dict[float, float]] = {"section": {}, "title": {}}
        for rate in RATES_OF_NONE:
            scores["section"][rate] = section_accuracy(fresh(), data, 0, rate, data.dev[: 2 * DEV])
            model = fresh()
            train_titles(model, arm, data, 0, rate)
            scores["title"][rate] = -title_nats(model, arm, data, data.dev[:DEV])
        path.write_text(
            json.dumps({task: max(found, key=found.__getitem__) for task, found in scores.items()})
        )
    found: dict[str, float] = json.loads(path.read_text())
    return found


def cell(name: str, seed: int, folder: Path, data: Data, work: Path) -> dict[str, Any]:
    arm, output = ARMS[name], work / f"{name.replace(' ', '-')}-{seed}"
    start = time.process_time()
    pretrain(arm, seed, folder, work, output)
    seconds = time.process_time() - start

    def fresh() -> MaskedLM:
        model, _ = checkpoint.load(output / "model", MaskedLM)
        assert isinstance(model, MaskedLM)
        return model

    cloze = cloze_nats(fresh(), arm.objective, data)
    rates = {"section": RATE, "title": RATE}
    if name == "none":
        rates = rates_of_none(arm, data, fresh, work / "rates.json")
    accuracy = section_accuracy(fresh(), data, seed, rates["section"], data.test[:SECTION_TEST])
    model = fresh()
    train_titles(model, arm, data, seed, rates["title"])
    test = data.test[:TITLE_TEST]
    written = titles(model, arm, data, test)
    return {
        "section accuracy": 100 * accuracy,
        "title nats": title_nats(model, arm, data, test),
        "title ROUGE-L": rouge_l(written, test),
        "cloze nats": cloze,
        "rates": rates,
        "pretrain_cpu_seconds": round(seconds, 1),
        "cpu_seconds": round(time.process_time() - start, 1),
        "examples": [[record.title, text] for record, text in zip(test[:8], written[:8], strict=True)],
    }


def claimed(path: Path) -> bool:
    """Whether this process is the first to ask."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def markdown(report: dict[str, Any]) -> str:
    by_arm: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in ARMS}
    for key, one in report["cells"].items():
        name, seed = key.split(", seed ")
        by_arm[name][int(seed)] = one
    by_arm = {name: by_seed for name, by_seed in by_arm.items() if by_seed}
    rows, cloze = [], []
    for name, by_seed in by_arm.items():
        found = list(by_seed.values())
        seconds = statistics.mean(one["pretrain_cpu_seconds"] for one in found)
        numbers = (harness.spread([one[measure] for one in found], 2) for measure in MEASURES)
        rows.append([name, ARMS[name].steps, f"{seconds:.0f}", *numbers])
        nats = (
            f"{task} {harness.spread([one['cloze nats'][task] for one in found], 2)}"
            for task in found[0]["cloze nats"]
        )
        cloze.append([name, ", ".join(nats)])
    gaps = [
        f"{measure}, by how much the second is better:\n\n"
        + paired_gaps(
            {
                name: {seed: sign * one[measure] for seed, one in by_seed.items()}
                for name, by_seed in by_arm.items()
            },
            CLAIMS,
        )
        for measure, sign in MEASURES.items()
    ]
    machine = report["machine"]
    text = [
        "# UniLM and UniLMv2 in small",
        f"Mean ± standard deviation over seeds. One thread of {machine['cpu']} at a load of "
        f"{machine['load_average']:.0f}, {report['finished_at']}; `{report['command']}`.",
        harness.table(["pretraining", "steps", "CPU s", *MEASURES], rows),
        "Cloze nats of the pretrained encoders:\n\n" + harness.table(["pretraining", "by task"], cloze, 2),
        "\n".join(f"* {name}: {value:.3f}" for name, value in report["controls"].items()),
        *gaps,
    ]
    return "\n\n".join(text) + "\n"


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/unilm-small"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10.0, help="of CPU time, after which no cell begins")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    parts = {name: load(options.data / f"{name}.jsonl") for name in ("train", "dev", "test")}
    if not (options.work / "data").exists():
        prepare(options.data, options.work)
    generator = np.random.default_rng(0)
    dev, test = (
        [parts[name][i] for i in generator.permutation(len(parts[name]))] for name in ("dev", "test")
    )
    data = Data(TextTokenizer.from_folder(options.work / "tokenizer"), parts["train"], dev, test)
    cells: dict[str, Any] = {}
    for seed, name in ((seed, name) for seed in range(options.seeds) for name in ARMS):
        path = options.work / f"{name.replace(' ', '-')}-{seed}.json"
        if not path.is_file():
            if time.process_time() / 60 > options.minutes or not claimed(path.with_suffix(".claim")):
                continue
            path.write_text(json.dumps(cell(name, seed, options.data, data, options.work)))
        cells[f"{name}, seed {seed}"] = json.loads(path.read_text())
        print(name, seed, cells[f"{name}, seed {seed}"], flush=True)
    report = {
        **harness.provenance("unilm-small"),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cells": cells,
        "controls": controls(data),
    }
    harness.save(options.output, "unilm-small", report, markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()

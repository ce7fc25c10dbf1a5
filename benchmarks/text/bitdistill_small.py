"""BitDistill in small: does a ternary student keep its teacher's accuracy where direct fine-tuning does not?

    python -m benchmarks.text.bitdistill_small DATA [--output DIR] [--work FOLDER] [--seeds 3]

DATA holds AG News as ``dev.tsv.gz`` (10,000 texts) and ``test.tsv.gz`` (7,581 whole lines). As in arXiv 2510.13998,
what a model knows comes from before the task, and the task's own set is small. A LLaMA-like model is pretrained on
9,000 texts: as a language model, then to name each text's topic in words, as published models have read instructions.
The task is to answer with a letter for the topic, and has 100 of these texts. From the one pretrained model begin,
in full precision,

* the teacher: fine-tuned with the task; the same without pretraining shows what pretraining is worth;

and, with ternary maps and int8 activations, the paper's ladder:

* BitNet-SFT: the maps become BitLinear and are fine-tuned at once;
* + sub-LN: a norm before the output and down maps, its weight the size of the teacher's vectors;
* + continued training: the instructions of the pretraining once more, before the task;
* + logits: the task with the teacher's logits (lambda 10, temperature 5, as published);
* + relations: and with the relations of queries, keys and values in the last layer. This is BitDistill;
* a control in full precision: the teacher, had it had the same continued training.

All have the same epochs and batches of the task, and each its own rate of one grid, the best of the first seed by
accuracy on 1,000 other texts. A seed draws the 100 texts and their order; the pretrained model is one, as a published
checkpoint is. The number is accuracy on the test texts, which nothing is trained on or chosen by.

The work is cut in cells (a system with a seed); one that the folder --work holds is not trained again.
"""

from __future__ import annotations

import gzip
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_blocks.bitlinear import BitLinear
from multiway_blocks.text_decoder import CausalLM
from multiway_core.training import Loss, TrainConfig, Trainer
from multiway_text.bitdistill.examples import NO_TARGET, Batch, Batches, Example, batch
from multiway_text.bitdistill.objective import BitDistillation
from multiway_text.bitdistill.student import from_teacher
from multiway_text.decoders.bitnet import checkpoint
from multiway_text.decoders.bitnet.model import BitNet
from multiway_text.decoders.llama.config import LlamaConfig
from multiway_text.decoders.llama.model import Llama
from multiway_text.decoders.llama.ternary import maps
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import nn

LAYERS, WIDTH, HEADS, INNER, VOCABULARY = 6, 128, 4, 384, 4096
LONGEST = 64  # tokens of a text
VALIDATION, LABELLED = 1000, 100
READING, NAMING, CONTINUED, TUNING = 2.0, 2.0, 1.0, 10.0  # epochs
READING_RATE, NAMING_RATE, RATES = 3e-3, 1e-3, (2.5e-4, 5e-4, 1e-3)
RELATION_WEIGHT = 100.0  # makes the relations' part as large as the logits' when the fine-tuning begins
NOTHING = torch.zeros(0, 0)

TEACHER, UNTRAINED, DIRECT = "teacher", "teacher without pretraining", "BitNet-SFT"
SUB_LN, CONTINUE = "+ sub-LN", "+ continued training"
LOGITS, RELATIONS = "+ logits", "+ relations (BitDistill)"
CONTROL = "control: teacher + continued training"
SYSTEMS = (TEACHER, UNTRAINED, DIRECT, SUB_LN, CONTINUE, LOGITS, RELATIONS, CONTROL)


def read(path: Path) -> list[tuple[str, str]]:
    """(text, topic) of every line."""
    lines = gzip.decompress(path.read_bytes()).decode().strip().split("\n")  # some texts hold other line ends
    parts = (line.rpartition("\t") for line in lines)
    return [(text, topic) for text, tab, topic in parts if tab]  # the last line of the test file is cut off


def train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


class Task:
    """The texts of AG News as examples: to read, to name, to fine-tune with, to choose by, and to test."""

    def __init__(self, data: Path, test_lines: int | None = None) -> None:
        rows, test = read(data / "dev.tsv.gz"), read(data / "test.tsv.gz")[:test_lines]
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1)).tolist()
        held, self.rows = [rows[i] for i in order[:VALIDATION]], [rows[i] for i in order[VALIDATION:]]
        self.tokenizer = train_tokenizer([text for text, _ in self.rows])
        topics = sorted({topic for _, topic in rows})
        words = {topic: self._ids(f" {topic}") for topic in topics}
        letters = {topic: self._ids(letter) for topic, letter in zip(topics, "ABCD", strict=True)}
        self.letters = torch.tensor([ids[0] for ids in letters.values()])
        texts = [self._ids(text)[:LONGEST] for text, _ in self.rows]
        self.reading = [Example(ids[:1], ids[1:], [], NOTHING) for ids in texts]
        self.naming = self._asked(self.rows, words)
        self.lettered = self._asked(self.rows, letters)
        self.validation, self.test = self._asked(held, letters), self._asked(test, letters)

    def labelled(self, seed: int) -> list[Example]:
        """The few texts that a seed fine-tunes with."""
        order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(100 + seed))
        return [self.lettered[i] for i in order[:LABELLED].tolist()]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text).ids
        return ids

    def _asked(self, rows: Sequence[tuple[str, str]], answers: dict[str, list[int]]) -> list[Example]:
        ask = self._ids(" topic:")
        return [Example([*self._ids(x)[:LONGEST], *ask], answers[topic], [], NOTHING) for x, topic in rows]

    @torch.inference_mode()
    def accuracy(self, model: CausalLM, examples: Sequence[Example]) -> float:
        """Percent of the examples whose letter is the likeliest of the four."""
        model = packed(model) if isinstance(model, BitNet) else model.eval()
        ordered = sorted(examples, key=lambda example: len(example.prompt))  # little padding
        right = 0
        for start in range(0, len(ordered), 100):
            part = batch(ordered[start : start + 100])
            places = part.targets_BT != NO_TARGET
            with torch.autocast("cpu", torch.bfloat16):
                hidden = model.hidden(part.tokens_BT)[places]
            chosen = self.letters[model.logits(hidden)[:, self.letters].float().argmax(-1)]
            right += int((chosen == part.targets_BT[places]).sum())
        return 100 * right / len(examples)


def packed(student: BitNet) -> BitNet:
    """The student with two bits a weight, as it is run."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(student, Path(folder))
        return checkpoint.load(Path(folder), dtype=torch.bfloat16)


def nll(model: nn.Module, batch: Batch) -> Loss:
    """Cross-entropy alone."""
    assert isinstance(model, CausalLM)
    places = batch.targets_BT != NO_TARGET
    logits = model.logits(model.hidden(batch.tokens_BT)[places]).float()
    total = nn.functional.cross_entropy(logits, batch.targets_BT[places], reduction="sum")
    return Loss(total, int(places.sum()), samples=len(batch.tokens_BT))


def fit(
    model: nn.Module, examples: Sequence[Example], epochs: float, rate: float, seed: int,
    objective: Callable[[nn.Module, Any], Loss] = nll, tokens: int = 1024,
) -> None:  # fmt: skip
    batches = Batches(examples, tokens, seed=seed)
    steps = round(epochs * batches.per_epoch)
    config = TrainConfig(
        steps=steps, learning_rate=rate, warmup_steps=steps // 20, schedule="linear", weight_decay=0.01,
        precision="bf16", checkpoint_every_seconds=0, seed=seed,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        Trainer(model, objective, batches, config, Path(folder)).fit()


def ternary_in_place(model: Llama) -> Llama:
    """Every map of the layers as BitLinear; nothing else changes."""
    for _, parent, name, linear in maps(model):
        assert isinstance(linear, nn.Linear)
        ternary = BitLinear(linear.in_features, linear.out_features)
        ternary.weight.data.copy_(linear.weight.data)
        setattr(parent, name, ternary)
    return model


def new_model() -> Llama:
    sizes = LlamaConfig(
        hidden_size=WIDTH, num_layers=LAYERS, num_heads=HEADS, num_kv_heads=HEADS // 2, head_dim=WIDTH // HEADS,
        inner_size=INNER, vocab_size=VOCABULARY, max_positions=128, rope_theta=10_000.0,
    )  # fmt: skip
    model = Llama(sizes)
    nn.init.normal_(model.embedding.weight, std=0.02)
    return model


class Systems:
    """Every system as it is before the task; what is trained for several is kept in the folder ``work``."""

    def __init__(self, task: Task, work: Path) -> None:
        self.task, self.work = task, work
        torch.manual_seed(0)
        self.pretrained = new_model()
        self._train("read", self.pretrained, task.reading, READING, READING_RATE)
        self._train("pretrained", self.pretrained, task.naming, NAMING, NAMING_RATE)
        self.continued = self._student()
        self._train("continued", self.continued, task.naming, CONTINUED, NAMING_RATE)
        self.control = new_model()
        self.control.load_state_dict(self.pretrained.state_dict())
        self._train("control", self.control, task.naming, CONTINUED, NAMING_RATE)

    def start(self, system: str, seed: int) -> CausalLM:
        """A new model, which may be trained."""
        torch.manual_seed(seed)
        if system == UNTRAINED:
            return new_model()
        if system in (TEACHER, DIRECT, CONTROL):
            model = new_model()
            model.load_state_dict((self.control if system == CONTROL else self.pretrained).state_dict())
            return ternary_in_place(model) if system == DIRECT else model
        student = self._student()
        if system != SUB_LN:
            student.load_state_dict(self.continued.state_dict())
        return student

    def objective(self, system: str, seed: int) -> Callable[[nn.Module, Any], Loss]:
        """What its fine-tuning minimises."""
        if system not in (LOGITS, RELATIONS):
            return nll
        teacher = self.tuned(TEACHER, seed)
        weight = RELATION_WEIGHT if system == RELATIONS else 0.0
        assert isinstance(teacher, Llama)
        return BitDistillation(teacher.eval().requires_grad_(False), splits=HEADS, relation_weight=weight)

    def path(self, system: str, seed: int) -> Path:
        """Where its weights behind the fine-tuning are kept."""
        return self.work / f"{SYSTEMS.index(system)}-{seed}.pt"

    def tuned(self, system: str, seed: int) -> CausalLM:
        """The system behind its fine-tuning."""
        model = self.start(system, seed)
        model.load_state_dict(torch.load(self.path(system, seed)))
        return model

    def _student(self) -> BitNet:
        prompts = [e.prompt + e.answer[:20] for e in self.task.reading if len(e.answer) >= 20][:64]
        return from_teacher(self.pretrained, range(LAYERS), torch.arange(VOCABULARY), torch.tensor(prompts))

    def _train(self, name: str, model: CausalLM, examples: list[Example], epochs: float, rate: float) -> None:
        path = self.work / f"{name}.pt"
        if not path.is_file():
            fit(model, examples, epochs, rate, 0)
            torch.save(model.state_dict(), path)
        model.load_state_dict(torch.load(path))


def tune(system: str, seed: int, systems: Systems, rates: Sequence[float]) -> dict[str, Any]:
    """Fine-tune a system at every rate, and keep the model that is best on the validation texts."""
    task, started = systems.task, time.process_time()
    tried: dict[float, tuple[float, CausalLM]] = {}
    for rate in rates:
        model = systems.start(system, seed)
        fit(model, task.labelled(seed), TUNING, rate, seed, systems.objective(system, seed), tokens=256)
        # One rate is no choice: validation is left out.
        tried[rate] = task.accuracy(model, task.validation) if len(rates) > 1 else 0.0, model
    rate = max(tried, key=lambda rate: tried[rate][0])
    torch.save(tried[rate][1].state_dict(), systems.path(system, seed))
    validation = {str(rate): found for rate, (found, _) in tried.items()} if len(rates) > 1 else {}
    seconds = round(time.process_time() - started, 1)
    return {"rate": rate, "validation": validation, "test": {}, "cpu_seconds": seconds}


def costs(systems: Systems) -> dict[str, dict[str, float]]:
    """Teacher and student as they run, in bfloat16 otherwise: bytes, and tokens a second in turn (median of 5)."""
    teacher = new_model()
    teacher.load_state_dict(systems.pretrained.state_dict())
    models = {"teacher": teacher.bfloat16().eval(), "student": packed(systems.continued)}
    speeds = [{name: decoding_speed(model) for name, model in models.items()} for _ in range(5)]
    found = {}
    for name, model in models.items():
        sizes = {key: tensor.numel() * tensor.element_size() for key, tensor in model.state_dict().items()}
        speed = statistics.median(one[name] for one in speeds)
        embedding = sizes.pop("embedding.weight")
        found[name] = {
            "tokens_per_second": speed,
            "embedding_bytes": embedding,
            "other_bytes": sum(sizes.values()),
        }
    return found


@torch.inference_mode()
def decoding_speed(model: CausalLM, tokens: int = 100) -> float:
    """Tokens a second, one after the other."""
    cache = model.new_cache(1, tokens)
    started = time.perf_counter()
    for token in range(tokens):
        model.decode(torch.tensor([[token]]), cache)
    return tokens / (time.perf_counter() - started)


def markdown(report: dict[str, Any]) -> str:
    """The report as a page."""
    cells, machine, tested = report["cells"], report["machine"], str(report["test_texts"])
    tests = {name: [cell["test"][tested] for cell in cells[name]] for name in SYSTEMS}
    rows = [
        "| system | rate | each seed | mean | above the teacher | above BitNet-SFT | above the control |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for system, found in tests.items():
        gaps = []
        for other in (TEACHER, DIRECT, CONTROL):
            pairs = [own - theirs for own, theirs in zip(found, tests[other], strict=True)]
            spread = f" +- {statistics.stdev(pairs):.2f}" if len(pairs) > 1 else ""
            gaps.append("" if other == system else f"{statistics.mean(pairs):+.2f}{spread}")
        each, rate = ", ".join(f"{value:.2f}" for value in found), cells[system][0]["rate"]
        rows.append(f"| {system} | {rate:g} | {each} | {statistics.mean(found):.2f} | {' | '.join(gaps)} |")
    widths = "tokens_per_second", "embedding_bytes", "other_bytes"
    speeds = [
        f"| {name} | {' | '.join(f'{cost[key]:,.0f}' for key in widths)} |"
        for name, cost in report["costs"].items()
    ]
    lines = [
        "# BitDistill in small: topics of AG News",
        "",
        f"`{report['command']}`; one thread of {machine['cpu']} at a load of {machine['load_average']:.0f}, "
        f"{report['finished_at']}, {report['cpu_minutes']:.0f} CPU minutes behind the pretraining. {LAYERS} layers "
        f"of width {WIDTH}, {LABELLED} texts of the task; accuracy on {report['test_texts']:,} test texts, %. "
        f"Differences are paired by seed, +- is their deviation over {len(cells[TEACHER])} seed(s). Rates were "
        f"chosen by {VALIDATION:,} other texts.",
        "",
        *rows,
        "",
        "| decoding, one thread | tokens/s | bytes of the embedding (bfloat16) | bytes of all other weights |",
        "|---|--:|--:|--:|",
        *speeds,
        "",
        "So small a model lies in the cache, and its step is calls more than memory: what ternary weights bring in "
        "speed is measured with 43 million weights, in [`lm-tiny.md`](lm-tiny.md). Packed rows are multiples of 256 "
        "weights, so that half of most of these is padding.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/bitdistill-small"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test-lines", type=int, help="the first so many; all unless given")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    task = Task(options.data, options.test_lines)
    systems, tested = Systems(task, options.work), str(len(task.test))
    found: dict[str, list[dict[str, Any]]] = {system: [] for system in SYSTEMS}
    for seed in range(options.seeds):
        for system in SYSTEMS:
            path = systems.path(system, seed).with_suffix(".json")
            rates = RATES if seed == 0 else [found[system][0]["rate"]]
            cell = json.loads(path.read_text()) if path.is_file() else tune(system, seed, systems, rates)
            path.write_text(json.dumps(cell))
            if tested not in cell["test"]:
                cell["test"][tested] = task.accuracy(systems.tuned(system, seed), task.test)
                path.write_text(json.dumps(cell))
            found[system].append(cell)
            print(system, seed, cell, flush=True)
        report = {
            **harness.provenance("bitdistill-small", 2),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": f"python -m benchmarks.text.bitdistill_small DATA --seeds {options.seeds}"
            + (f" --test-lines {options.test_lines}" if options.test_lines else ""),
            "test_texts": len(task.test),
            "cpu_minutes": sum(cell["cpu_seconds"] for cells in found.values() for cell in cells) / 60,
            "costs": costs(systems),
            "cells": found,
        }
        harness.save(options.output, "bitdistill-small", report, markdown(report))


if __name__ == "__main__":
    main()

"""BitDistill in small: does a ternary student keep its teacher's accuracy where direct fine-tuning does not?

    python benchmarks/bitdistill_small.py DATA [--output benchmarks/results] [--seeds 3] [--scale 1.0]

DATA holds AG News as ``dev.tsv.gz`` (10,000 texts, to train on) and ``test.tsv.gz`` (7,581 whole lines). A small
LLaMA-like model reads the training texts as a language model, then learns to name the topic behind a text (the
teacher). Students begin with the language model, not with the teacher:

* direct: its maps become BitLinear, then it is fine-tuned (BitNet-SFT of the paper);
* + sub-LN: the same with a norm before the output and down maps (fresh norms, and with the sizes of the teacher);
* + continued training: 1.5 more epochs of the texts before that;
* BitDistill: all of it, with the teacher's logits and relations in the fine-tuning.

Every student is fine-tuned for the same epochs with the same batches and rate. The number is accuracy on the test set.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_blocks.bitlinear import BitLinear
from multiway_core.training import Loss, TrainConfig, Trainer
from multiway_text.bitdistill.examples import NO_TARGET, Batch, Batches, Example
from multiway_text.bitdistill.objective import BitDistillation
from multiway_text.bitdistill.student import from_teacher
from multiway_text.causal_lm import CausalLM
from multiway_text.llama.config import LlamaConfig
from multiway_text.llama.model import Llama
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn

LONGEST = 80
NOTHING = torch.zeros(0, 0)


def read(path: Path) -> list[tuple[str, str]]:
    """(text, topic) of every line."""
    lines = gzip.decompress(path.read_bytes()).decode().strip().split("\n")  # some texts hold other line ends
    parts = (line.rpartition("\t") for line in lines)
    return [(text, topic) for text, tab, topic in parts if tab]  # the last line of the test file is cut off


def train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=4096, initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer


def nll(model: nn.Module, batch: Batch) -> Loss:
    """Cross-entropy alone."""
    assert isinstance(model, CausalLM)
    places = batch.targets_BT != NO_TARGET
    logits = model.logits(model.hidden(batch.tokens_BT)[places]).float()
    total = nn.functional.cross_entropy(logits, batch.targets_BT[places], reduction="sum")
    return Loss(total, int(places.sum()), samples=len(batch.tokens_BT))


def fit(
    model: nn.Module, examples: Sequence[Example], epochs: float, rate: float, seed: int,
    objective: Callable[[nn.Module, Any], Loss] = nll,
) -> None:  # fmt: skip
    batches = Batches(examples, 2048, seed=seed)
    steps = max(2, round(epochs * batches.per_epoch))
    config = TrainConfig(
        steps=steps,
        learning_rate=rate,
        warmup_steps=max(1, steps // 20),
        schedule="linear",
        weight_decay=0.01,
        precision="bf16",
        checkpoint_every_seconds=0,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        Trainer(model, objective, batches, config, Path(folder)).fit()


@torch.inference_mode()
def accuracy(model: CausalLM, examples: Sequence[Example], labels: Tensor) -> float:
    model.eval()
    right = 0
    for start in range(0, len(examples), 100):
        part = examples[start : start + 100]
        longest = max(len(e.prompt) for e in part)
        tokens = torch.zeros(len(part), longest, dtype=torch.long)
        for row, e in enumerate(part):
            tokens[row, : len(e.prompt)] = torch.tensor(e.prompt)
        last = torch.tensor([len(e.prompt) - 1 for e in part])
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.hidden(tokens)[torch.arange(len(part)), last]
        chosen = model.logits(hidden).float()[:, labels].argmax(-1)
        right += int((labels[chosen] == torch.tensor([e.answer[0] for e in part])).sum())
    return right / len(examples)


def ternary_in_place(model: Llama) -> Llama:
    """Every map of the layers as BitLinear; nothing else changes."""
    for layer in model.layers:
        for part in (layer.attention, layer.feedforward):
            for name in ("query", "key", "value", "output", "gate", "up", "down"):
                old = getattr(part, name, None)
                if isinstance(old, nn.Linear):
                    new = BitLinear(old.in_features, old.out_features)
                    new.weight.data.copy_(old.weight.data)
                    setattr(part, name, new)
    return model


def copy_of(model: Llama) -> Llama:
    made = Llama(model.config)
    made.load_state_dict(model.state_dict())
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the epochs; less is for trying it out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, test = read(options.data / "dev.tsv.gz"), read(options.data / "test.tsv.gz")
    tokenizer = train_tokenizer([text for text, _ in train])
    topics = sorted({topic for _, topic in train})
    ids = {topic: number for number, topic in enumerate(topics)}
    labels = torch.tensor([tokenizer.token_to_id(chr(ord("A") + number)) for number in range(len(topics))])
    ask = tokenizer.encode(" topic:").ids

    def task(rows: Sequence[tuple[str, str]]) -> list[Example]:
        return [
            Example([*tokenizer.encode(text).ids[:LONGEST], *ask], [int(labels[ids[topic]])], [], NOTHING)
            for text, topic in rows
        ]

    texts = [
        Example(tokens[:1], tokens[1:], [], NOTHING)
        for tokens in (tokenizer.encode(text).ids[:LONGEST] for text, _ in train)
    ]
    learn, measure = task(train), task(test)
    sizes = LlamaConfig(
        hidden_size=128,
        num_layers=4,
        num_heads=4,
        num_kv_heads=2,
        head_dim=32,
        inner_size=384,
        vocab_size=tokenizer.get_vocab_size(),
        max_positions=128,
        norm_eps=1e-5,
        rope_theta=10_000.0,
        tied_embeddings=True,
    )
    found: dict[str, list[float]] = {}
    started = time.time()

    def note(name: str, model: CausalLM) -> None:
        found.setdefault(name, []).append(100 * accuracy(model, measure, labels))
        print(f"{time.time() - started:6.0f} s  {name}: {found[name][-1]:.2f}", flush=True)

    for seed in range(options.seeds):
        torch.manual_seed(seed)
        base = Llama(sizes)
        nn.init.normal_(base.embedding.weight, std=0.02)
        fit(base, texts, 4 * options.scale, 2e-3, seed)
        tune = 3 * options.scale
        teacher = copy_of(base)
        fit(teacher, learn, tune, 1e-3, seed)
        note("teacher", teacher)
        sample = torch.tensor(
            [texts[i].prompt + texts[i].answer[:20] for i in range(64) if len(texts[i].answer) >= 20]
        )
        everything = (range(sizes.num_layers), torch.arange(sizes.vocab_size), sample)

        direct = ternary_in_place(copy_of(base))
        fit(direct, learn, tune, 1e-3, seed)
        note("direct BitNet fine-tuning", direct)
        fresh = from_teacher(base, *everything)
        for layer in fresh.layers:
            nn.init.ones_(layer.attention.norm.weight)
            nn.init.ones_(layer.feedforward.norm.weight)
        fit(fresh, learn, tune, 1e-3, seed)
        note("+ sub-LN, fresh", fresh)
        sized = from_teacher(base, *everything)
        fit(sized, learn, tune, 1e-3, seed)
        note("+ sub-LN, sized", sized)
        continued = from_teacher(base, *everything)
        fit(continued, texts, 1.5 * options.scale, 2e-3, seed)
        beginning = {name: value.clone() for name, value in continued.state_dict().items()}
        fit(continued, learn, tune, 1e-3, seed)
        note("+ continued training", continued)
        distilled = from_teacher(base, *everything)
        distilled.load_state_dict(beginning)
        teacher.eval().requires_grad_(False)
        fit(distilled, learn, tune, 1e-3, seed, BitDistillation(teacher, splits=4))
        note("BitDistill", distilled)
        report(found, options.output, time.time() - started, options)


def report(found: dict[str, list[float]], folder: Path, seconds: float, options: argparse.Namespace) -> None:
    """Write what is known so far."""
    teacher = found["teacher"]
    lines = [
        "# BitDistill in small: topics of AG News",
        "",
        f"`python benchmarks/bitdistill_small.py DATA --seeds {options.seeds} --scale {options.scale:g}`; "
        f"{len(teacher)} seed(s) done in {seconds / 60:.0f} minutes, one thread; accuracy on the test texts, %.",
        "",
        "| student | mean | each seed | below the teacher |",
        "|---|---|---|---|",
    ]
    for name, values in found.items():
        below = statistics.mean(t - v for t, v in zip(teacher, values, strict=False))
        each = ", ".join(f"{value:.2f}" for value in values)
        lines.append(f"| {name} | {statistics.mean(values):.2f} | {each} | {below:.2f} |")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bitdistill-small.md").write_text("\n".join(lines) + "\n")
    (folder / "bitdistill-small.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

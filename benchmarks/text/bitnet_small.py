"""BitNet b1.58 in small: how much do ternary weights cost when they are trained, and when they are not?

    python -m benchmarks.text.bitnet_small TEXT... [--output DIR] [--seeds 3] [--steps 600]

TEXT are files; the last tenth of each is held out. Byte language models of one size, the same batches:

* full precision: a LLaMA-like decoder;
* b1.58: BitNet, trained with ternary weights and int8 activations, by the two stages of its recipe (the rate and the
  weight decay are lowered half-way);
* post-training: the full-precision model, its maps made ternary afterwards (absmean), activations int8.

The number is nats a byte on held-out text. The curve of b1.58 is written too: its recipe promises a late fall.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_blocks.text_decoder import CausalLM
from multiway_core.training import Loss, TrainConfig, Trainer
from multiway_text.decoders.bitnet.config import BitNetConfig
from multiway_text.decoders.bitnet.model import BitNet
from multiway_text.decoders.llama.config import LlamaConfig
from multiway_text.decoders.llama.model import Llama
from torch import Tensor, nn

from benchmarks.text.bitdistill_small import ternary_in_place

CONTEXT = 256
ROWS = 12
WIDTH, LAYERS, HEADS, KV_HEADS, INNER = 192, 4, 6, 2, 512


class Windows:
    """Random windows of a text, a function of the step."""

    def __init__(self, data: Tensor, seed: int, first: int = 0) -> None:
        self.data, self.seed, self.first = data, seed, first

    def __call__(self, step: int, shard: int, num_shards: int) -> Tensor:
        generator = torch.Generator().manual_seed(
            self.seed * 1_000_003 + self.first + step * num_shards + shard
        )
        starts = torch.randint(len(self.data) - CONTEXT - 1, (ROWS,), generator=generator)
        return self.data[starts[:, None] + torch.arange(CONTEXT + 1)].long()


def objective(model: nn.Module, rows: Tensor) -> Loss:
    assert isinstance(model, CausalLM)
    logits = model(rows[:, :-1]).float()
    total = nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum")
    return Loss(total, rows[:, 1:].numel(), samples=len(rows))


def fit(model: CausalLM, data: Tensor, seed: int, first: int, config: TrainConfig) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Trainer(model, objective, Windows(data, seed, first), config, Path(folder)).fit()


def stages(steps: int, rate: float, seed: int, *, two: bool) -> list[TrainConfig]:
    """One linear decay with weight decay throughout, or BitNet's two stages."""
    common = {"schedule": "linear", "precision": "bf16", "checkpoint_every_seconds": 0, "seed": seed}
    if not two:
        return [
            TrainConfig(steps=steps, learning_rate=rate, warmup_steps=steps // 20, weight_decay=0.1, **common)
        ]
    half = steps // 2
    return [
        TrainConfig(
            steps=half, learning_rate=rate, warmup_steps=steps // 20, weight_decay=0.1,
            final_learning_rate_ratio=0.75, **common,
        ),
        TrainConfig(steps=steps - half, learning_rate=rate / 2, weight_decay=0.0, **common),
    ]  # fmt: skip


@torch.inference_mode()
def held_out(model: CausalLM, data: Tensor, windows: int = 120) -> float:
    """Nats a byte over equally spaced windows."""
    model.eval()
    starts = torch.linspace(0, len(data) - CONTEXT - 2, windows).long()
    losses = []
    for part in starts.split(ROWS):
        rows = data[part[:, None] + torch.arange(CONTEXT + 1)].long()
        logits = model(rows[:, :-1]).float()
        losses.append(float(nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())))
    model.train()
    return statistics.mean(losses)


def full_precision() -> Llama:
    model = Llama(
        LlamaConfig(
            hidden_size=WIDTH,
            num_layers=LAYERS,
            num_heads=HEADS,
            num_kv_heads=KV_HEADS,
            head_dim=WIDTH // HEADS,
            inner_size=INNER,
            vocab_size=256,
            max_positions=CONTEXT,
            norm_eps=1e-5,
            rope_theta=10_000.0,
            tied_embeddings=False,
        )
    )
    nn.init.normal_(model.embedding.weight, std=0.02)
    return model


def ternary() -> BitNet:
    config = BitNetConfig(
        hidden_size=WIDTH,
        num_layers=LAYERS,
        num_heads=HEADS,
        num_kv_heads=KV_HEADS,
        inner_size=INNER,
        vocab_size=256,
        max_positions=CONTEXT,
        rope_theta=10_000.0,
        activation="silu",
        tied_embeddings=False,
    )
    model = BitNet(config, packed=False)
    nn.init.normal_(model.embedding.weight, std=0.02)
    return model


def texts(paths: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """Bytes to train on, and held-out ones: the last tenth of every file."""
    train, test = [], []
    for path in paths:
        data = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
        cut = len(data) * 9 // 10
        train.append(data[:cut])
        test.append(data[cut:])
    return torch.cat(train), torch.cat(test)


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, test = texts(options.texts)
    found: dict[str, list[float]] = {"full precision": [], "b1.58": [], "post-training ternary": []}
    curve: list[float] = []
    started = time.time()
    for seed in range(options.seeds):
        torch.manual_seed(seed)
        full = full_precision()
        (config,) = stages(options.steps, 2e-3, seed, two=False)
        fit(full, train, seed, 0, config)
        found["full precision"].append(held_out(full, test))
        torch.manual_seed(seed)
        small = ternary()
        first = 0
        for config in stages(options.steps, 4e-3, seed, two=True):
            fit(small, train, seed, first, config)
            first += config.steps
            curve.append(held_out(small, test))
        found["b1.58"].append(curve[-1])
        found["post-training ternary"].append(held_out(ternary_in_place(full), test))
        print(
            f"{time.time() - started:.0f} s  " + ", ".join(f"{n} {v[-1]:.3f}" for n, v in found.items()),
            flush=True,
        )
        report(found, curve, len(train), options, time.time() - started)


def report(
    found: dict[str, list[float]], curve: list[float], size: int, options: argparse.Namespace, seconds: float
) -> None:
    """Write what is known so far."""
    full = found["full precision"]
    lines = [
        "# BitNet b1.58 in small",
        "",
        f"`python -m {__spec__.name} TEXT... --seeds {options.seeds} --steps {options.steps}`; {len(full)} "
        f"seed(s) done in {seconds / 60:.0f} minutes, one thread. {LAYERS} layers of width {WIDTH}, bytes, {size:,} to "
        f"train on, {ROWS} x {CONTEXT} a step; nats a byte on held-out text (a uniform guess: {math.log(256):.2f}).",
        "",
        "| model | mean | each seed | above full precision |",
        "|---|---|---|---|",
    ]
    for name, values in found.items():
        gap = statistics.mean(v - f for v, f in zip(values, full, strict=True))
        each = ", ".join(f"{value:.3f}" for value in values)
        lines.append(f"| {name} | {statistics.mean(values):.3f} | {each} | {gap:+.3f} |")
    halves = ", ".join(f"{value:.3f}" for value in curve)
    lines += ["", f"b1.58 half-way and at the end, seed by seed: {halves}."]
    harness.save(options.output, "bitnet-small", {**found, "curve": curve}, "\n".join(lines))


if __name__ == "__main__":
    main()

"""LongNet at 8K: recall over more than 4,096 tokens, against the same decoder with dense attention trained at 2K.

    python -m benchmarks.text.longnet_recall [--seeds 0,1,2] [--output DIR]

A sequence begins with 32 copies of one of 16 topics; noise follows, and here and there a question, behind which the
model says the topic. Both models are the same Magneto decoder with rotary positions (two layers of 64, four heads)
and see equally many tokens in training, in sequences that grow from 256 to 8,192 for LongNet, with segments of 512,
2,048 and 8,192 (dilations 1, 2, 4), and to 2,048 for dense attention. Scored on unseen sequences of 8,192, on
questions that stand at least 4,096 tokens behind the topic: LongNet as it is; the dense model with its own context
(the last 2,048 tokens, so without the topic) and stretched over all 8,192 tokens, which costs what dense attention
costs.

One thread, CPU time. Prints one table in Markdown and writes it, and one JSON file.
"""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_text.decoders.longnet.config import LongNetConfig
from multiway_text.decoders.longnet.model import LongNet
from torch import Tensor, nn

TOPICS, NOISE, COPIES = 16, 47, 32
QUESTION = TOPICS + NOISE
LONG, SHORT = 8192, 2048
FAR = 4096
SCORED = 16  # sequences
# (sequences, tokens of one, steps): the same number of tokens for both.
PHASES = {
    "longnet": ((8, 256, 120), (2, 1024, 120), (1, SHORT, 80), (1, 4096, 60), (1, LONG, 50)),
    "dense 2K": ((8, 256, 120), (2, 1024, 120), (1, SHORT, 400)),
}
RATE, WARMUP, COOLING = 3e-3, 20, 20
BRANCHES = {"longnet": ((512, 1), (2048, 2), (8192, 4)), "dense 2K": ((LONG, 1),)}


def build(kind: str) -> LongNet:
    branches = BRANCHES[kind]
    return LongNet(
        LongNetConfig(
            hidden_size=64,
            num_layers=2,
            num_heads=4,
            inner_size=128,
            vocab_size=QUESTION + 1,
            max_positions=LONG,
            segment_lengths=tuple(w for w, _ in branches),
            dilations=tuple(r for _, r in branches),
            position="rotary",
        )
    )


def sequences(count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (count, length), topics (count,), and where the questions are (count, length)."""
    topics = torch.randint(TOPICS, (count,), generator=generator)
    tokens = torch.randint(TOPICS, TOPICS + NOISE, (count, length), generator=generator)
    asked = torch.rand(count, length, generator=generator) < 0.125
    asked[:, :COPIES] = False
    tokens = tokens.masked_fill(asked, QUESTION)
    tokens[:, :COPIES] = topics[:, None]
    return tokens, topics, asked


def trained(kind: str, seed: int) -> tuple[LongNet, float, list[float]]:
    torch.manual_seed(seed)
    model = build(kind)
    generator = torch.Generator().manual_seed(1000 + seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    start, losses = time.process_time(), []
    plan = [(count, length) for count, length, steps in PHASES[kind] for _ in range(steps)]
    for step, (count, length) in enumerate(plan):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARMUP, (len(plan) - step) / COOLING)
            if length > 256:
                group["lr"] /= 2
        tokens, topics, asked = sequences(count, length, generator)
        logits = model.logits(model.hidden(tokens)[asked])
        loss = nn.functional.cross_entropy(logits, topics[:, None].expand_as(asked)[asked])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % 10 == 9:
            print(
                kind,
                step + 1,
                length,
                round(loss.item(), 3),
                round(time.process_time() - start, 1),
                flush=True,
            )
    return model.eval(), time.process_time() - start, losses


@torch.inference_mode()
def accuracy(model: LongNet, window: int) -> float:
    """Right answers to far questions of unseen sequences, of which the model sees the last ``window`` tokens."""
    generator, right = torch.Generator().manual_seed(7), []
    for _ in range(SCORED):
        tokens, topics, asked = sequences(1, LONG, generator)
        asked[:, : max(FAR + COPIES, LONG - window)] = False
        hidden = model.hidden(tokens[:, LONG - window :])[asked[:, LONG - window :]]
        right.append((model.logits(hidden)[:, :TOPICS].argmax(-1) == topics).float().mean())
    return float(torch.stack(right).mean())


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells: list[dict[str, Any]] = []
    for seed in map(int, options.seeds.split(",")):
        for kind in BRANCHES:
            model, seconds, losses = trained(kind, seed)
            windows = (LONG,) if kind == "longnet" else (SHORT, LONG)
            scores = {str(window): accuracy(model, window) for window in windows}
            cells.append(
                {"kind": kind, "seed": seed, "accuracy": scores, "cpu_seconds": seconds, "losses": losses}
            )
    report: dict[str, Any] = {
        **harness.provenance("longnet-recall"),
        "training": {"phases": PHASES, "rate": RATE},
        "cells": cells,
    }
    rows = [
        "| model | seed | trained at | tokens seen | right | training CPU s |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for c in cells:
        for window, score in c["accuracy"].items():
            length = LONG if c["kind"] == "longnet" else SHORT
            rows.append(
                f"| {c['kind']} | {c['seed']} | {length} | {window} | {100 * score:.1f} % | {c['cpu_seconds']:.0f} |"
            )
    page = (
        "# Recall over more than 4,096 tokens\n\n"
        f"One of {TOPICS} topics (chance {100 / TOPICS:.1f} %), {SCORED} unseen sequences of {LONG} tokens, some 500 "
        "far questions each. Training by (sequences, tokens of one, steps): "
        + "; ".join(f"{kind} {', '.join(map(str, phases))}" for kind, phases in PHASES.items())
        + f". One thread of {report['machine']['cpu']}, {harness.STARTED_AT}; "
        f"`{report['command']}`.\n\n" + "\n".join(rows) + "\n"
    )
    harness.save(options.output, "longnet-recall", report, page)


if __name__ == "__main__":
    main()

"""Associative recall: YOCO against gated retention alone and a Transformer, trained alike.

    python -m benchmarks.text.yoco_recall [--seeds 0,1,2] [--output DIR]

A sequence is PAIRS keys, each followed by its value, and then the same keys in another order; behind each the model
says its value (multi-query associative recall). Keys of a sequence differ, values are drawn freely, and every batch
is drawn anew, so nothing can be learnt by heart. All three have two layers, the same width, heads, feed-forward
networks, rotary base, optimizer, and the same batches of a seed: YOCO one layer of gated retention below one of
cross-attention, the others two of their kind. Training begins with few pairs. Scored on 1,024 sequences of an own
seed, all with 32 pairs: where the questions begin is learnt with them.

One cell (model and seed) at a time; cells in the JSON file are not done again. One thread. Prints one table in
Markdown and writes it, and the JSON file.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from datetime import UTC, datetime
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_blocks.causal import token_positions
from multiway_blocks.norm import RMSNorm
from multiway_blocks.transformer import Context
from multiway_text.decoders.llama.config import LlamaConfig
from multiway_text.decoders.llama.model import Llama
from multiway_text.decoders.yoco.config import YocoConfig
from multiway_text.decoders.yoco.model import Yoco, self_layer
from torch import Tensor, nn

KEYS = VALUES = 64
FEW, PAIRS = 4, 32
WIDTH, LAYERS, HEADS, THETA = 64, 2, 2, 32.0  # frequencies for sequences of a hundred tokens
STEPS, BATCH, RATE, WARMUP = 700, 32, 6e-3, 50
FEW_UNTIL, ALL_FROM = 0.45, 0.75  # of the steps: pairs grow linearly between
SCORED = (32,)
KINDS = ("transformer", "yoco", "gated retention")
YOCO = YocoConfig(
    hidden_size=WIDTH,
    num_layers=LAYERS,
    num_self_heads=HEADS,
    num_heads=HEADS,
    num_kv_heads=HEADS,
    inner_size=2 * WIDTH,
    vocab_size=KEYS + VALUES,
    max_positions=3 * PAIRS,
    rope_theta=THETA,
)


class GatedRetention(nn.Module):
    """YOCO's self-decoder layers all the way up (the paper's gRetNet)."""

    def __init__(self, config: YocoConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        nn.init.normal_(self.embedding.weight, std=config.hidden_size**-0.5)
        self.layers = nn.ModuleList(self_layer(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        valid_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
        context = Context(positions_BT=token_positions(valid_BT), valid_BT=valid_BT)
        x = self.embedding(tokens_BT) * math.sqrt(WIDTH)
        for layer in self.layers:
            x = layer(x, context)
        return self.head(self.norm(x))


def build(kind: str) -> nn.Module:
    if kind == "yoco":
        return Yoco(YOCO)
    if kind == "gated retention":
        return GatedRetention(YOCO)
    model = Llama(
        LlamaConfig(
            hidden_size=WIDTH,
            num_layers=LAYERS,
            num_heads=HEADS,
            num_kv_heads=HEADS,
            head_dim=WIDTH // HEADS,
            inner_size=2 * WIDTH,
            vocab_size=KEYS + VALUES,
            rope_theta=THETA,
            tied_embeddings=False,
        )
    )
    nn.init.normal_(model.embedding.weight, std=1.0)  # as large as YOCO's scaled ones
    return model


def sequences(count: int, pairs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens (count, 3 pairs), and the values (count, pairs) that follow the last third."""
    keys = torch.rand(count, KEYS, generator=generator).argsort(dim=1)[:, :pairs]
    values = torch.randint(KEYS, KEYS + VALUES, (count, pairs), generator=generator)
    order = torch.rand(count, pairs, generator=generator).argsort(dim=1)
    told = torch.stack([keys, values], dim=2).flatten(1)
    return torch.cat([told, keys.gather(1, order)], dim=1), values.gather(1, order)


def pairs_at(step: int) -> int:
    grown = (step / STEPS - FEW_UNTIL) / (ALL_FROM - FEW_UNTIL)
    return round(FEW + (PAIRS - FEW) * min(1.0, max(0.0, grown)))


def cell(kind: str, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    model = build(kind)
    generator = torch.Generator().manual_seed(1000 + seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.05)
    start = time.process_time()
    curve = []
    for step in range(STEPS):
        rate = RATE * min(1.0, (step + 1) / WARMUP, (STEPS - step) / (STEPS * (1 - ALL_FROM)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        tokens, wanted = sequences(BATCH, pairs_at(step), generator)
        logits = model(tokens)[:, -wanted.shape[1] :]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 49:
            curve.append({"step": step + 1, "pairs": wanted.shape[1], "loss": round(loss.item(), 4)})
            print(kind, seed, curve[-1], round(time.process_time() - start, 1), flush=True)
    seconds = time.process_time() - start
    model.eval()
    accuracy = {}
    with torch.inference_mode():
        for pairs in SCORED:
            tokens, wanted = sequences(1024, pairs, torch.Generator().manual_seed(7))
            right = [
                (model(part)[:, -pairs:].argmax(-1) == value).float().mean()
                for part, value in zip(tokens.split(256), wanted.split(256), strict=True)
            ]
            accuracy[str(pairs)] = float(torch.stack(right).mean())
    return {
        "kind": kind,
        "seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "accuracy": accuracy,
        "cpu_seconds": seconds,
        "curve": curve,
    }


def page_of(report: dict[str, Any]) -> str:
    rows = [
        "| model | parameters | seeds | "
        + " | ".join(f"{n} pairs" for n in SCORED)
        + " | of the Transformer's, 32 |",
        "|---|--:|---|" + "--:|" * (len(SCORED) + 1),
    ]
    of_kind = {kind: [c for c in report["cells"] if c["kind"] == kind] for kind in KINDS}
    means = {
        kind: statistics.mean(c["accuracy"][str(PAIRS)] for c in cells)
        for kind, cells in of_kind.items()
        if cells
    }
    for kind, cells in of_kind.items():
        if not cells:
            continue
        shown = []
        for pairs in SCORED:
            values = [100 * c["accuracy"][str(pairs)] for c in cells]
            single = f" ({', '.join(f'{v:.1f}' for v in values)})" if len(values) > 1 else ""
            shown.append(f"{statistics.mean(values):.1f} %{single}")
        share = f"{100 * means[kind] / means['transformer']:.1f} %" if "transformer" in means else ""
        seeds = ", ".join(str(c["seed"]) for c in cells)
        rows.append(f"| {kind} | {cells[0]['parameters']} | {seeds} | {' | '.join(shown)} | {share} |")
    return (
        "# Associative recall\n\n"
        f"Accuracy on 1,024 unseen sequences of {KEYS} keys and {VALUES} values; chance is {100 / VALUES:.1f} %. "
        f"{LAYERS} layers of {WIDTH}, {HEADS} heads, {STEPS} steps of {BATCH} sequences, {FEW} to {PAIRS} pairs. One "
        f"thread of {report['machine']['cpu']}, {report['started_at']}; `{report['command']}`.\n\n"
        + "\n".join(rows)
        + "\n"
    )


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    torch.set_num_threads(1)
    where = options.output / "yoco-recall.json"
    report: dict[str, Any] = json.loads(where.read_text()) if where.exists() else {"cells": []}
    report |= {
        **harness.provenance("yoco-recall"),
        "started_at": report.get("started_at", datetime.now(UTC).isoformat(timespec="seconds")),
        "training": {
            "steps": STEPS,
            "batch": BATCH,
            "rate": RATE,
            "few": FEW,
            "pairs": PAIRS,
            "theta": THETA,
        },
    }
    done = {(c["kind"], c["seed"]) for c in report["cells"]}
    options.output.mkdir(parents=True, exist_ok=True)
    for seed in map(int, options.seeds.split(",")):
        for kind in KINDS:
            if (kind, seed) in done:
                continue
            report["cells"].append(cell(kind, seed))
            where.write_text(json.dumps(report, indent=1) + "\n")
    (options.output / "yoco-recall.md").write_text(page_of(report))
    print(page_of(report))


if __name__ == "__main__":
    main()

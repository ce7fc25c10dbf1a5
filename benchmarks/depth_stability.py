"""Which norm scheme trains a deep network: post-norm, pre-norm, DeepNorm and sub-LN at 48 layers, two learning rates.

    python benchmarks/depth_stability.py [--steps 90] [--layers 48] [--seeds 0] [--output benchmarks/results]

Character language models of width 64 (`multiway_blocks.torchscale.Decoder`, the initialisation of its configurations)
on the text of `character_text.py`: the same batches, Adam without clipping, a warm-up of 10 %, then a constant rate.
What counts is the loss on held-out text at the end; a network that stays above the entropy of single characters has
learnt nothing of their order. A cell (scheme, rate, seed) that is in the JSON file is not run again.

One thread. Prints one table in Markdown and writes it, and one JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from character_text import CharacterText
from multiway_blocks.torchscale import Decoder, DecoderConfig, PositionalEmbedding, TextEmbedding
from multiway_core.evaluation.machine import describe_machine, installed_versions
from torch import Tensor, nn

SCHEMES = {
    "post-norm": {"deepnorm": False, "subln": False, "decoder_normalize_before": False},
    "sub-LN": {"subln": True},
    "DeepNorm": {"deepnorm": True},
    "pre-norm": {"deepnorm": False, "subln": False, "decoder_normalize_before": True},
}
RATES = (1e-3, 3e-3)
WIDTH, HEADS, LENGTH, ROWS = 64, 4, 64, 4
HELD_OUT = 2048  # characters


def build(scheme: str, layers: int, vocab_size: int) -> Decoder:
    config = DecoderConfig(
        decoder_embed_dim=WIDTH,
        decoder_attention_heads=HEADS,
        decoder_ffn_embed_dim=4 * WIDTH,
        decoder_layers=layers,
        vocab_size=vocab_size,
        no_scale_embedding=False,  # the stream begins at a size of 1, or deep networks bury the tokens at the start
        **SCHEMES[scheme],
    )
    positions = PositionalEmbedding(LENGTH + 2, WIDTH)
    nn.init.normal_(positions.weight, std=WIDTH**-0.5)  # by default they would be as large as tokens
    return Decoder(config, TextEmbedding(vocab_size, WIDTH), positions)


def loss_of(model: Decoder, windows: Tensor) -> Tensor:
    logits = model(windows[:, :-1])[0]
    return nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


def run(scheme: str, rate: float, seed: int, layers: int, steps: int, text: CharacterText) -> dict[str, Any]:
    torch.manual_seed(seed)
    model = build(scheme, layers, text.vocab_size)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.98))
    warm_up = max(1, steps // 10)
    curve, start = [], time.process_time()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / warm_up)
        loss = loss_of(model, text.batch(ROWS, LENGTH, generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(round(loss.item(), 4))
    model.eval()
    with torch.no_grad():
        held_out = loss_of(model, text.windows(LENGTH, HELD_OUT)).item()
    return {
        "scheme": scheme,
        "rate": rate,
        "seed": seed,
        "layers": layers,
        "steps": steps,
        "held_out": held_out,
        "training": curve,
        "cpu_seconds": time.process_time() - start,
    }


def table(result: dict[str, Any]) -> str:
    rows = []
    for scheme in SCHEMES:
        cells = []
        for rate in RATES:
            found = [c["held_out"] for c in result["cells"] if (c["scheme"], c["rate"]) == (scheme, rate)]
            cells.append("–" if not found else f"{statistics.mean(found):.3f}" + spread(found))
        rows.append(f"| {scheme} | {' | '.join(cells)} |")
    heads = " | ".join(f"rate {rate:g}" for rate in RATES)
    return "\n".join([f"| scheme | {heads} |", "|---|" + "--:|" * len(RATES), *rows])


def spread(values: list[float]) -> str:
    return f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=90)
    parser.add_argument("--layers", type=int, default=48)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = CharacterText()
    where = options.output / "depth-stability.json"
    result: dict[str, Any] = {"cells": []}
    if where.is_file():
        result = json.loads(where.read_text(encoding="utf-8"))
    keys = ("scheme", "rate", "seed", "layers", "steps")
    done = {tuple(cell[key] for key in keys) for cell in result["cells"]}
    for seed in options.seeds:
        for rate in reversed(RATES):
            for scheme in SCHEMES:
                if (scheme, rate, seed, options.layers, options.steps) in done:
                    continue
                result["cells"].append(run(scheme, rate, seed, options.layers, options.steps, text))
                print({k: v for k, v in result["cells"][-1].items() if k != "training"}, flush=True)
                report(result, text, options)  # after every cell: a run may be cut short
    report(result, text, options)


def report(result: dict[str, Any], text: CharacterText, options: argparse.Namespace) -> None:
    result |= {
        "unigram_entropy": text.unigram_entropy(),
        "text": text.digest,
        "machine": describe_machine(),
        "versions": installed_versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    parameters = sum(p.numel() for p in build("pre-norm", options.layers, text.vocab_size).parameters())
    seeds = sorted({cell["seed"] for cell in result["cells"]})
    lines = [
        "# Stability at depth",
        "",
        f"Held-out loss, nats a character, of character language models, {options.layers} layers of {WIDTH}",
        f"({parameters:,} parameters) after {options.steps} steps of {ROWS} x {LENGTH} characters, Adam unclipped,",
        f"warm-up {options.steps // 10} steps. Entropy of single characters: {result['unigram_entropy']:.3f}.",
        f"Text: Python's `pydoc_data.topics` ({text.digest}). Seeds: {', '.join(map(str, seeds))}"
        + (
            " (one only: differences of the size of seed noise are not told apart)."
            if len(seeds) == 1
            else "."
        ),
        f"One thread, AMD EPYC (Genoa, 2 vCPU), {result['date']};",
        f"`python benchmarks/depth_stability.py --steps {options.steps} --layers {options.layers}`.",
        "",
        table(result),
        "",
    ]
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "depth-stability.json").write_text(
        json.dumps(result, indent=1) + "\n", encoding="utf-8"
    )
    (options.output / "depth-stability.md").write_text("\n".join(lines), encoding="utf-8")
    print(table(result), flush=True)


if __name__ == "__main__":
    main()

"""Which norm scheme trains a deep network: post-norm, pre-norm, DeepNorm and sub-LN, three learning rates.

    python -m benchmarks.core_blocks.depth_stability [--steps 150] [--layers 48] [--embedding 5] [--seeds 0 1 2]
        [--rates 3e-3 1e-2 3e-2] [--output DIR]

Character language models of width 64 (`multiway_blocks.torchscale.Decoder`, the initialisation of its configurations)
on the text of `character_text.py`: the same batches, Adam without clipping, a warm-up of 10 %, then a constant rate.
What counts is the loss on held-out text at the end; a network that stays above the entropy of single characters has
learnt nothing of their order. ``--embedding`` is the size (root mean square) at which tokens enter the first layer:
what 96 branches add to the stream buries small ones, with sub-LN most, whose initial weights grow with depth. A cell
(setup, scheme, rate, seed) that is in the JSON file is not run again; the page has a table for each setup.

One thread. Prints one table in Markdown and writes it, and one JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from datetime import UTC, datetime
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_blocks.torchscale import Decoder, DecoderConfig, PositionalEmbedding, TextEmbedding
from multiway_core.evaluation.machine import describe_machine, installed_versions
from torch import Tensor, nn

from benchmarks.text.character_text import CharacterText
from benchmarks.text.paired_gaps import paired_gaps

SCHEMES = {
    "post-norm": {"deepnorm": False, "subln": False, "decoder_normalize_before": False},
    "sub-LN": {"subln": True},
    "DeepNorm": {"deepnorm": True},
    "pre-norm": {"deepnorm": False, "subln": False, "decoder_normalize_before": True},
}
WIDTH, HEADS, LENGTH, ROWS = 64, 4, 64, 4
HELD_OUT = 2048  # characters
SETUP = ("layers", "steps", "embedding")
CLAIMS = [("post-norm", "pre-norm"), ("pre-norm", "DeepNorm"), ("pre-norm", "sub-LN")]


def build(scheme: str, layers: int, embedding: float, vocab_size: int) -> Decoder:
    config = DecoderConfig(
        decoder_embed_dim=WIDTH,
        decoder_attention_heads=HEADS,
        decoder_ffn_embed_dim=4 * WIDTH,
        decoder_layers=layers,
        vocab_size=vocab_size,
        **SCHEMES[scheme],
    )
    positions = PositionalEmbedding(LENGTH + 2, WIDTH)
    nn.init.normal_(positions.weight, std=WIDTH**-0.5)  # by default they would be as large as tokens
    model = Decoder(config, TextEmbedding(vocab_size, WIDTH), positions)
    model.embed_scale = embedding * WIDTH**0.5
    return model


def loss_of(model: Decoder, windows: Tensor) -> Tensor:
    logits = model(windows[:, :-1])[0]
    return nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


def run(
    scheme: str, rate: float, seed: int, layers: int, steps: int, embedding: float, text: CharacterText
) -> dict[str, Any]:
    torch.manual_seed(seed)
    model = build(scheme, layers, embedding, text.vocab_size)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.98), fused=True)
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
        "embedding": embedding,
        "held_out": held_out,
        "training": curve,
        "cpu_seconds": time.process_time() - start,
    }


def table(cells: list[dict[str, Any]]) -> str:
    """Of one setup."""
    rates = sorted({cell["rate"] for cell in cells})
    rows = []
    for scheme in SCHEMES:
        columns = []
        for rate in rates:
            found = [c["held_out"] for c in cells if (c["scheme"], c["rate"]) == (scheme, rate)]
            columns.append("–" if not found else f"{statistics.mean(found):.3f}" + spread(found))
        rows.append(f"| {scheme} | {' | '.join(columns)} |")
    heads = " | ".join(f"rate {rate:g}" for rate in rates)
    return "\n".join([f"| scheme | {heads} |", "|---|" + "--:|" * len(rates), *rows])


def spread(values: list[float]) -> str:
    return f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""


def main() -> None:
    parser = harness.parser(__doc__, "core_blocks")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--layers", type=int, default=48)
    parser.add_argument("--embedding", type=float, default=5.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-3, 1e-2, 3e-2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = CharacterText()
    where = options.output / "depth-stability.json"
    result: dict[str, Any] = {"cells": []}
    if where.is_file():
        result = json.loads(where.read_text(encoding="utf-8"))
    keys = ("scheme", "rate", "seed", *SETUP)
    done = {tuple(cell[key] for key in keys) for cell in result["cells"]}
    setup = (options.layers, options.steps, options.embedding)
    for seed in options.seeds:
        for rate in options.rates:
            for scheme in SCHEMES:
                if (scheme, rate, seed, *setup) in done:
                    continue
                result["cells"].append(run(scheme, rate, seed, *setup, text))
                print({k: v for k, v in result["cells"][-1].items() if k != "training"}, flush=True)
                report(result, text, options)  # after every cell: a run may be cut short
    report(result, text, options)


def section(setup: tuple[int, int, float], cells: list[dict[str, Any]], text: CharacterText) -> str:
    """The tables of one setup: losses, and at each rate the gaps that the papers claim."""
    layers, steps, embedding = setup
    parameters = sum(p.numel() for p in build("pre-norm", *setup[::2], text.vocab_size).parameters())
    seeds = sorted({cell["seed"] for cell in cells})
    parts = [
        f"## {layers} layers, tokens of size {embedding:g}, {steps} steps",
        f"{parameters:,} parameters, warm-up {steps // 10} steps, seeds {', '.join(map(str, seeds))}.",
        table(cells),
    ]
    for rate in sorted({cell["rate"] for cell in cells}) if len(seeds) > 1 else ():
        losses: dict[str, dict[int, float]] = {scheme: {} for scheme in SCHEMES}
        for cell in cells:
            if cell["rate"] == rate:
                losses[cell["scheme"]][cell["seed"]] = cell["held_out"]
        parts += [f"Rate {rate:g}, paired by seed:", paired_gaps(losses, CLAIMS)]
    return "\n\n".join(parts)


def report(result: dict[str, Any], text: CharacterText, options: argparse.Namespace) -> None:
    result |= {
        "unigram_entropy": text.unigram_entropy(),
        "text": text.digest,
        "machine": describe_machine(),
        "versions": installed_versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    setups: dict[tuple[int, int, float], list[dict[str, Any]]] = {}
    for cell in result["cells"]:
        setups.setdefault((cell["layers"], cell["steps"], cell["embedding"]), []).append(cell)
    page = (
        "# Stability at depth\n\n"
        f"Held-out loss, nats a character, of character language models of width {WIDTH}, steps of {ROWS} x {LENGTH}\n"
        "characters, Adam unclipped; mean ± standard deviation over seeds. Entropy of single characters:"
        f" {result['unigram_entropy']:.3f}.\n"
        f"Text: Python's `pydoc_data.topics` ({text.digest}). One thread of {result['machine']['cpu']}, "
        f"{result['date']};\n"
        "`python -m benchmarks.core_blocks.depth_stability --layers LAYERS --steps STEPS --embedding SIZE`.\n\n"
        + "\n\n".join(section(setup, cells, text) for setup, cells in setups.items())
        + "\n"
    )
    harness.save(options.output, "depth-stability", result, page)


if __name__ == "__main__":
    main()

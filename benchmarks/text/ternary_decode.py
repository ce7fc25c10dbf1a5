"""Ternary products at the shapes of BitNet b1.58 2B4T against bfloat16 `nn.Linear`, side by side in one run.

    python -m benchmarks.text.ternary_decode [--threads 1 2] [--output DIR]

The linear maps of one layer, with M = 1 row (decoding) and 128 rows (a prompt): our kernel with two bits a weight, as
the network calls it; PyTorch's product of int8 matrices (`torch._int_mm`, one byte a weight), which is ours without a
compiler; and `nn.Linear` in bfloat16. Then the whole layer, norms and quantisation included (one row as the network
decodes it, behind a cache: a quarter of four layers), and the output matrix, to see the head's share. So many matrices
are used in turn that none is found in a cache. Rounds of all candidates are interleaved, and the median counts; with
one thread in CPU time, because other work may share the machine.

Prints one table in Markdown and writes it, and one JSON file.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from multiway_blocks.bitlinear import RMSNormQuantize, TernaryLinear, quantize_rows
from multiway_blocks.causal import token_positions
from multiway_blocks.linear import project
from multiway_blocks.norm import RMSNorm
from multiway_blocks.transformer import Context
from multiway_text.decoders.bitnet.config import BITNET_2B_4T
from multiway_text.decoders.bitnet.model import BitNet, new_layer
from torch import Tensor, nn

from benchmarks import harness

ROUNDS = 9
LAYERS = 4
SLOTS = 4096  # of a cache: more than there are calls
BYTES_IN_TURN = 64_000_000
SHAPES = (
    ("queries, keys, values", 2560, (2560, 640, 640)),
    ("output", 2560, (2560,)),
    ("gate, up", 2560, (6912, 6912)),
    ("down", 6912, (2560,)),
)
ROWS = (1, 128)
Call = Callable[[], object]


def medians(candidates: dict[str, list[Call]], clock: Callable[[], float]) -> dict[str, float]:
    """Seconds of a call of each candidate, the median over rounds; a round calls each of its copies once."""
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(ROUNDS + 1):
        for name, calls in candidates.items():
            start = clock()
            for call in calls:
                call()
            if number:  # the first round warms up
                taken[name].append((clock() - start) / len(calls))
    return {name: statistics.median(values) for name, values in taken.items()}


def ternary(inputs: int, outputs: tuple[int, ...]) -> TernaryLinear:
    linear = TernaryLinear(inputs, outputs)
    values = torch.randint(-1, 2, (sum(outputs), inputs), dtype=torch.int8)
    linear.set(values, torch.full((len(outputs),), 0.01))
    return linear


def copies(size: int) -> int:
    return max(1, -(-BYTES_IN_TURN // size))


def product(inputs: int, outputs: tuple[int, ...], rows: int) -> dict[str, list[Call]]:
    """Calls of each candidate: from int8 rows for ours, from bfloat16 rows for `nn.Linear`."""
    weights = inputs * sum(outputs)
    x = torch.randn(rows, inputs).bfloat16()
    quantized = quantize_rows(x)
    packed = [ternary(inputs, outputs) for _ in range(copies(weights // 4))]
    bytes_ = [torch.randint(-1, 2, (sum(outputs), inputs), dtype=torch.int8) for _ in range(copies(weights))]
    floats = [nn.Linear(inputs, sum(outputs), bias=False).bfloat16() for _ in range(copies(2 * weights))]
    return {
        "ternary": [lambda m=m: m(quantized) for m in packed],
        "int8": [lambda w=w: torch._int_mm(quantized.values, w.t()) for w in bytes_],
        "bfloat16": [lambda m=m: m(x) for m in floats],
    }


class FloatLayer(nn.Module):
    """The same layer of bfloat16 `nn.Linear`s and our norms."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = new_layer(BITNET_2B_4T, packed=False)
        for name, module in list(self.layer.named_modules()):
            if hasattr(module, "outputs"):
                plain = nn.Linear(module.weight.shape[1], module.weight.shape[0], bias=False)
                self.layer.set_submodule(name, plain)

    def forward(self, *arguments: Any) -> Tensor:
        return self.layer(*arguments)


def layers(rows: int) -> dict[str, list[Call]]:
    config = BITNET_2B_4T
    x = torch.randn(1, rows, config.hidden_size).bfloat16()
    valid = torch.ones(1, rows, dtype=torch.bool)
    positions = token_positions(valid)
    mask = None if rows == 1 else torch.ones(1, 1, rows, rows, dtype=torch.bool).tril()
    context = Context(mask, positions)
    network = BitNet(dataclasses.replace(config, num_layers=LAYERS, vocab_size=1)).bfloat16()
    for module in network.modules():
        if isinstance(module, TernaryLinear):
            values = torch.randint(-1, 2, (sum(module.outputs), module.in_features), dtype=torch.int8)
            module.set(values, torch.full((len(module.outputs),), 0.01))
    packed: list[Call] = [partial(layer, x, context) for layer in network.decoder.layers]
    if rows == 1:  # all layers in one call, which counts as so many
        decode = partial(network.decoder, x, None, network.new_cache(1, SLOTS))
        packed = [decode, *[lambda: None] * (LAYERS - 1)]
    floats = [FloatLayer().bfloat16()]
    return {
        "ternary": packed,
        "bfloat16": [lambda m=m: m(x, context) for m in floats],
    }


def head() -> dict[str, list[Call]]:
    config = BITNET_2B_4T
    weight = torch.empty(config.vocab_size, config.hidden_size, dtype=torch.bfloat16).normal_()
    x = torch.randn(1, config.hidden_size).bfloat16()
    return {
        "ternary": [lambda: project(x, weight)],
        "bfloat16": [lambda: nn.functional.linear(x, weight)],
    }


def norms() -> dict[str, list[Call]]:
    size = BITNET_2B_4T.inner_size
    fused, norm = RMSNormQuantize(size), RMSNorm(size)
    x = torch.randn(128, size).bfloat16()
    return {"fused": [lambda: fused(x)], "separate": [lambda: quantize_rows(norm(x))]}


def measured(threads: int) -> list[dict[str, Any]]:
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    lines = []

    def add(name: str, rows: int, weights: int, candidates: dict[str, list[Call]]) -> None:
        seconds = medians(candidates, clock)
        line = {
            "operation": name,
            "rows": rows,
            "threads": threads,
            "clock": "cpu" if threads == 1 else "wall",
            "weights": weights,
            "us": {key: 1e6 * value for key, value in seconds.items()},
        }
        if "bfloat16" in seconds:
            line["speedup"] = seconds["bfloat16"] / seconds["ternary"]
        lines.append(line)

    for rows in ROWS:
        for name, inputs, outputs in SHAPES:
            add(name, rows, inputs * sum(outputs), product(inputs, outputs, rows))
        add("whole layer", rows, 69_468_160, layers(rows))
    add("output matrix (bfloat16 in both)", 1, BITNET_2B_4T.vocab_size * BITNET_2B_4T.hidden_size, head())
    if threads == 1:
        add("norm and quantisation, 128 x 6912", 128, 0, norms())
    return lines


def table(lines: list[dict[str, Any]]) -> str:
    rows = [
        "| map | M | threads | two bits, ours µs | int8 `_int_mm` µs | bfloat16 `nn.Linear` µs | faster by |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for line in lines:
        if "speedup" not in line:
            continue
        us = line["us"]
        int8 = f"{us['int8']:.0f}" if "int8" in us else ""
        rows.append(
            f"| {line['operation']} | {line['rows']} | {line['threads']} | {us['ternary']:.0f} | {int8} "
            f"| {us['bfloat16']:.0f} | {line['speedup']:.2f}x |"
        )
    return "\n".join(rows)


def summary(lines: list[dict[str, Any]]) -> str:
    """Sums over the maps of a layer, the head's share, and the fused norm."""
    text = []
    for threads in sorted({line["threads"] for line in lines}):
        mine = [line for line in lines if line["threads"] == threads]
        for rows in ROWS:
            maps = [line for line in mine if line["rows"] == rows and "int8" in line["us"]]
            ours, theirs = (sum(line["us"][key] for line in maps) for key in ("ternary", "bfloat16"))
            text.append(
                f"* {threads} thread{'s' * (threads > 1)}, M = {rows}: the maps of a layer together {ours:.0f} µs "
                f"against {theirs:.0f} µs, **{theirs / ours:.2f}x** (target {5 if rows == 1 else 2}x)."
            )
        layer = next(line for line in mine if line["operation"] == "whole layer" and line["rows"] == 1)
        output = next(line for line in mine if line["operation"].startswith("output matrix"))
        step = 30 * layer["us"]["ternary"] + output["us"]["ternary"]
        text.append(
            f"* {threads} thread{'s' * (threads > 1)}: 30 layers and the output matrix would take "
            f"{step / 1e3:.0f} ms a token; the output matrix in bfloat16 is {output['us']['ternary'] / step:.0%} of it."
        )
    fused = next((line for line in lines if "fused" in line["us"]), None)
    if fused:
        us = fused["us"]
        text.append(
            f"* Norm and quantisation of 128 x 6912 in one pass: {us['fused']:.0f} µs, apart {us['separate']:.0f} µs "
            f"({us['separate'] / us['fused']:.1f}x)."
        )
    return "\n".join(text)


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    torch.manual_seed(0)
    with torch.inference_mode():
        lines = [line for threads in options.threads for line in measured(threads)]
    report: dict[str, Any] = {
        **harness.provenance("ternary-decode"),
        "rounds": ROUNDS,
        "lines": lines,
    }
    page = (
        "# Ternary products at the shapes of BitNet b1.58 2B4T\n\n"
        f"{report['machine']['cpu']}, torch {torch.__version__}, at a load of {os.getloadavg()[0]:.1f} on "
        f"{report['machine']['cores']} cores; medians of {ROUNDS} interleaved rounds, one thread in CPU time, more "
        f"in wall time; random weights, seed 0, {harness.STARTED_AT}; `{report['command']}`.\n\n"
        f"{table(lines)}\n\n{summary(lines)}\n"
    )
    harness.save(options.output, "ternary-decode", report, page)


if __name__ == "__main__":
    main()

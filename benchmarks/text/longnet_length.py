"""LongNet: time of dilated attention against the number of tokens, and a forward pass over a million tokens.

    python -m benchmarks.text.longnet_length [--parts time,million] [--output DIR]

**time**: forward and backward pass of attention alone, dense (PyTorch's fused causal attention) and dilated with the
paper's five branches, on the same queries, keys and values; the exponent is the slope of a straight line through
log time over log tokens. Medians of interleaved rounds; the two longest dense passes are taken once.

**million**: a small LongNet language model (random weights: what is measured is time and memory) reads 1,048,576 bytes
of Python's standard library in chunks, with a segment that spans all of them, and scores every byte. Peak resident set
at two lengths, each in a process of its own.

One thread, CPU time because other work may share the machine. Prints one table in Markdown and writes it, and one JSON
file; parts that are not asked for keep what the file has.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_blocks.dilated import dilated_attend
from multiway_text.decoders.longnet.config import LONGNET_125M, LongNetConfig
from multiway_text.decoders.longnet.model import LongNet
from torch import Tensor, nn

HEADS, HEAD_DIM = 1, 32
LENGTHS = (2048, 4096, 8192, 16_384, 32_768, 65_536)
ROUNDS = 3
DENSE_ONCE = 32_768  # tokens from which on dense attention is timed once
MILLION = LongNetConfig(
    hidden_size=64,
    num_layers=2,
    num_heads=2,
    inner_size=256,
    vocab_size=256,
    max_positions=1 << 20,
    segment_lengths=(2048, 16_384, 131_072, 1 << 20),
    dilations=(1, 8, 64, 512),
    position="rotary",
)
STREAM_LENGTHS = (65_536, 1 << 20)


def dense(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)


def dilated(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return dilated_attend(query, key, value, LONGNET_125M.branches, causal=True)


def seconds_of(attend, tensors: list[Tensor]) -> tuple[float, float]:
    """CPU seconds of the forward pass, and of both passes."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    start = time.process_time()
    out = attend(*leaves)
    middle = time.process_time()
    out.backward(torch.ones_like(out))
    return middle - start, time.process_time() - start


def slope(lengths: list[int], seconds: list[float]) -> float:
    """Exponent p of seconds ~ lengths^p by least squares in the logarithms."""
    x, y = [math.log(n) for n in lengths], [math.log(s) for s in seconds]
    mean_x, mean_y = statistics.mean(x), statistics.mean(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def times() -> dict[str, Any]:
    torch.manual_seed(0)
    seconds_of(dilated, [torch.randn(1, HEADS, 2048, HEAD_DIM) for _ in range(3)])  # warms up
    lines = []
    for length in LENGTHS:
        tensors = [torch.randn(1, HEADS, length, HEAD_DIM) for _ in range(3)]
        taken: dict[str, list[tuple[float, float]]] = {"dense": [], "dilated": []}
        for number in range(ROUNDS):
            if number == 0 or length < DENSE_ONCE:
                taken["dense"].append(seconds_of(dense, tensors))
            taken["dilated"].append(seconds_of(dilated, tensors))
        lines.append(
            {
                "tokens": length,
                "forward": {name: statistics.median(a for a, _ in all_) for name, all_ in taken.items()},
                "both": {name: statistics.median(b for _, b in all_) for name, all_ in taken.items()},
                "all": taken,
            }
        )
        print(lines[-1]["tokens"], lines[-1]["both"], flush=True)
    exponents = {
        name: slope([line["tokens"] for line in lines], [line["both"][name] for line in lines])
        for name in ("dense", "dilated")
    }
    return {
        "heads": HEADS,
        "head_dim": HEAD_DIM,
        "branches": LONGNET_125M.branches,
        "rounds": ROUNDS,
        "exponents": exponents,
        "lines": lines,
    }


def text_bytes(count: int) -> Tensor:
    """The first bytes of Python's standard library, module after module in the order of names."""
    data = bytearray()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")) + sorted(
        Path(sysconfig.get_path("stdlib")).glob("*/*.py")
    ):
        data += path.read_bytes()
        if len(data) >= count:
            break
    return torch.frombuffer(data[:count], dtype=torch.uint8).long()[None]


def stream(length: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model = LongNet(MILLION).eval()
    tokens = text_bytes(length)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, total, place = time.process_time(), 0.0, 0
    for hidden in model.stream(tokens):
        with torch.inference_mode():
            targets = tokens[0, place + 1 : place + 1 + hidden.shape[1]]
            logits = model.logits(hidden[0, : len(targets)])
            total += float(nn.functional.cross_entropy(logits, targets, reduction="sum"))
        place += hidden.shape[1]
    return {
        "tokens": tokens.shape[1],
        "cpu_seconds": time.process_time() - start,
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "peak_bytes_before": 1024 * before,
        "mean_loss": total / (tokens.shape[1] - 1),
    }


def million() -> dict[str, Any]:
    lines = []
    for length in STREAM_LENGTHS:
        command = [sys.executable, "-m", __spec__.name, "--stream", str(length)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        lines.append(json.loads(done.stdout.splitlines()[-1]))
        print(lines[-1], flush=True)
    keys = sum(-(-w // r) for w, r in MILLION.branches)
    return {
        "sizes": {
            name: getattr(MILLION, name) for name in ("hidden_size", "num_layers", "num_heads", "inner_size")
        },
        "branches": MILLION.branches,
        "chunk": 16_384,
        "cache_bytes": 2 * 4 * MILLION.num_layers * MILLION.hidden_size * keys,
        "full_cache_bytes": 2 * 4 * MILLION.num_layers * MILLION.hidden_size * STREAM_LENGTHS[-1],
        "lines": lines,
    }


def page_of(report: dict[str, Any]) -> str:
    machine = report["machine"]
    parts = [
        "# LongNet over length\n\n"
        f"One thread of {machine['cpu']}, torch {report['versions']['torch']}, float32, CPU time, seed 0, "
        f"{report['started_at']}; `{report['command']}`.\n"
    ]
    if "time" in report:
        part = report["time"]
        rows = ["| tokens | dense s | dilated s | faster by |", "|--:|--:|--:|--:|"]
        for line in part["lines"]:
            both = line["both"]
            rows.append(
                f"| {line['tokens']} | {both['dense']:.3f} | {both['dilated']:.3f} "
                f"| {both['dense'] / both['dilated']:.1f}x |"
            )
        exponents = part["exponents"]
        parts.append(
            f"## Forward and backward pass of attention\n\n{part['heads']} head of {part['head_dim']}, causal, "
            f"branches {', '.join(f'{w}/{r}' for w, r in part['branches'])} (segment length / dilation), medians of "
            f"{part['rounds']} interleaved rounds (dense from 32,768 on: one). Time grows with tokens to the power "
            f"**{exponents['dilated']:.2f}** (dilated) and {exponents['dense']:.2f} (dense).\n\n"
            + "\n".join(rows)
            + "\n"
        )
    if "million" in report:
        part = report["million"]
        rows = [
            "| tokens | CPU s | tokens/s | peak resident set | of it before reading |",
            "|--:|--:|--:|--:|--:|",
        ]
        for line in part["lines"]:
            rows.append(
                f"| {line['tokens']} | {line['cpu_seconds']:.1f} | {line['tokens'] / line['cpu_seconds']:.0f} "
                f"| {line['peak_bytes'] / 2**20:.0f} MiB | {line['peak_bytes_before'] / 2**20:.0f} MiB |"
            )
        parts.append(
            f"## A million tokens\n\n{part['sizes']['num_layers']} layers of {part['sizes']['hidden_size']}, branches "
            f"{', '.join(f'{w}/{r}' for w, r in part['branches'])}, chunks of {part['chunk']}: all tokens in one "
            f"segment. The layers keep {part['cache_bytes'] / 2**20:.1f} MiB of keys and values; all of them would be "
            f"{part['full_cache_bytes'] / 2**20:.0f} MiB.\n\n" + "\n".join(rows) + "\n"
        )
    return "\n".join(parts)


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--parts", default="time,million")
    parser.add_argument("--stream", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.stream:
        print(json.dumps(stream(options.stream)))
        return
    where = options.output / "longnet-length.json"
    report: dict[str, Any] = json.loads(where.read_text()) if where.exists() else {}
    report |= {
        **harness.provenance("longnet-length"),
    }
    for name, measure in (("time", times), ("million", million)):
        if name in options.parts.split(","):
            report[name] = measure()
    page = page_of(report)
    harness.save(options.output, "longnet-length", report, page)


if __name__ == "__main__":
    main()

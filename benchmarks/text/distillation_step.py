"""MiniLMv2's loss with its gradients, 48 relation heads over 512 tokens: by chunks of rows, and with whole relations.

Each way runs in a process of its own, for its peak memory; the two take turns. Seconds are of CPU time.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time

import torch

from benchmarks import harness

WAYS = {"fused": "auto", "plain": "reference"}


def one(texts: int, tokens: int, heads: int) -> dict[str, float]:
    """CPU seconds of a step behind one that warms up, and what it adds to the process's peak memory, in MB."""
    from multiway_blocks.distillation import minilm_v2

    torch.manual_seed(0)
    student = [torch.randn(texts, 12, tokens, 32, requires_grad=True) for _ in range(3)]
    teacher = [torch.randn(texts, 12, tokens, 64) for _ in range(3)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loss = torch.zeros(())
    for _ in range(2):
        start = time.process_time()
        loss = minilm_v2(tuple(student), tuple(teacher), heads)  # type: ignore[arg-type]
        loss.backward()
        seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "megabytes": (peak - before) / 1024, "loss": float(loss.detach())}


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--one", action="store_true", help="measure this process, and print it")
    parser.add_argument("--texts", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--heads", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.texts, options.tokens, options.heads)))
        return
    command = [sys.executable, "-m", "benchmarks.text.distillation_step", "--one"]
    for name in ("texts", "tokens", "heads"):
        command += [f"--{name}", str(getattr(options, name))]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way, mode in WAYS.items():
            told = subprocess.run(
                command,
                env=os.environ | {"MULTIWAY_KERNELS": mode},
                capture_output=True,
                text=True,
                check=True,
            )
            found[way].append(json.loads(told.stdout))
    medians = {
        way: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for way, runs in found.items()
    }
    report = harness.provenance("distillation-step") | {"runs": found, "medians": medians}
    rows = [
        [way, f"{each['seconds']:.2f}", f"{each['megabytes']:.0f}", f"{each['loss']:.6f}"]
        for way, each in medians.items()
    ]
    page = f"# MiniLMv2's loss, forward and backward\n\n{options.texts} texts of {options.tokens} tokens, "
    page += (
        f"{options.heads} relation heads, student 384 wide, teacher 768; medians of {options.rounds} rounds "
    )
    page += f"in turn.\n\n{harness.table(['', 'CPU s', 'MB beyond the inputs', 'loss'], rows)}\n"
    harness.save(options.output, "distillation-step", report, page)


if __name__ == "__main__":
    main()

"""Kernels against the memory's speed and against the best that PyTorch offers, side by side in one run.

    python benchmarks/kernels.py [--device cpu|cuda] [--threads N] [--skip-compiled] [--output FILE.json]

For each operation and shape: bytes that must move and floating-point operations; the floor, which is those bytes at
the speed of a plain copy of as many bytes on the same device in the same run; the kernel's time and the floor's share
of it; and the times of `torch.nn.functional.rms_norm` and of the definition, eager and (first shape only) compiled by
Inductor. Rounds of all candidates are interleaved and the best round counts, because other work may share the machine;
for the same reason one CPU thread is measured in CPU time.

Prints one table in Markdown and writes one JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from multiway_blocks.kernels.rms_norm import cpu, reference, rms_norm
from torch import Tensor
from torch.nn import functional

EPS = 1e-6
ROUNDS = 9
SECONDS_A_ROUND = 0.02
# Rows and features: a training step of the bundled reader, one token while decoding, a large model's layer.
SHAPES = {"cpu": ((6400, 256), (1, 256), (2048, 2048)), "cuda": ((6400, 256), (8192, 2048), (16384, 8192))}

Function = Callable[..., Tensor | tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Row:
    operation: str
    rows: int
    features: int
    dtype: str
    passes: str
    bytes: int
    flops: int
    floor_us: float
    kernel_us: float
    floor_share: float
    functional_us: float
    definition_us: float
    compiled_us: float | None
    speedup_over_best: float


def functional_rms_norm(x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None):
    """What a PyTorch user writes."""
    if residual is None:
        return functional.rms_norm(x, weight.shape, weight, eps)
    total = x + residual
    return functional.rms_norm(total, weight.shape, weight, eps), total


def definition(x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None):
    y, total, _ = reference.forward(x, residual, weight, eps)
    return y if residual is None else (y, total)


def best_seconds(candidates: dict[str, Callable[[], object]], device: str) -> dict[str, float]:
    """Best time a call of each candidate over interleaved rounds."""
    calls = {}
    for name, candidate in candidates.items():
        for _ in range(2):
            candidate()  # builds, compiles
        calls[name] = max(1, round(SECONDS_A_ROUND / timed(candidate, 1, device)))
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(ROUNDS):
        for name, candidate in candidates.items():
            best[name] = min(best[name], timed(candidate, calls[name], device))
    return best


def uses_cpu_time(device: str) -> bool:
    return device == "cpu" and torch.get_num_threads() == 1


def timed(candidate: Callable[[], object], calls: int, device: str) -> float:
    synchronise = torch.cuda.synchronize if device == "cuda" else lambda: None
    clock = time.process_time if uses_cpu_time(device) else time.perf_counter
    synchronise()
    start = clock()
    for _ in range(calls):
        candidate()
    synchronise()
    return (clock() - start) / calls


def call(function: Function, tensors: list[Tensor], gradients: list[Tensor]) -> Callable[[], object]:
    """A forward pass, followed by a backward pass if there are gradients."""
    x, weight, *residual = tensors

    def run() -> object:
        if not gradients:
            with torch.no_grad():
                return function(x, weight, EPS, *residual)
        result = function(x, weight, EPS, *residual)
        outputs = result if isinstance(result, tuple) else (result,)
        return torch.autograd.grad(outputs, tensors, gradients[: len(outputs)])

    return run


def measure(
    rows: int,
    features: int,
    dtype: torch.dtype,
    *,
    residual: bool,
    backward: bool,
    device: str,
    compiled: Function | None,
) -> Row:
    def tensor(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, dtype=dtype)

    x, weight = tensor(rows, features), tensor(features)
    tensors = [x, weight] + ([tensor(rows, features)] if residual else [])
    tensors = [t.requires_grad_(backward) for t in tensors]
    gradients = [tensor(rows, features) for _ in range(1 + residual)] if backward else []

    # Row tensors that pass through memory; forward: x, y and with a residual it and the sum; backward: grad_y, x,
    # grad_x and with a residual the sum's gradient.
    passes = (4 if residual else 2) + ((4 if residual else 3) if backward else 0)
    elements = rows * features
    moved = passes * elements * dtype.itemsize + rows * 4 * (2 if backward else 1) + features * dtype.itemsize
    flops = elements * (4 + residual + (10 + residual if backward else 0))

    half = torch.empty(moved // 2, dtype=torch.uint8, device=device)
    other = torch.empty_like(half)
    candidates = {
        "floor": lambda: other.copy_(half),
        "kernel": call(rms_norm, tensors, gradients),
        "functional": call(functional_rms_norm, tensors, gradients),
        "definition": call(definition, tensors, gradients),
    }
    if compiled is not None:
        candidates["compiled"] = call(compiled, tensors, gradients)
    us = {name: seconds * 1e6 for name, seconds in best_seconds(candidates, device).items()}
    best_other = min(us[name] for name in us if name not in ("floor", "kernel"))
    return Row(
        operation="add_rms_norm" if residual else "rms_norm",
        rows=rows,
        features=features,
        dtype=str(dtype).removeprefix("torch."),
        passes="forward + backward" if backward else "forward",
        bytes=moved,
        flops=flops,
        floor_us=us["floor"],
        kernel_us=us["kernel"],
        floor_share=us["floor"] / us["kernel"],
        functional_us=us["functional"],
        definition_us=us["definition"],
        compiled_us=us.get("compiled"),
        speedup_over_best=best_other / us["kernel"],
    )


def table(rows: list[Row]) -> str:
    lines = [
        "| operation | shape | type | passes | MB | MFLOP | floor µs | kernel µs | floor/kernel | F.rms_norm µs "
        "| definition µs | compiled µs | kernel vs best other |",
        "|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for r in rows:
        compiled = "-" if r.compiled_us is None else f"{r.compiled_us:.0f}"
        lines.append(
            f"| {r.operation} | {r.rows}x{r.features} | {r.dtype} | {r.passes} | {r.bytes / 1e6:.2f} "
            f"| {r.flops / 1e6:.1f} | {r.floor_us:.1f} | {r.kernel_us:.1f} | {r.floor_share:.0%} "
            f"| {r.functional_us:.0f} | {r.definition_us:.0f} | {compiled} | {r.speedup_over_best:.2f}x |"
        )
    return "\n".join(lines)


def machine(device: str) -> dict[str, object]:
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "device": f"{name} ({capability})" if device == "cpu" else name,
        "threads": torch.get_num_threads(),
        "clock": "CPU time" if uses_cpu_time(device) else "wall time",
        "cpu_kernel_built": cpu.supports(torch.float32, torch.float32),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--skip-compiled", action="store_true", help="Inductor takes a minute to start")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/kernels-DEVICE.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = options.device
    compiled = None if options.skip_compiled else torch.compile(definition, dynamic=False)
    if compiled is not None:
        torch._dynamo.config.recompile_limit = 64  # one specialisation for every line of the table
    rows = [
        measure(
            n,
            d,
            dtype,
            residual=residual,
            backward=backward,
            device=device,
            compiled=compiled if (n, d) == SHAPES[device][0] else None,
        )
        for n, d in SHAPES[device]
        for dtype in (torch.bfloat16, torch.float32)
        for residual in (False, True)
        for backward in (False, True)
    ]
    print(table(rows))
    output = options.output or Path(__file__).parent / "results" / f"kernels-{device}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(device), "rounds": ROUNDS, "rows": [asdict(row) for row in rows]}
    output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

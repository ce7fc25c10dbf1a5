"""The kernels of a decoding step against PyTorch's own operations and the memory's speed, side by side in one run.

    python -m benchmarks.core_blocks.decoding_kernels [--output DIR]

Products of 1 and 8 rows with the matrices of a mid-size decoder, and attention of one query over 300 and 2,000 cached
tokens, on one thread. So many matrices (or layers of the cache) are used in turn that none is found in a cache. The
floor is the time in which PyTorch adds up the same memory. Rounds of all candidates are interleaved and the best
round counts, in CPU time, because other work may share the machine.

Prints one table in Markdown and writes it, and one JSON file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_blocks.kernels.decode_attention import decode_attention
from multiway_blocks.kernels.skinny_gemm import skinny_gemm
from torch import Tensor
from torch.nn import functional

ROUNDS = 5
BYTES_IN_TURN = 150_000_000
PRODUCTS = (
    ("queries, keys, values", 768, 768),
    ("up", 3072, 768),
    ("down", 768, 3072),
    ("logits", 108_481, 768),
)
ROWS = (1, 8)
HEADS, HEAD_DIM = 12, 64
CACHED = (300, 2000)


def reading(tensors: list[Tensor]) -> Callable[[], object]:
    """Read memory and do next to nothing: as 32-bit numbers, each tensor in one sweep."""
    flat = [tensor.reshape(-1).view(torch.float32) for tensor in tensors]
    return lambda: [part.sum() for part in flat]


def measured(
    operation: str, shape: str, dtype: torch.dtype, tensors: list[Tensor], **candidates: Any
) -> dict[str, Any]:
    """One line of the table; ``candidates`` are called with the place of a tensor in ``tensors`` in turn."""
    calls = len(candidates.pop("places"))
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    runs = {
        name: (lambda candidate=candidate: [candidate(place) for place in range(calls)])
        for name, candidate in candidates.items()
    }
    rounds = harness.in_turn(runs | {"floor": reading(tensors)}, ROUNDS)
    seconds = {name: min(found) for name, found in rounds.items()}
    return {
        "operation": operation,
        "shape": shape,
        "dtype": str(dtype).removeprefix("torch."),
        "bytes": size // calls,
        "us": {name: 1e6 * value / calls for name, value in seconds.items()},
        "gigabytes_per_second": size / seconds["kernel"] / 1e9,
        "speedup": seconds["pytorch"] / seconds["kernel"],
        "floor_share": seconds["floor"] / seconds["kernel"],
    }


def products(dtype: torch.dtype) -> list[dict[str, Any]]:
    lines = []
    for name, outputs, inputs in PRODUCTS:
        count = max(1, BYTES_IN_TURN // (outputs * inputs * dtype.itemsize))
        weights = [torch.randn(outputs, inputs).to(dtype) for _ in range(count)]
        for rows in ROWS:
            x = torch.randn(rows, inputs).to(dtype)
            lines.append(
                measured(
                    f"skinny_gemm: {name}",
                    f"{rows} x {inputs} -> {outputs}",
                    dtype,
                    weights,
                    places=weights,
                    kernel=lambda place, x=x, weights=weights: skinny_gemm(x, weights[place]),
                    pytorch=lambda place, x=x, weights=weights: functional.linear(x, weights[place]),
                )
            )
    return lines


def attentions(dtype: torch.dtype) -> list[dict[str, Any]]:
    lines = []
    for length in CACHED:
        for rows in ROWS:
            shape = (rows, HEADS, length, HEAD_DIM)
            count = max(1, BYTES_IN_TURN // (2 * rows * HEADS * length * HEAD_DIM * dtype.itemsize))
            layers = [torch.randn(2, *shape).to(dtype) for _ in range(count)]
            query = torch.randn(rows, HEADS, HEAD_DIM).to(dtype)

            def kernel(place: int, query: Tensor = query, layers: list[Tensor] = layers) -> Tensor:
                return decode_attention(query, layers[place][0], layers[place][1])

            def pytorch(place: int, query: Tensor = query, layers: list[Tensor] = layers) -> Tensor:
                keys, values = layers[place]
                return functional.scaled_dot_product_attention(query[:, :, None], keys, values)

            lines.append(
                measured(
                    "decode_attention", f"{rows} rows, {length} keys", dtype, layers,
                    places=layers, kernel=kernel, pytorch=pytorch,
                )
            )  # fmt: skip
    return lines


def table(lines: list[dict[str, Any]]) -> str:
    columns = [
        "operation",
        "shape",
        "type",
        "MB",
        "floor µs",
        "kernel µs",
        "GB/s",
        "floor/kernel",
        "PyTorch µs",
        "faster by",
    ]
    rows = [
        (
            line["operation"], line["shape"], line["dtype"], f"{line['bytes'] / 1e6:.2f}",
            f"{line['us']['floor']:.0f}", f"{line['us']['kernel']:.0f}", f"{line['gigabytes_per_second']:.1f}",
            f"{line['floor_share']:.0%}", f"{line['us']['pytorch']:.0f}", f"{line['speedup']:.2f}x",
        )
        for line in lines
    ]  # fmt: skip
    return harness.table(columns, rows, numbers_from=3)


def main() -> None:
    parser = harness.parser(__doc__, "core_blocks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.inference_mode():
        lines = [
            line
            for dtype in (torch.float32, torch.bfloat16)
            for part in (products, attentions)
            for line in part(dtype)
        ]
    report: dict[str, Any] = {
        **harness.provenance("decoding-kernels"),
        "rounds": ROUNDS,
        "lines": lines,
    }
    page = (
        "# Kernels of the decoding step\n\n"
        f"One thread of {report['machine']['cpu']}, torch {torch.__version__}, best of {ROUNDS} interleaved rounds in "
        f"CPU time, seed 0, {harness.STARTED_AT}; `{report['command']}`. The floor is PyTorch's sum over the same "
        "memory.\n\n"
        f"{table(lines)}\n"
    )
    harness.save(options.output, "decoding-kernels", report, page)


if __name__ == "__main__":
    main()

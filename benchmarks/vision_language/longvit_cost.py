"""LongViT's cost over picture sizes: CPU time and resident memory of LongViT-S layers, dilated and dense attention.

    python -m benchmarks.vision_language.longvit_cost --cells /tmp/longvit-cost

Each cell is a process of its own. All twelve layers of LongViT-S are timed, with the patch embedding, in bfloat16.
Dense attention is the same network with one segment, by PyTorch's fused kernel, which never holds all pairs; it is
timed with two of the layers, beside dilated attention with two. The picture of 32,768 pixels is read in bands through
the streaming path, with one layer, for its memory.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness

SIDES = (1024, 2048, 4096, 8192, 16_384)
DENSE_SIDES = (1024, 2048, 4096, 8192)
STREAMED = 32_768
LAYERS, COMPARED_LAYERS = 12, 2
"""Of LongViT-S; and of both attentions where they are compared."""
TARGET = 1.15


def main() -> None:
    """Run the cells that are missing, then write results/vision_language/longvit-cost.{json,md}."""
    options = harness.parser(__doc__, "vision_language")
    options.add_argument("--cells", type=Path, required=True, help="folder that keeps what was measured")
    options.add_argument("--minutes", type=float, default=60, help="no new cell is begun after so long")
    options.add_argument("--one", nargs=3, metavar=("KIND", "SIDE", "LAYERS"), help="measure one cell here")
    chosen = options.parse_args()
    if chosen.one:
        print(json.dumps(measured(chosen.one[0], int(chosen.one[1]), int(chosen.one[2]))))
        return
    wanted = [("dilated", side, LAYERS) for side in SIDES]
    wanted += [(kind, side, COMPARED_LAYERS) for kind in ("dilated", "dense") for side in DENSE_SIDES]
    wanted.sort(key=lambda cell: cell[1])  # the small ones first: a run that is stopped has a table
    wanted.append(("dilated", STREAMED, 1))
    cells = []
    for kind, side, layers in wanted:
        name = f"{kind}-{side}-{layers}.json"
        cell = harness.kept(
            chosen.cells / name, lambda key=(kind, side, layers): in_process(*key), chosen.minutes
        )
        cells += [] if cell is None else [cell]
    report = harness.provenance("longvit-cost") | {"cells": cells}
    for kind, layers in (("dilated", LAYERS), ("dilated", COMPARED_LAYERS), ("dense", COMPARED_LAYERS)):
        report[f"exponent_{kind}_{layers}_layers"] = exponent(
            [cell for cell in cells if cell["kind"] == kind and cell["layers"] == layers]
        )
    counts = [(side // 32) ** 2 for side in SIDES]
    report["exponent_operations"] = slope(counts, [operations(tokens) for tokens in counts])
    harness.save(chosen.output, "longvit-cost", report, page(report))


def in_process(kind: str, side: int, layers: int) -> dict[str, Any]:
    """A cell, in a process of its own, so that its peak of memory is its own."""
    command = [sys.executable, "-m", "benchmarks.vision_language.longvit_cost", "--cells", "."]
    command += ["--one", kind, str(side), str(layers)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def measured(kind: str, side: int, layers: int) -> dict[str, Any]:
    """CPU and wall seconds of one pass, and the resident memory above that of the process with its model."""
    import dataclasses

    import torch
    from multiway_blocks.dilated_pattern import DilatedPattern
    from multiway_vision_language.longvit.bounded import embed_bands, encode_bounded
    from multiway_vision_language.longvit.config import LONGVIT_SMALL
    from multiway_vision_language.longvit.model import LongViT, PatchAttention

    torch.set_num_threads(2)
    torch.manual_seed(0)
    model = LongViT(dataclasses.replace(LONGVIT_SMALL, num_layers=layers)).eval().to(torch.bfloat16)
    tokens = (side // LONGVIT_SMALL.patch_size) ** 2
    if kind == "dense":
        for module in model.modules():
            if isinstance(module, PatchAttention):
                module.pattern_of = lambda _: DilatedPattern(((tokens, 1),), mask_padding=False)
    block = np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), np.uint8)

    def read(first: int, last: int) -> np.ndarray:
        rows = block[np.arange(first, last) % 1024]
        return np.tile(rows, (1, side // 1024, 1))

    def run() -> None:
        encode_bounded(model, embed_bands(model, read, side))

    before = peak_bytes()
    times = []
    for _ in range(3 if side <= 2048 else 1):
        cpu, wall = time.process_time(), time.monotonic()
        run()
        times.append((time.process_time() - cpu, time.monotonic() - wall))
    return {
        "kind": kind, "side": side, "layers": layers, "tokens": tokens,
        "cpu_seconds": min(times)[0], "wall_seconds": min(wall for _, wall in times),
        "peak_bytes_above_model": peak_bytes() - before, "picture_bytes": 3 * side * side,
        "load_average": harness.machine()["load_average"],
    }  # fmt: skip


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def operations(tokens: int) -> float:
    """Floating-point operations of a layer of LongViT-S over so many patches, by its table of segments."""
    from multiway_vision_language.longvit.config import DILATIONS, LONGVIT_SMALL, SEGMENTS

    lengths = SEGMENTS[max(size for size in SEGMENTS if size <= tokens)]
    pairs = sum(min(length, tokens) / step**2 for length, step in zip(lengths, DILATIONS, strict=True))
    width, inner = LONGVIT_SMALL.hidden_size, LONGVIT_SMALL.inner_size
    return tokens * (2 * (4 * width**2 + 2 * width * inner) + 4 * width * pairs)


def exponent(cells: list[dict[str, Any]]) -> float | None:
    """Slope of log CPU time over log patches, by least squares."""
    if len(cells) < 2:
        return None
    return slope([cell["tokens"] for cell in cells], [cell["cpu_seconds"] for cell in cells])


def slope(x: list[int], y: list[float]) -> float:
    """Of log y over log x, by least squares."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def page(report: dict[str, Any]) -> str:
    """The table."""
    rows = [
        (
            f"{cell['kind']}, {cell['layers']} layer{'s' * (cell['layers'] > 1)}",
            f"{cell['side']:,}", f"{cell['tokens']:,}", f"{cell['cpu_seconds']:.1f}", f"{cell['wall_seconds']:.1f}",
            f"{cell['peak_bytes_above_model'] / 2**20:,.0f}", f"{cell['picture_bytes'] / 2**20:,.0f}",
        )
        for cell in report["cells"]
    ]  # fmt: skip
    columns = ("attention", "side", "patches", "CPU s", "wall s", "MiB above the model", "MiB of the picture")
    dilated = report[f"exponent_dilated_{LAYERS}_layers"]
    verdict = "unknown" if dilated is None else "met" if dilated <= TARGET else "missed"
    compared = {kind: report[f"exponent_{kind}_{COMPARED_LAYERS}_layers"] for kind in ("dilated", "dense")}
    both = ", ".join(f"{kind} {value and round(value, 3)}" for kind, value in compared.items())
    return (
        "# LongViT: cost over picture sizes\n\n"
        f"`{report['command']}`\n\n{report['machine']}\n\n"
        + harness.table(columns, rows)
        + f"\n\nExponent of CPU time in patches, LongViT-S: {dilated and round(dilated, 3)}"
        f" (target at most {TARGET}: {verdict}). Two layers, to {DENSE_SIDES[-1]:,} pixels: {both}.\n"
        "The released table gives a query 124 keys at 1,024 pixels and 5,120 at 16,384, so that operations alone grow\n"
        f"with {report['exponent_operations']:.3f}. Other work ran on the machine: CPU time is what compares.\n"
    )


if __name__ == "__main__":
    main()

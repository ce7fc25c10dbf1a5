"""MH-MoE in small: do sub-tokens lower the loss of a byte model at equal operations and weights?

    python -m benchmarks.text.mh_moe_small [--work FOLDER] [--seeds 3] [--steps 600] [--minutes 20]

Five byte models of 4 layers of 96 on the sources of Python's standard library, a tenth of the files held out: dense,
a mixture of 8 experts (SMoE), 16 finer ones, and MH-MoE with 2 and with 3 sub-tokens. Every second layer is a mixture.
Sizes are those of arXiv 2411.16205, section 4, an eighth as wide; all five compute the same for a token, and the four
mixtures have the same weights, by `multiway_text.decoders.mh_moe.parity`. All of a seed read the same windows in order.

Loss is that of the held-out files in nats a byte. The activation ratio is the share of experts that get at least a
quarter of a fair share of the held-out text. The work is cut in cells (a system with a seed); one that the folder
--work holds is not trained again, and after --minutes of CPU time none is begun.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import sysconfig
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_text.decoders.mh_moe import processor, recipe
from multiway_text.decoders.mh_moe.config import MHMoEConfig
from multiway_text.decoders.mh_moe.model import MHMoE
from multiway_text.decoders.mh_moe.objective import activation_ratio, expert_loads
from multiway_text.decoders.mh_moe.parity import MixtureSizes, match_operations_and_weights
from torch import Tensor

from benchmarks.text.paired_gaps import paired_gaps

WIDTH, INNER = 96, 256  # 768 and 2048, scaled
LENGTH, BATCH, RATE = 129, 8, 3e-3
HELD_OUT_BYTES = 40_000
BASE = MixtureSizes(WIDTH, INNER, 8)
MIXTURES = {
    "dense": None,
    "SMoE": BASE,
    "fine": MixtureSizes(WIDTH, INNER // 2, 16, 2),
    "MH h=2": match_operations_and_weights(BASE, 2, 2),
    "MH h=3": match_operations_and_weights(BASE, 3, 3),
}
CLAIMS = [("dense", "SMoE"), ("SMoE", "fine"), ("fine", "MH h=2"), ("fine", "MH h=3")]


def texts() -> tuple[Tensor, Tensor]:
    """Bytes of the training and of the held-out files, which a hash of their names chooses."""
    parts: dict[bool, list[bytes]] = {False: [], True: []}
    folder = Path(sysconfig.get_path("stdlib"))
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        if name.startswith(("site-packages", "test/", "lib2to3/tests", "idlelib/idle_test")):
            continue
        held = hashlib.sha256(name.encode()).digest()[0] % 10 == 0
        parts[held].append(path.read_bytes())
    train, held_out = (
        torch.frombuffer(bytearray(b"".join(parts[held])), dtype=torch.uint8) for held in (False, True)
    )
    # An even choice of stretches, so that no single file weighs much.
    count = min(HELD_OUT_BYTES, len(held_out)) // LENGTH
    rows = held_out[: len(held_out) // LENGTH * LENGTH].view(-1, LENGTH)
    return train, rows[torch.linspace(0, len(rows) - 1, count).long()].flatten()


def build(name: str, seed: int) -> MHMoE:
    """The model of a system."""
    sizes = MIXTURES[name]
    config = MHMoEConfig(
        vocab_size=processor.VOCAB_SIZE,
        hidden_size=WIDTH,
        num_layers=4,
        num_heads=4,
        inner_size=INNER,
        mixture_every=2 if sizes else 0,
        split_heads=sizes.split_heads if sizes else 1,
        num_experts=sizes.num_experts if sizes else 1,
        experts_per_token=sizes.experts_per_token if sizes else 1,
        expert_size=sizes.expert_size if sizes else INNER,
    )
    torch.manual_seed(seed)
    return MHMoE(config)


def run(name: str, seed: int, steps: int, work: Path, train: Tensor, held_out: Tensor) -> dict[str, Any]:
    model, start = build(name, seed), time.process_time()
    folder = work / f"{name.replace(' ', '-').replace('=', '')}-{seed}"
    config = recipe.train_config(steps, RATE, seed)
    recipe.job(model, train, config, batch_size=BATCH, length=LENGTH).fit(folder)
    seconds = time.process_time() - start
    loads = expert_loads(model, held_out.view(-1, LENGTH)[::2].long())
    return {
        "nats": recipe.evaluate(model, held_out, length=LENGTH),
        "activation_ratio": activation_ratio(loads) if len(loads) else None,
        "largest_load_times_experts": float(loads.max() * loads.shape[1]) if len(loads) else None,
        "train_cpu_seconds": round(seconds, 1),
    }


def sizes_of(name: str) -> dict[str, int]:
    model = build(name, 0)
    config = model.config
    mixture = config.mixture
    active = mixture.operations if config.mixture_every else BASE.operations
    total = sum(parameter.numel() for parameter in model.parameters())
    return {
        "weights": total,
        "operations": active,
        "experts": mixture.num_experts,
        "size": mixture.expert_size,
    }


def markdown(report: dict[str, Any]) -> str:
    cells, machine = report["cells"], report["machine"]
    by_system: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in MIXTURES}
    for cell, one in cells.items():
        name, seed = cell.split(", seed ")
        by_system[name][int(seed)] = one
    rows = [
        "| system | weights | operations of a (mixture) layer, a token | experts (inner size) | nats a byte, each seed "
        "| mean | activation ratio | CPU ms a step |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, by_seed in by_system.items():
        if not by_seed:
            continue
        found = list(by_seed.values())
        sizes = report["systems"][name]
        nats = [one["nats"] for one in found]
        ratios = [one["activation_ratio"] for one in found if one["activation_ratio"] is not None]
        ratio = f"{100 * statistics.mean(ratios):.0f} %" if ratios else "-"
        step = 1e3 * statistics.median(one["train_cpu_seconds"] for one in found) / report["steps"]
        experts = f"{sizes['experts']} ({sizes['size']})"
        rows.append(
            f"| {name} | {sizes['weights']:,} | {sizes['operations']:,} | {experts} "
            f"| {', '.join(f'{n:.4f}' for n in nats)} | {statistics.mean(nats):.4f} | {ratio} | {step:.0f} |"
        )
    return (
        "# MH-MoE in small\n\n"
        f"Byte models on Python's standard library, {report['steps']} steps of {BATCH} x {LENGTH - 1} bytes, AdamW at "
        f"{RATE}, balance weight 0.01; {report['held_out_bytes']:,} held-out bytes. "
        f"One thread of {machine['cpu']} at a load of {machine['load_average']:.0f}, "
        f"{report['finished_at']}; `{report['command']}`.\n\n"
        + "\n".join(rows)
        + "\n\n"
        + paired_gaps(
            {
                name: {seed: one["nats"] for seed, one in by_seed.items()}
                for name, by_seed in by_system.items()
            },
            CLAIMS,
        )
        + "\n"
    )


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--work", type=Path, default=Path("runs/mh-moe-small"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--minutes", type=float, default=20.0, help="of CPU time, after which no cell begins")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    train, held_out = texts()
    cells: dict[str, Any] = {}
    for seed in range(options.seeds):
        for name in MIXTURES:
            path = options.work / f"{name.replace(' ', '-').replace('=', '')}-{seed}.json"
            if not path.is_file():
                if time.process_time() / 60 > options.minutes:
                    continue
                path.write_text(json.dumps(run(name, seed, options.steps, options.work, train, held_out)))
            cells[f"{name}, seed {seed}"] = json.loads(path.read_text())
            print(name, seed, cells[f"{name}, seed {seed}"], flush=True)
    report = {
        **harness.provenance("mh-moe-small"),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "steps": options.steps,
        "train_bytes": len(train),
        "held_out_bytes": len(held_out),
        "systems": {name: sizes_of(name) for name in MIXTURES},
        "cells": cells,
    }
    harness.save(options.output, "mh-moe-small", report, markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()

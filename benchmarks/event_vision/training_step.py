"""A training step of SSLA-Det on one core: folded, multiplied matrix by matrix, and the authors' code.

    python -m benchmarks.event_vision.training_step [--events 3000] [--windows 4] [--rounds 5] [--ssla DIR]
        [--output DIR]

Forward, head loss and backward of size S on the same windows of 100 ms (304 x 240 pixels, no two events at one time)
from the same weights, sides in turn, median of the rounds after one that does not count; CPU seconds of one thread.
Ours runs as it is trained (state updates and peek) and as the released code thins (end-anchored).

`--ssla` is a checkout of github.com/haohq19/ssla with its Python dependency PyYAML. It needs a GPU for its scan, and
torch-scatter for pooling: both are replaced here, the scan by ours, which is compiled, and pooling by PyTorch's
`scatter_reduce`. Its loss and ours on the same batch are printed too: they must agree.
"""

from __future__ import annotations

import os
import sys
import time
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import torch
from multiway_event_vision.kernels.segmented_scan import segmented_scan
from multiway_event_vision.ssla_det.assignment import Targets
from multiway_event_vision.ssla_det.checkpoint import from_published
from multiway_event_vision.ssla_det.config import PRESETS
from multiway_event_vision.ssla_det.inputs import EventArrays, batch_windows, check_events
from multiway_event_vision.ssla_det.model import SslaDet, build
from multiway_event_vision.ssla_det.objective import objective

HEIGHT, WIDTH, WINDOW_US = 240, 304, 100_000
BOXES = [[(60.0, 30.0, 100.0, 60.0), (20.0, 20.0, 70.0, 70.0)], [(120.0, 90.0, 200.0, 150.0)]]  # in turn
HOT_PIXEL = 50
Step = Callable[[], float]


def window(events: int, seed: int) -> EventArrays:
    """Edges of three discs that move, every event at a microsecond of its own."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.choice(WINDOW_US, events, replace=False))
    disc, angle = rng.integers(0, 3, events), rng.uniform(0, 2 * np.pi, events)
    start, speed = rng.uniform(40, 200, (2, 3)), rng.uniform(-200, 200, (2, 3))
    x, y = start[:, disc] + speed[:, disc] * t / 1e6 + 25 * np.array([np.cos(angle), np.sin(angle)])
    x, y = x.clip(0, WIDTH - 1).astype(int), y.clip(0, HEIGHT - 1).astype(int)
    return check_events(t, x, y, rng.integers(0, 2, events), height=HEIGHT, width=WIDTH)


def our_step(model: SslaDet, windows: list[EventArrays], *, fold: bool) -> Step:
    targets = [
        Targets(torch.tensor(boxes), torch.arange(len(boxes)) % 2)
        for boxes in (BOXES[number % len(BOXES)] for number in range(len(windows)))
    ]

    def step() -> float:
        batch = batch_windows(windows, height=HEIGHT, width=WIDTH, max_per_pixel=HOT_PIXEL)
        loss = objective(model(batch, fold=fold), targets, stride=model.config.stride).total
        model.zero_grad()
        loss.backward()
        return float(loss.detach())

    return step


def authors_model(folder: Path) -> Any:
    """Their network of size S, on stand-ins for what needs a GPU or is not installed."""
    import yaml

    def module(name: str, **content: object) -> None:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__dict__.update(content)

    def scatter_max(src, index, dim=0, dim_size=None):
        empty = torch.full((int(dim_size), src.shape[1]), -1e30)
        return empty.scatter_reduce(0, index, src, "amax"), None

    def scan(u, g, cu_seqlens):
        return segmented_scan(u, g, cu_seqlens.long())

    for name in ("lightning", "lightning.pytorch", "lightning.pytorch.core"):
        module(name)
    module("lightning.pytorch.core.module", LightningModule=torch.nn.Module)
    module("lightning.pytorch.utilities", grad_norm=None)
    module("utils.data_utils", get_dataset=None)
    module("torch_scatter", scatter_max=scatter_max, scatter_mean=None)
    module("ops.common.scan", scan=scan)
    sys.path.insert(0, str(folder))
    import model_mos  # type: ignore[import-not-found]

    text = (folder / "configs" / "model" / "MOS_S.yaml").read_text(encoding="utf-8")
    return model_mos.MosModel(yaml.safe_load(text))


def authors_step(model: Any, windows: list[EventArrays]) -> Step:
    longest = max(len(one) for one in windows)
    events = torch.zeros(len(windows), longest, 4)
    labels = torch.zeros(len(windows), 2, 5)
    for number, one in enumerate(windows):
        rows = [one.pixel % WIDTH, one.pixel // WIDTH, one.t, np.where(one.on, 1, -1)]
        events[number, : len(one)] = torch.from_numpy(np.stack(rows, 1)).float()
        for place, (x1, y1, x2, y2) in enumerate(BOXES[number % len(BOXES)]):
            middle = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, place % 2)
            labels[number, place] = torch.tensor(middle)
    lengths = torch.tensor([len(one) for one in windows])

    def step() -> float:
        batch = {"events": events.clone(), "lengths": lengths.clone(), "labels": labels.clone()}
        loss = model(batch)["loss"]
        model.zero_grad()
        loss.backward()
        return float(loss.detach())

    return step


def measure(steps: dict[str, Step], rounds: int) -> dict[str, dict[str, Any]]:
    losses = {name: step() for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds):
        for name, step in steps.items():
            started = time.process_time()
            step()
            seconds[name].append(time.process_time() - started)
        print(number, {name: round(values[-1], 3) for name, values in seconds.items()}, file=sys.stderr)
    return {name: {"loss": losses[name], "cpu_seconds": seconds[name]} for name in steps}


def main() -> None:
    parser = harness.parser(__doc__, "event_vision")
    parser.add_argument("--events", type=int, default=3000, help="of a window")
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--ssla", type=Path, help="the authors' repository; their side is left out without it"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    windows = [window(options.events, seed) for seed in range(options.windows)]
    steps: dict[str, Step] = {}
    if options.ssla is None:
        released = replace(PRESETS["ssla-s"], readout="end-anchored", merge_ties=True)
        as_released = build(released)
    else:
        theirs = authors_model(options.ssla.resolve()).train()
        as_released = from_published({name: tensor.clone() for name, tensor in theirs.state_dict().items()})
        steps["the authors' code, our scan"] = authors_step(theirs, windows)
    as_released.train()
    as_trained = build(replace(as_released.config, readout="commit-peek", merge_ties=False)).train()
    as_trained.load_state_dict(as_released.state_dict())
    for name, model in (("thinned as released", as_released), ("state updates and peek", as_trained)):
        steps[f"ours, {name}, matrix by matrix"] = our_step(model, windows, fold=False)
        steps[f"ours, {name}, folded"] = our_step(model, windows, fold=True)

    sides = measure(steps, options.rounds)
    machine = harness.machine()
    report = {
        **harness.provenance("event-training-step"),
        "events": options.events,
        "windows": options.windows,
        "sides": sides,
    }
    count = options.events * options.windows
    fastest = median(sides["ours, thinned as released, folded"]["cpu_seconds"])
    lines = [
        "| forward, loss, backward | ms a step | us an event | of ours, thinned as released, folded | loss |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, side in sides.items():
        seconds = median(side["cpu_seconds"])
        lines.append(
            f"| {name} | {seconds * 1e3:.0f} | {seconds / count * 1e6:.1f} | {seconds / fastest:.2f} | "
            f"{side['loss']:.4f} |"
        )
    text = (
        f"# Training step of SSLA-Det\n\nSize S, {options.windows} windows of {options.events:,} events on {WIDTH} x "
        f"{HEIGHT} pixels; {machine['cpu']}, one thread, CPU time, shared with other work (load "
        f"{machine['load_average']:.1f}), {harness.STARTED_AT}; median of {options.rounds} rounds, sides in turn "
        "(`benchmarks/event_vision/training_step.py`).\n\n" + "\n".join(lines) + "\n"
    )
    harness.save(options.output, "event-training-step", report, text)


if __name__ == "__main__":
    main()

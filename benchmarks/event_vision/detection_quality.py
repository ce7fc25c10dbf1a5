"""Quality against cost of SSLA-Det and its baselines, trained alike: same data, batches, steps, head, losses, teacher.

    python -m benchmarks.event_vision.detection_quality [--steps 400] [--work runs/event-detection-quality]
        [--output DIR]
    python -m benchmarks.event_vision.detection_quality --train lstm     # only this; models may run in parallel

Data is the shapes set (`ssla_det/shapes_set.py`): training on scenes of 80 x 80 pixels, test on 128 x 96. An
interrupted run resumes. Then each model is measured on the same held-out scenes of 400 ms, once (the row is
kept in `--work`):

* mAP and AP50, read every 50 ms from a scene's beginning to its end, without a reset;
* operations an event as `ssla_det/cost.py` counts them: of its state updates (mean, p50, p99, max), and of read-outs
  every 10 ms, shared out (a dense network's whole forward);
* CPU time an event in slices of 10 ms, and of a read-out (micro-batch engine; SSLA-S also in the event engine).

`--bundled` measures the two bundled models beside them, which were trained for longer (their cards say how).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_core import hub, model_folder
from multiway_core.evaluation.machine import installed_versions
from multiway_core.training import Trainer
from multiway_event_vision.baselines import global_linear_attention, lstm
from multiway_event_vision.baselines.dense_cnn import DenseCnn, DenseCnnConfig, forward_flops
from multiway_event_vision.baselines.dense_engine import DenseEngine
from multiway_event_vision.baselines.global_linear_attention import GlobalDet
from multiway_event_vision.baselines.lstm import LstmDet
from multiway_event_vision.labels.labelled import LabelledRecording
from multiway_event_vision.simulator.shapes import CLASS_NAMES
from multiway_event_vision.ssla_det import checkpoint, cost
from multiway_event_vision.ssla_det.config import PRESETS, SslaDetConfig
from multiway_event_vision.ssla_det.detector import Detector
from multiway_event_vision.ssla_det.engines.engine import Engine, Work
from multiway_event_vision.ssla_det.engines.event import EventEngine
from multiway_event_vision.ssla_det.engines.micro_batch import MicroBatchEngine
from multiway_event_vision.ssla_det.model import SslaDet, open_gates
from multiway_event_vision.ssla_det.recipe import LONGEST_MEMORY, RECIPES, detector_job
from multiway_event_vision.ssla_det.scoring import score_recordings
from multiway_event_vision.ssla_det.shapes_set import shapes_set

STREAMS, MAX_EVENTS = 2, 12_000
"""In a training batch, and of each stream: half of the recipe's, so that there are four times the steps in a time."""
CLASSES = len(CLASS_NAMES)
SIZE_S = replace(PRESETS["ssla-s"], num_classes=CLASSES)
MODELS: dict[str, Callable[[], Detector]] = {
    "ssla-s": lambda: SslaDet(SIZE_S),
    "lstm": lambda: LstmDet(SIZE_S),
    "lstm-narrow": lambda: LstmDet(SslaDetConfig((8, 16, 32, 64), num_classes=CLASSES)),
    "global": lambda: GlobalDet(SIZE_S),
    "global-wide": lambda: GlobalDet(SslaDetConfig((36, 72, 144, 288), num_classes=CLASSES)),
    "dense-cnn": lambda: DenseCnn(DenseCnnConfig(num_classes=CLASSES)),
}
"""`lstm` and `global` have SSLA-S's widths, `lstm-narrow` and `global-wide` about its operations an event."""
TEACHER = "bundled:shapes-dense-cnn"
"""Of all but the dense network itself, as in the bundled SSLA-Det's training."""
LAYER_FLOPS: dict[type[Detector], cost.LayerFlops] = {
    SslaDet: cost.layer_flops,
    LstmDet: lstm.layer_flops,
    GlobalDet: global_linear_attention.layer_flops,
}
READ_EVERY_US = 10_000


@dataclass(frozen=True)
class Row:
    """What is known of one model. Operations in millions, times in CPU microseconds or milliseconds."""

    name: str
    parameters: int
    steps: int | None
    train_cpu_minutes: float | None
    ap: float
    ap50: float
    mflop_mean: float
    mflop_p50: float
    mflop_p99: float
    mflop_max: float
    mflop_read_outs: float
    """Of read-outs every 10 ms, shared out over the events."""
    mflop_fresh: float
    """Of an event and a box that knows of it."""
    us_event: float
    ms_read_out: float
    us_event_engine: float | None
    load: float
    """The machine's load average when it was measured."""


def note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def train(name: str, steps: int, recordings: Sequence[LabelledRecording], work: Path) -> Detector:
    """The model after its run in `work`, which is begun, continued or, when it is finished, loaded."""
    recipe = RECIPES["shapes"]
    recipe = replace(
        recipe,
        streams=replace(recipe.streams, streams=STREAMS, max_events=MAX_EVENTS),
        train=replace(
            recipe.train,
            steps=steps,
            warmup_steps=steps // 10,
            ema_decay=max(0.5, 1 - 8 / steps),
            checkpoint_every_seconds=120,
        ),
    )
    torch.manual_seed(0)
    model, folder = MODELS[name](), work / name
    teacher = None
    if isinstance(model, SslaDet):
        open_gates(model, LONGEST_MEMORY)
        teacher = bundled(TEACHER)
    note(f"{name}: training")
    start, done = time.process_time(), (folder / "checkpoints" / f"step-{steps:09d}").exists()
    job = detector_job(model, recordings, recipe.streams, recipe.train, teacher=teacher)
    trainer = Trainer(job.model, job.objective, job.batches, job.config, folder)
    finished = trainer.fit().finished
    trainer.keep_final_weights()
    model.eval()
    if not done:
        with (folder / "cpu-seconds").open("a") as file:  # one number for each start
            print(round(time.process_time() - start, 1), file=file)
    if not finished:
        sys.exit(f"{name}: stopped; the same command goes on")
    return model


def bundled(name: str) -> Detector:
    """An SSLA-Det or a dense network. Raises ModelNotFoundError, ConfigError, CheckpointError."""
    folder = hub.resolve(name)
    if "window_us" in json.loads((folder / model_folder.CONFIG_FILE).read_text()):
        return model_folder.load(DenseCnn, DenseCnnConfig, folder)
    return checkpoint.load(folder)


def measure(
    name: str, model: Detector, test: Sequence[LabelledRecording], costs: int, work: Path, steps: int | None
) -> Row:
    """Scores on all test scenes, operations and times on the first `costs` of them."""
    kept = work / name / f"row-{len(test)}-{costs}.json"
    if kept.exists():
        return Row(**json.loads(kept.read_text()))
    note(f"{name}: measuring")
    scores = score_recordings(model, test)
    spent = work / name / "cpu-seconds"
    minutes = sum(map(float, spent.read_text().split())) / 60 if spent.exists() else None
    few = test[:costs]
    events = sum(len(recording.events) for recording in few)
    if isinstance(model, DenseCnn):
        reads, push, read = _run(lambda h, w: DenseEngine(model, h, w), few)
        forward = forward_flops(model.config, few[0].events.height, few[0].events.width) / 1e6
        operations = [forward] * 4 + [forward * reads / events, forward]
        event_engine = None
    else:
        assert isinstance(model, SslaDet)
        engines: list[Engine] = []

        def made(height: int, width: int) -> Engine:
            engines.append(MicroBatchEngine(model, height, width))
            return engines[-1]

        reads, push, read = _run(made, few)
        work_done = Work(
            sum(engine.work.updated for engine in engines),
            sum(engine.work.peeked for engine in engines),
            sum(engine.work.predicted for engine in engines),
        )
        found = cost.cost_of(model.config, work_done, layer_flops=LAYER_FLOPS[type(model)])
        values = found.mean, found.p50, found.p99, found.max, found.peeks + found.head, found.worst
        operations = [value / 1e6 for value in values]
        event_engine = None
        if type(model) is SslaDet:
            _, seconds, _ = _run(lambda h, w: EventEngine(model, h, w), few)
            event_engine = seconds / events * 1e6
    row = Row(
        name,
        sum(p.numel() for p in model.parameters()),
        steps,
        minutes,
        scores.ap,
        scores.ap50,
        *operations,
        push / events * 1e6,
        read / reads * 1e3,
        event_engine,
        os.getloadavg()[0],
    )
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(asdict(row)) + "\n")
    return row


def _run(
    make: Callable[[int, int], Engine | DenseEngine], recordings: Sequence[LabelledRecording]
) -> tuple[int, float, float]:
    """(read-outs, CPU seconds of taking events in, CPU seconds of reading)."""
    reads, push, read = 0, 0.0, 0.0
    for recording in recordings:
        events = recording.events
        engine = make(events.height, events.width)
        for end in range(READ_EVERY_US, int(recording.label_times[-1]) + 1, READ_EVERY_US):
            start = time.process_time()
            engine.push_events(events.between(end - READ_EVERY_US, end))
            pushed = time.process_time()
            engine.predict()
            push, read = push + pushed - start, read + time.process_time() - pushed
            reads += 1
    return reads, push, read


COLUMNS: dict[str, tuple[str, str]] = {
    "parameters": ("parameters, thousand", "{:.0f}"),
    "steps": ("training steps", "{}"),
    "train_cpu_minutes": ("training, CPU minutes", "{:.1f}"),
    "ap": ("mAP", "{:.3f}"),
    "ap50": ("AP50", "{:.3f}"),
    "mflop_mean": ("MFLOP an event, mean", "{:.3g}"),
    "mflop_p50": ("p50", "{:.3g}"),
    "mflop_p99": ("p99", "{:.3g}"),
    "mflop_max": ("max", "{:.3g}"),
    "mflop_read_outs": ("read-outs every 10 ms, shared out", "{:.3g}"),
    "mflop_fresh": ("an event with a fresh box", "{:.3g}"),
    "us_event": ("us an event, slices of 10 ms", "{:.3g}"),
    "ms_read_out": ("ms a read-out", "{:.3g}"),
    "us_event_engine": ("us an event, event engine", "{:.3g}"),
    "load": ("load average while measured", "{:.0f}"),
}


def table(rows: Sequence[Row]) -> str:
    lines = ["| | " + " | ".join(row.name for row in rows) + " |", "|---" * (len(rows) + 1) + "|"]
    for field, (title, form) in COLUMNS.items():
        values = [getattr(row, field) for row in rows]
        if field == "parameters":
            values = [value / 1000 for value in values]
        shown = ["" if value is None or math.isnan(value) else form.format(value) for value in values]
        lines.append(f"| {title} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__, "event_vision")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--work", type=Path, default=Path("runs/event-detection-quality"))
    parser.add_argument("--train", choices=sorted(MODELS), nargs="+", help="only train these")
    parser.add_argument("--models", choices=sorted(MODELS), nargs="+", default=list(MODELS))
    parser.add_argument(
        "--bundled", nargs="+", default=[], help="bundled:NAME or model folders to measure beside them"
    )
    parser.add_argument("--recordings", type=int, default=1500, help="to train on")
    parser.add_argument("--test", type=int, default=50, help="held-out scenes")
    parser.add_argument("--costs", type=int, default=5, help="of these, for operations and times")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recordings = shapes_set("train", options.recordings, file=options.work / "train.npz")
    models = {
        name: train(name, options.steps, recordings, options.work) for name in options.train or options.models
    }
    if options.train:
        return
    test = shapes_set("test", options.test, label_every_us=50_000, file=options.work / "test.npz")
    rows = [
        measure(name, model, test, options.costs, options.work, options.steps)
        for name, model in models.items()
    ]
    for name in options.bundled:
        label = f"{Path(name.removeprefix('bundled:')).name}, bundled"
        rows.append(measure(label, bundled(name), test, options.costs, options.work, None))
    write(rows, len(test), options)


def write(rows: Sequence[Row], scenes: int, options: argparse.Namespace) -> None:
    report = {
        "when": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": harness.machine(),
        "versions": installed_versions(),
        "test_scenes": scenes,
        "rows": [asdict(row) for row in rows],
    }
    machine = report["machine"]
    page = (
        f"# Detection: quality against cost\n\n{machine['cpu']}, one thread,"
        f" {report['when']};"
        f" {scenes} held-out scenes of 400 ms, each read 8 times; operations and times from {options.costs} of them."
        f" Seed 0. `benchmarks/event_vision/detection_quality.py`, weights folded, float32.\n\n{table(rows)}\n"
    )
    harness.save(options.output, "event-detection-quality", report, page)


if __name__ == "__main__":
    main()

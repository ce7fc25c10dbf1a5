"""People and vehicles: the bundled SSLA-Det on held-out simulated recordings, and on real ones with hand-drawn boxes.

    python -m benchmarks.event_vision.street RECORDINGS/evaluation [--model bundled:ssla-street] [--dense FOLDER]
        [--real ../shared/data/events] [--pictures DIR] [--output DIR]

RECORDINGS is what `multiway-event-detection street-dataset` wrote. Its labels are a teacher's, not a person's.

Every detector is asked at the label times, every `--every` ms. "windows": it sees the `--window` ms before each and
nothing else; the dense network sees 100 ms. "continuous": it runs from the recording's beginning and is never reset.
`components` is what anybody could do without learning: connected pixels of the last 50 ms are an object, a person if
taller than wide.

The real recordings are read at their own resolution and at a half and a quarter of it (pixels merged, events thinned by
the same factor), because the network was trained on objects of 16 to 80 pixels. A label is hit if a detection above
`--score` overlaps it by 0.5 or more.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import cv2
import numpy as np
import torch
from multiway_core import hub, model_folder
from multiway_event_vision.baselines.dense_cnn import DenseCnn, DenseCnnConfig
from multiway_event_vision.events import Events
from multiway_event_vision.formats import open_events
from multiway_event_vision.labels import Boxes as Labels
from multiway_event_vision.labels.labelled import LabelledRecording
from multiway_event_vision.metrics.average_precision import Boxes, CocoScores, coco_scores
from multiway_event_vision.ssla_det import checkpoint
from multiway_event_vision.ssla_det.batches import whole_recordings
from multiway_event_vision.ssla_det.detections import Detections, detect, detect_windows
from multiway_event_vision.ssla_det.detector import Detector
from multiway_event_vision.ssla_det.engines.event import EventEngine
from multiway_event_vision.ssla_det.model import SslaDet
from multiway_event_vision.street.dataset import read_recordings
from multiway_event_vision.street.recording import CLASS_NAMES

HAND_LABELS = Path(__file__).with_name("street_labels.json")
NO_LABELS = "evt2.raw"  # sparks: whatever is found there is wrong
SCALES = (1, 2, 4)
COMPONENT_US = 50_000
MIN_PIXELS = 20
AT_ONCE = 2
WINDOWS = "SSLA-S, windows"

Finder = Callable[[Events, Sequence[int]], Iterator[Boxes]]
"""(events, times) -> what is seen at each time."""


def as_boxes(found: Detections) -> Boxes:
    return Boxes(
        found.boxes_M4.numpy().astype(np.float64),
        found.label_M.numpy(),
        found.score_M.numpy().astype(np.float64),
    )


def before(events: Events, t: int, window: int) -> Events:
    """The events of the window that ends at `t`, from time 0 on."""
    part = events.between(t - window, t + 1)
    return replace(part, t=part.t - (t - window))


def windows(model: Detector, window: int) -> Finder:
    def find(events: Events, times: Sequence[int]) -> Iterator[Boxes]:
        nothing = Labels.from_arrays(*[np.zeros(0)] * 6)
        cut = [LabelledRecording(before(events, t, window), nothing, np.array([window])) for t in times]
        for low in range(0, len(cut), AT_ONCE):
            with torch.no_grad():
                outputs = model.read_outs(whole_recordings(cut[low : low + AT_ONCE]).slices)
            for found in detect_windows(outputs, stride=model.stride):
                yield as_boxes(found)

    return find


def continuous(model: SslaDet) -> Finder:
    def find(events: Events, times: Sequence[int]) -> Iterator[Boxes]:
        engine, last = EventEngine(model, events.height, events.width), -1
        for t in times:
            engine.push_events(events.between(last + 1, t + 1))
            yield as_boxes(detect(engine))
            last = t

    return find


def components(events: Events, times: Sequence[int]) -> Iterator[Boxes]:
    for t in times:
        part = events.between(t - COMPONENT_US, t + 1)
        count_HW = np.zeros((events.height, events.width), np.float32)
        np.add.at(count_HW, (part.y.astype(int), part.x.astype(int)), 1)
        # A pixel counts with company only: noise has none.
        near_HW = cv2.boxFilter((count_HW > 0).astype(np.float32), -1, (3, 3), normalize=False)
        seen_HW = ((count_HW > 0) & (near_HW >= 3)).astype(np.uint8)
        joined_HW = cv2.morphologyEx(seen_HW, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
        _, _, found, _ = cv2.connectedComponentsWithStats(joined_HW)
        found = found[1:][found[1:, cv2.CC_STAT_AREA] >= MIN_PIXELS]
        x, y, width, height, area = found.T.astype(np.float64)
        boxes = np.stack([x, y, x + width, y + height], 1)
        label = np.where(height > width, 0, 1)
        yield Boxes(boxes, label, area / (area + 500.0))


def truth_at(recording: LabelledRecording, t: int) -> Boxes:
    b = recording.boxes_at(t)
    corners = np.stack([b.x, b.y, b.x + b.width, b.y + b.height], 1).astype(np.float64)
    return Boxes(corners, b.class_id.astype(np.int64), None)


def summary(scores: CocoScores) -> dict[str, Any]:
    return {
        "ap": scores.ap,
        "ap50": scores.ap50,
        **{f"ap_{name}": scores.per_class[i] for i, name in enumerate(CLASS_NAMES)},
    }


def on_simulated(
    recordings: dict[str, LabelledRecording], finders: dict[str, Finder], every: int, window: int
) -> dict[str, Any]:
    """Scores of each finder on each recording and on all."""
    results: dict[str, Any] = {}
    for finder, find in finders.items():
        all_truth: list[Boxes] = []
        all_found: list[Boxes] = []
        rows: dict[str, Any] = {}
        began = time.process_time()
        events = 0
        for name, recording in recordings.items():
            times = [int(t) for t in recording.label_times if t >= window and t % every == 0]
            truth = [truth_at(recording, t) for t in times]
            found = list(find(recording.events, times))
            rows[name] = summary(coco_scores(truth, found, num_classes=len(CLASS_NAMES)))
            all_truth, all_found = all_truth + truth, all_found + found
            events += len(recording.events)
            print(f"{finder}, {name}: AP50 {rows[name]['ap50']:.3f}", file=sys.stderr, flush=True)
        rows["all"] = summary(coco_scores(all_truth, all_found, num_classes=len(CLASS_NAMES)))
        rows["cpu_us_an_event"] = (time.process_time() - began) / max(events, 1) * 1e6
        results[finder] = rows
    return results


def merged(events: Events, factor: int, seed: int = 0) -> Events:
    """On a sensor of `factor` times fewer pixels a side, which sends that much less."""
    if factor == 1:
        return events
    kept = events[np.random.default_rng(seed).random(len(events)) < 1 / factor]
    width, height = -(-events.width // factor), -(-events.height // factor)
    return Events(kept.t, kept.x // factor, kept.y // factor, kept.p, width, height)


def on_real(
    folder: Path, finders: dict[str, Finder], score: float, pictures: Path | None
) -> list[dict[str, Any]]:
    """For each recording, resolution and finder: hits, wrong detections, and what hits were called."""
    rows = []
    hand = json.loads(HAND_LABELS.read_text())
    finders = {
        name: find for name, find in finders.items() if name != WINDOWS
    }  # none is longer than a second
    for name in [*hand, NO_LABELS]:
        if not (folder / name).is_file():
            print(f"{folder / name} is not there; left out", file=sys.stderr)
            continue
        size = "infer" if name.endswith(".dat") else None
        events = open_events(folder / name, size=size).read()
        events = replace(events, t=events.t - events.t[0])
        labels = hand.get(name) or [[t] for t in range(30_000, 100_000, 30_000) if t <= events.t[-1]]
        for factor in SCALES:
            small = merged(events, factor)
            for finder, find in finders.items():
                found = list(find(small, [row[0] for row in labels]))
                rows.append(
                    {"recording": name, "scale": f"1/{factor}", "finder": finder}
                    | judged(labels, found, factor, score)
                )
                if pictures is not None and finder != "components":
                    draw(
                        pictures / f"{name}-{factor}-{finder.replace(' ', '-')}.png",
                        small,
                        labels,
                        found,
                        factor,
                        score,
                    )
    return rows


def judged(labels: list[list[Any]], found: list[Boxes], factor: int, score: float) -> dict[str, Any]:
    hits, called, wrong, best = 0, dict.fromkeys(CLASS_NAMES, 0), 0, []
    for label, boxes in zip(labels, found, strict=True):
        assert boxes.score is not None
        sure = boxes.score >= score
        overlap = np.zeros(len(boxes.score))
        if len(label) > 1:
            overlap = overlaps(np.array(label[1:5]) / factor, boxes.boxes)
            best.append(float(overlap[sure].max(initial=0)))
        good = sure & (overlap >= 0.5)
        wrong += int((sure & ~good).sum())
        if good.any():
            hits += 1
            called[CLASS_NAMES[int(boxes.label[np.argmax(np.where(good, boxes.score, -1))])]] += 1
    labelled = sum(len(label) > 1 for label in labels)
    return {
        "read_outs": len(labels), "labels": labelled, "hits": hits, "called": called,
        "wrong_a_read_out": wrong / len(labels), "mean_best_overlap": float(np.mean(best)) if best else None,
    }  # fmt: skip


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.clip(sides, 0, None).prod(1)
    area = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return shared / np.maximum(area - shared, 1e-9)


def draw(
    path: Path, events: Events, labels: list[list[Any]], found: list[Boxes], factor: int, score: float
) -> None:
    """Up to nine read-outs: events of the last 50 ms, the hand's box in green, detections in red and blue."""
    zoom, pictures = max(1, round(400 / events.width)), []
    chosen = np.linspace(0, len(labels) - 1, min(9, len(labels))).astype(int)
    for number in chosen:
        label, boxes = labels[number], found[number]
        part = events.between(label[0] - COMPONENT_US, label[0] + 1)
        picture = np.full((events.height, events.width, 3), 120, np.uint8)
        picture[part.y, part.x] = np.where(part.p[:, None] > 0, 255, 0)
        picture = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
        drawn = [(np.array(label[1:5]) / factor, (0, 200, 0), "")] if len(label) > 1 else []
        assert boxes.score is not None
        for box, kind, sure in zip(boxes.boxes, boxes.label, boxes.score, strict=True):
            if sure >= score:
                drawn.append((box, ((0, 0, 255), (255, 0, 0))[kind], f"{CLASS_NAMES[kind]} {sure:.2f}"))
        for box, colour, text in drawn:
            corners = [int(side * zoom) for side in box]
            cv2.rectangle(picture, corners[:2], corners[2:], colour, 2)
            cv2.putText(picture, text, (corners[0] + 2, corners[1] + 14), 0, 0.45, colour, 1)
        pictures.append(picture)
    while len(pictures) % 3:
        pictures.append(np.zeros_like(pictures[0]))
    rows = [np.concatenate(pictures[low : low + 3], 1) for low in range(0, len(pictures), 3)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(rows))


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def table(result: dict[str, Any]) -> str:
    names = list(next(iter(result["simulated"].values())))[:-1]
    lines = [
        f"# People and vehicles\n\n`{result['command']}`, {result['date']}, {result['machine']}.\n",
        f"Held-out videos, read every {result['every_ms']} ms; labels are a teacher's. AP50, and AP of all videos.\n",
        "| finder | " + " | ".join(names[:-1]) + " | all: AP50 | AP | person | vehicle | CPU us an event |",
        "|---|" + "---|" * (len(names) + 4),
    ]
    for finder, rows in result["simulated"].items():
        every = rows["all"]
        cells = [f"{rows[name]['ap50']:.3f}" for name in names[:-1]]
        cells += [f"{every[key]:.3f}" for key in ("ap50", "ap", "ap_person", "ap_vehicle")]
        lines.append(f"| {finder} | " + " | ".join(cells) + f" | {rows['cpu_us_an_event']:.1f} |")
    lines += [
        "\nReal recordings, boxes drawn by hand.\n",
        f"| recording | resolution | finder | hits (score {result['score']}) | called person, vehicle | "
        "wrong a read-out | best overlap |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["real"]:
        best = "" if row["mean_best_overlap"] is None else f"{row['mean_best_overlap']:.2f}"
        lines.append(
            f"| {row['recording']} | {row['scale']} | {row['finder']} | {row['hits']} of {row['labels']} | "
            f"{row['called']['person']}, {row['called']['vehicle']} | {row['wrong_a_read_out']:.1f} | {best} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--model", default="bundled:ssla-street")
    parser.add_argument(
        "--dense", type=Path, help="folder of the dense network that the recipe trained first"
    )
    parser.add_argument("--real", type=Path)
    parser.add_argument("--every", type=int, default=500, help="milliseconds, a multiple of 50")
    parser.add_argument("--window", type=int, default=200, help="milliseconds")
    parser.add_argument("--score", type=float, default=0.3)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = checkpoint.load(hub.resolve(given.model))
    window = given.window * 1000
    finders: dict[str, Finder] = {
        WINDOWS: windows(model, window),
        "SSLA-S, continuous": continuous(model),
        "components": components,
    }
    if given.dense is not None:
        dense = model_folder.load(DenseCnn, DenseCnnConfig, given.dense)
        finders["dense CNN, windows"] = windows(dense, dense.config.window_us)
    load = os.getloadavg()[1]
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.event_vision.street RECORDINGS/evaluation --dense DENSE --real EVENTS "
        f"--every {given.every} --window {given.window}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{processor()}, one thread, at a load of {load:.0f}",
        "every_ms": given.every,
        "window_ms": given.window,
        "score": given.score,
        "simulated": on_simulated(read_recordings(given.recordings), finders, given.every * 1000, window),
        "real": on_real(given.real, finders, given.score, given.pictures) if given.real else [],
    }
    text = table(result)
    print(text)
    if given.output is not None:
        harness.save(given.output, "event-street", result, text)


if __name__ == "__main__":
    main()

"""The bundled grounding model beside a detector of its own size, itself without location tokens, and its teacher.

    python -m benchmarks.vision_language.grounding_quality [--detector RUN/detector] [--teacher centernet.json]
        [--photos ../shared/data/images/coco128] [--limit N] [--output DIR]

Every row answers the same phrases, those of `multiway-grounding evaluate bundled` and `evaluate photos`:

* location tokens: what the command does.
* no location tokens: the same network, but the box is that of the cell which the phrase's end points at.
* detector: backbones and cells after the recipe's first stage, which knew names only; it finds the phrase's name.
* published detector: CenterNet by itself, at 512 pixels; photographs only.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
import yaml
from multiway_core.evaluation import mean_interval
from multiway_core.evaluation.machine import describe_machine
from multiway_grounding.evaluation import held_out_scenes
from multiway_grounding.phrase_samples import PhraseSample, from_photographs, from_scenes
from multiway_vision_language import prompts
from multiway_vision_language.datasets import read_yolo
from multiway_vision_language.kosmos2_small.checkpoint import load_pretrained
from multiway_vision_language.kosmos2_small.detector import NameDetector, load_names
from multiway_vision_language.kosmos2_small.published_backbones import CenterNetDetector, load_centernet
from multiway_vision_language.metrics import auc, box_iou, centre_box, largest_object, random_object
from multiway_vision_language.pictures import open_picture
from multiway_vision_language.pipeline import GroundingPipeline
from multiway_vision_language.result import XYXY
from multiway_vision_language.scenes.folder import open_scenes
from multiway_vision_language.scenes.object_names import name_within

Answer = tuple[XYXY | None, float]
MODEL = "bundled:grounding-small"


def pixels_of(box: Iterable[float], case: PhraseSample) -> XYXY:
    left, top, right, bottom = box
    return left * case.width, top * case.height, right * case.width, bottom * case.height


def with_tokens(pipeline: GroundingPipeline) -> Callable[[PhraseSample], Answer]:
    def answer(case: PhraseSample) -> Answer:
        entity = pipeline.locate(case.picture, [case.phrase], threshold=0.0).entities[0]
        return (entity.boxes[0].xyxy if entity.boxes else None), entity.present

    return answer


def without_tokens(pipeline: GroundingPipeline) -> Callable[[PhraseSample], Answer]:
    model, processor = pipeline.generator.model, pipeline.generator.processor
    pointer = model.pointer  # type: ignore[attr-defined]

    @torch.inference_mode()
    def answer(case: PhraseSample) -> Answer:
        images = pipeline.features(open_picture(case.picture))
        batch = processor.batch([processor.prompt(prompts.locate_phrase(case.phrase).tagged)])
        states = model.hidden(
            batch.tokens_BT, batch.valid_BT, images=images, image_slots_BT=batch.image_slots_BT
        )
        assert images.cells_BNF is not None
        keys, boxes = images.cells_BNF.split([pointer.query.out_features, 4], dim=-1)
        scores = pointer.scores(states[:, -1:], pointer.keys(keys, pointer.corners(boxes)))[0, 0]
        weight, bias = pointer.presence
        chance = torch.sigmoid(weight * scores.max() + bias)
        return pixels_of((boxes[0, int(scores.argmax())] / processor.grid.size).tolist(), case), float(chance)

    return answer


def detector(folder: Path) -> Callable[[PhraseSample], Answer]:
    model, processor = load_pretrained(str(folder))
    found = NameDetector(model, load_names(folder))

    def answer(case: PhraseSample) -> Answer:
        # Photographs have names that scenes do not.
        phrase = case.phrase.removeprefix("the ")
        name = phrase if phrase in found.names.numbers else name_within(case.phrase)
        if name is None:
            return None, 0.0
        box, chance = found.find(processor.pixels([open_picture(case.picture).image]), name)
        return pixels_of(box, case), chance

    return answer


def teacher(graph: Path, classes: list[str]) -> Callable[[PhraseSample], Answer]:
    found = CenterNetDetector(load_centernet(graph), classes, min_score=0.0, max_detections=100)

    def answer(case: PhraseSample) -> Answer:
        boxes = found(open_picture(case.picture).image)
        name = case.phrase.removeprefix("the ")
        return next(
            ((pixels_of(box, case), score) for kind, box, score in boxes if kind == name), (None, 0.0)
        )

    return answer


def blind(pick: Callable[[PhraseSample], XYXY | None]) -> Callable[[PhraseSample], Answer]:
    return lambda case: (pick(case), 0.0)


def measure(name: str, cases: list[PhraseSample], answer: Callable[[PhraseSample], Answer]) -> dict[str, Any]:
    hits: dict[str, list[float]] = defaultdict(list)
    ious: list[float] = []
    shown: list[tuple[float, bool]] = []
    start = time.perf_counter()
    for number, case in enumerate(cases):
        box, present = answer(case)
        shown.append((present, bool(case.truths)))
        if case.truths and len(case.truths) == 1:
            iou = box_iou(box, case.truths[0]) if box else 0.0
            ious.append(iou)
            for label in ("all", *case.labels):
                hits[label].append(float(iou >= 0.5))
        if number % 200 == 199:
            print(f"{name}: {number + 1} of {len(cases)}", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - start
    scores, truths = zip(*shown, strict=True)
    row: dict[str, Any] = {"who": name, "seconds": seconds, "mean_iou": sum(ious) / len(ious)}
    row["accuracy"] = {label: (*_interval(values), len(values)) for label, values in hits.items()}
    if len(set(scores)) > 1:
        row["present_auc"] = auc(scores, truths).mean
    return row


def _interval(values: list[float]) -> tuple[float, float, float]:
    interval = mean_interval(values, seed=0)
    return interval.mean, interval.low or interval.mean, interval.high or interval.mean


def table(title: str, rows: list[dict[str, Any]]) -> str:
    labels = list(rows[0]["accuracy"])
    heads = [f"{label} (n = {rows[0]['accuracy'][label][3]})" for label in labels]
    columns = ["", *heads, "mean IoU", "present AUC"]
    lines = [f"### {title}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = [
            "{:.3f} ({:.3f} to {:.3f})".format(*row["accuracy"][label][:3])
            if label in row["accuracy"]
            else ""
            for label in labels
        ]
        present = f"{row['present_auc']:.3f}" if "present_auc" in row else ""
        lines.append(f"| {row['who']} | " + " | ".join(cells) + f" | {row['mean_iou']:.3f} | {present} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--limit", type=int, help="scenes of each set")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = GroundingPipeline.from_pretrained(options.model)
    folder = open_scenes(held_out_scenes(options.model))
    sets = {
        name: [
            case
            for case in from_scenes(itertools.islice(folder.scenes(name), options.limit), folder.names, 0)
            if len(case.truths) < 2
        ]
        for name in folder.sets
    }
    classes: list[str] = []
    if options.photos:
        samples = list(read_yolo(options.photos))
        classes = list(yaml.safe_load((options.photos / "classes.yaml").read_text())["names"].values())
        sets["photographs"] = list(from_photographs(samples, 0))
    results = {}
    machine = describe_machine()
    written = [
        "# What the bundled grounding model finds\n",
        f"`python {' '.join(sys.argv)}`, {datetime.now(UTC):%Y-%m-%d}, {machine['cpu']}, one thread. Acc@0.5 with "
        "bootstrap intervals of 95 %; what is compared is told at the top of the script.\n",
    ]
    for title, cases in sets.items():
        who: dict[str, Callable[[PhraseSample], Answer]] = {
            "location tokens": with_tokens(pipeline),
            "no location tokens": without_tokens(pipeline),
        }
        if options.detector:
            who["detector of names"] = detector(options.detector)
        if options.teacher and title == "photographs":
            who["teacher (CenterNet, 512 pixels)"] = teacher(options.teacher, classes)
        who["centre box"] = blind(lambda case: centre_box(case.width, case.height))
        who["largest object"] = blind(lambda case: largest_object(case.objects))
        rows = [measure(name, cases, answer) for name, answer in who.items()]
        chances = [random_object(case.truths[0], case.objects)[0] for case in cases if len(case.truths) == 1]
        results[title] = {"rows": rows, "random_object_accuracy": sum(chances) / len(chances)}
        by_chance = f"A random object of the picture would be right in {sum(chances) / len(chances):.3f}.\n"
        written += [table(title, rows), by_chance]
        print(*written[-2:], sep="\n", flush=True)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "grounding-quality.md").write_text("\n".join(written))
        (options.output / "grounding-quality.json").write_text(
            json.dumps({"command": sys.argv, "machine": machine, "results": results}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()

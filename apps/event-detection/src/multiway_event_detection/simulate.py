"""The ``simulate`` command: events of a video, of a folder of pictures, or of moving shapes with their boxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from multiway_core.errors import InputError
from multiway_core.files import check_output
from multiway_event_vision.formats import write_events
from multiway_event_vision.labels import Boxes, write_prophesee_boxes
from multiway_event_vision.simulator import (
    FlowUpsampled,
    MovingShapes,
    SensorConfig,
    ShapesConfig,
    Simulation,
)
from multiway_event_vision.sources import simulated
from multiway_event_vision.times import microseconds

from multiway_event_detection.options import EventFormat, SensorOptions, sensor_size
from multiway_event_detection.streams import CountedStream, Progress

SHAPES_NOISE_HZ = 0.5  # as in `shapes_recording`
SHAPES_DURATION = "400ms"  # long enough to tell which detector suits


def sensor_config(options: SensorOptions, **own: float) -> SensorConfig:
    """As a config; ``own`` stands for what is not given. Raises ConfigError, InputError."""
    off = options.threshold if options.threshold_off is None else options.threshold_off
    refractory = None if options.refractory is None else microseconds(options.refractory, "--refractory")
    given = {
        "threshold_on": options.threshold,
        "threshold_off": off,
        "threshold_sigma": options.threshold_sigma,
        "noise_hz": options.noise,
        "leak_hz": options.leak,
        "refractory_us": refractory,
        "cutoff_hz": options.cutoff,
    }
    for name, value in given.items():
        if value is not None and not np.isfinite(value):
            raise InputError(f"{name} {value}: expected a finite number")
    return SensorConfig(**own | {name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def simulate_frames(
    source: Path,
    output: Path,
    sensor: SensorOptions,
    *,
    fps: float | None = None,
    width: int | None = None,
    upsample: int | None = None,
    format: EventFormat | None = None,
    seed: int = 0,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> Iterator[str]:
    """Write the events of a video file or a folder of pictures, whole or not at all; yields lines about them.

    What is not given is as `detect` has it, so that a detector sees the same events either way.
    Raises DataError: no readable video or pictures; InputError, ConfigError: bad options; OutputError.
    """
    config = sensor_config(sensor)
    if fps is not None and not 0.01 <= fps <= 1e6:
        raise InputError(f"--fps {fps:g}: expected 0.01 to 1,000,000")
    if source.is_dir() and width is not None:
        raise InputError("--width scales videos; pictures of a folder are taken as they are")
    check_output(output, inputs=[source], overwrite=overwrite)
    simulation = simulated(source, width=width, upsample=upsample, fps=fps, sensor=config, seed=seed)
    if isinstance(simulation.source, FlowUpsampled):
        yield (
            f"{simulation.source.factor} frames for each of its own, along optical flow: those in between are a guess"
        )
    stream = CountedStream(simulation, on_progress)
    write_events(output, stream, format=format)
    yield _counted(stream)


def simulate_shapes(
    output: Path,
    sensor: SensorOptions,
    *,
    size: str | None = None,
    duration: str = SHAPES_DURATION,
    label_every: str = "10ms",
    format: EventFormat | None = None,
    seed: int = 0,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> Iterator[str]:
    """Write the events of moving shapes, and their boxes beside them (`boxes_path`); yields lines about both.

    Raises InputError, ConfigError: bad options; OutputError.
    """
    width, height = (None, None) if size is None else sensor_size(size)
    own = ShapesConfig()
    scene = MovingShapes(
        ShapesConfig(
            width=own.width if width is None else width,
            height=own.height if height is None else height,
            duration_us=microseconds(duration, "--duration"),
        ),
        seed=seed,
    )
    period = microseconds(label_every, "--label-every")
    if not 0 < period <= scene.config.duration_us:
        raise InputError(
            f"--label-every {label_every}: expected more than 0, at most the duration {duration}"
        )
    labels = boxes_path(output)
    for path in (output, labels):
        check_output(path, overwrite=overwrite)
    stream = CountedStream(
        Simulation(scene, sensor_config(sensor, noise_hz=SHAPES_NOISE_HZ), seed), on_progress
    )
    write_events(output, stream, format=format)
    boxes = _boxes(scene, period)
    write_prophesee_boxes(labels, boxes)
    yield _counted(stream)
    yield f"{len(boxes):,} boxes in {labels}"


def boxes_path(output: Path) -> Path:
    """Where the boxes of a recording lie, as in Prophesee's data sets: ``x_td.dat`` has ``x_bbox.npy``."""
    return output.with_name(output.stem.removesuffix("_td") + "_bbox.npy")


def _boxes(scene: MovingShapes, period: int) -> Boxes:
    found = [scene.boxes(t) for t in range(period, scene.config.duration_us + 1, period)]
    names = Boxes.__dataclass_fields__
    return Boxes(**{name: np.concatenate([getattr(boxes, name) for boxes in found]) for name in names})


def _counted(stream: CountedStream) -> str:
    if not stream.count:
        return "no events: nothing in the pictures changes enough for the thresholds"
    return f"{stream.count:,} events of {stream.width} x {stream.height} pixels"

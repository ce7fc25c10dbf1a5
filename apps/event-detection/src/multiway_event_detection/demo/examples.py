"""What the demo offers to look at: simulated when it starts, so that nothing need be kept or fetched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from multiway_core.app import examples_folder
from multiway_event_vision.events import Events, by_time
from multiway_event_vision.formats import open_events, write_events
from multiway_event_vision.rendering import PolarityFrame, write_mp4
from multiway_event_vision.simulator import MovingShapes, SensorConfig, ShapesConfig, Simulation, Video
from numpy.typing import NDArray

from multiway_event_detection.app import APP

_SHAPES = ShapesConfig(duration_us=800_000)
_CROWD = ShapesConfig(width=192, height=144, duration_us=600_000, min_shapes=5, max_shapes=6)
_FRAMES_PER_SECOND = 60
_THUMBNAIL_WINDOW = 30_000  # microseconds
_SEED = 3_000_000  # beyond the scenes of the training, validation and test splits


def example_files() -> list[tuple[Path, str]]:
    """(file, caption) of recordings of moving shapes and a video of some, made where they are not there yet."""
    folder = examples_folder(APP)
    makers: dict[str, tuple[str, Callable[[Path], object]]] = {
        "shapes.raw": ("Shapes", lambda path: _record(path, _SHAPES, _SEED + 4)),
        "crowd.raw": ("Crowd", lambda path: _record(path, _CROWD, _SEED + 1)),
        "video.mp4": ("A video", lambda path: _film(path, _SHAPES, _SEED + 2)),
    }
    for name, (_, make) in makers.items():
        if not (folder / name).is_file():
            make(folder / name)
    return [(folder / name, caption) for name, (caption, _) in makers.items()]


def thumbnail(path: Path) -> NDArray[np.uint8]:
    """(height, width, 3) uint8: a few events of a recording, or the first picture of a video."""
    if path.suffix == ".mp4":
        picture, _ = next(Video(path).frames())
        return np.repeat(np.asarray(picture, np.uint8)[..., None], 3, axis=2)
    recording = open_events(path)
    view = PolarityFrame(recording.width, recording.height)
    windows = by_time(recording.chunks(), _THUMBNAIL_WINDOW)
    next(windows, None)  # a stretch later than the first, in which every pixel begins anew
    start, events = next(windows, (0, Events.empty(recording.width, recording.height)))
    view.begin(start, _THUMBNAIL_WINDOW)
    view.add(events)
    return view.picture()


def _record(path: Path, config: ShapesConfig, seed: int) -> None:
    write_events(path, Simulation(MovingShapes(config, seed=seed), SensorConfig(noise_hz=0.5), seed))


def _film(path: Path, config: ShapesConfig, seed: int) -> None:
    scene = MovingShapes(config, seed=seed)
    times = np.arange(0, config.duration_us, 1e6 / _FRAMES_PER_SECOND).astype(int)
    grey = (np.round(255 * scene.picture(int(t))).astype(np.uint8) for t in times)
    write_mp4(path, (np.repeat(g[..., None], 3, axis=2) for g in grey), frames_per_second=_FRAMES_PER_SECOND)

"""Names and values that the commands share; nothing here takes time to import."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from multiway_core.errors import InputError

PROGRAM = "multiway-event-detection"

EventFormat = Literal["dat", "evt2", "evt3", "npz", "hdf5", "csv"]
ViewName = Literal["frame", "count", "surface", "voxel"]
Unit = Literal["us", "ms", "s", "ns"]
EngineName = Literal["event", "micro-batch", "window"]
PresetName = Literal["ssla", "prophesee", "prophesee-1mpx", "coco"]
PolicyName = Literal["continuous", "window", "sliding"]
BUNDLED_MODEL = "bundled:ssla-shapes"


@dataclass(frozen=True)
class Taking:
    """How recordings are taken: what their files do not tell, and whether to repair them."""

    size: str | None = None
    time_unit: Unit | None = None
    columns: str | None = None
    repair: bool = False


def sensor_size(text: str, option: str = "--size") -> tuple[int, int]:
    """``640x480`` as (width, height) in pixels. Raises InputError."""
    found = re.fullmatch(r"\(?(\d{1,6})\s*[x, ]\s*(\d{1,6})\)?", text.strip())
    if found is None:
        raise InputError(f"{option} {text}: expected width and height in pixels, such as 640x480")
    return int(found[1]), int(found[2])

"""The videos of the people-and-vehicles set: source, split and widths.

No video lies in this repository. The licence is that of the package or repository that has the video; where the footage
itself came from is often not said there. "evaluation" videos share neither camera nor place with "training" ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Split = Literal["training", "evaluation"]


@dataclass(frozen=True)
class StreetVideo:
    """One video. `widths`: of the sensors it is shown to, in pixels, so that most objects are 16 to 80 pixels long."""

    source: str
    licence: str
    content: str
    split: Split
    widths: tuple[int, ...]


_INTEL = "intel-iot-devkit/sample-videos"
_COUNTING = "ahmetozlu/tensorflow_object_counting_api input_images_and_videos"
_SIGNERS: Final[tuple[tuple[str, Split], ...]] = (
    ("again brother help no student yes", "training"),  # one person a line: a split between people
    ("bird milk please sorry thanks", "training"),
    ("book learn school walk", "training"),
    ("eat night sister", "evaluation"),
    ("hungry want", "evaluation"),
)

VIDEOS: Final[dict[str, StreetVideo]] = {
    "vtest.avi": StreetVideo(
        "opencv-doc 4.6.0, examples/data", "Apache-2.0", "pedestrians, from above", "training", (320,)
    ),
    "one-by-one-person-detection.mp4": StreetVideo(
        _INTEL, "CC-BY-4.0", "people in a room, one at a time", "training", (112,)
    ),
    "pedestrian_survaillance.mp4": StreetVideo(_COUNTING, "MIT", "pedestrians, near", "training", (160, 240)),
    "cutl.mp4": StreetVideo(_COUNTING, "MIT", "pedestrians in a shopping street", "evaluation", (384,)),
    "video02.avi": StreetVideo("andrewssobral/bgslibrary dataset", "MIT", "motorway", "training", (256,)),
    "video03.avi": StreetVideo(
        "andrewssobral/bgslibrary dataset", "MIT", "road from a bridge", "training", (200,)
    ),
    "input_video.mp4": StreetVideo(
        "ahmetozlu/vehicle_counting_tensorflow", "MIT", "road in a suburb", "training", (200,)
    ),
    "solidWhiteRight.mp4": StreetVideo(
        "udacity/CarND-LaneLines-P1 test_videos", "MIT", "motorway from a car", "training", (304,)
    ),
    "test_video.mp4": StreetVideo(
        "udacity/CarND-Vehicle-Detection", "MIT", "motorway from a car", "evaluation", (304,)
    ),
    "cars.mp4": StreetVideo(
        "belalibrahim/Optical-Flow", "GPL-3.0", "motorway from a bridge", "evaluation", (304,)
    ),
} | {
    f"{word}.mkv": StreetVideo(
        f"{_INTEL} asl_gestures",
        "CC-BY-4.0",
        "a person who signs, down to the waist",
        split,
        (96,),
    )
    for words, split in _SIGNERS
    for word in words.split()
}

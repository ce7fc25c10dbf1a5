"""Events as pictures: standard views of a stretch of time, and a video of them."""

from multiway_event_vision.rendering.folder import png, write_folder
from multiway_event_vision.rendering.overlay import CLASS_COLOURS, LatestEvents, draw_boxes
from multiway_event_vision.rendering.pictures import Picture, pictures
from multiway_event_vision.rendering.sound import has_sound
from multiway_event_vision.rendering.video import mp4_writer, write_mp4
from multiway_event_vision.rendering.views import (
    VIEWS,
    EventCount,
    PolarityFrame,
    TimeSurface,
    View,
    VoxelSlice,
)

__all__ = [
    "CLASS_COLOURS",
    "VIEWS",
    "EventCount",
    "LatestEvents",
    "Picture",
    "PolarityFrame",
    "TimeSurface",
    "View",
    "VoxelSlice",
    "draw_boxes",
    "has_sound",
    "mp4_writer",
    "pictures",
    "png",
    "write_folder",
    "write_mp4",
]

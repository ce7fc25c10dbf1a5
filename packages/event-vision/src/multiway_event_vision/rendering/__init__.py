"""Events as pictures: standard views of a stretch of time, and a video of them."""

from multiway_event_vision.rendering.folder import png, write_folder
from multiway_event_vision.rendering.pictures import Picture, pictures
from multiway_event_vision.rendering.video import write_mp4
from multiway_event_vision.rendering.views import VIEWS, PolarityFrame, TimeSurface, View, VoxelSlice

__all__ = [
    "VIEWS",
    "Picture",
    "PolarityFrame",
    "TimeSurface",
    "View",
    "VoxelSlice",
    "pictures",
    "png",
    "write_folder",
    "write_mp4",
]

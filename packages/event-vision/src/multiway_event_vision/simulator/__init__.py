"""Events made from pictures: a sensor that answers changes of brightness, and what to show it."""

from multiway_event_vision.simulator.flow import FlowUpsampled
from multiway_event_vision.simulator.frames import FrameSource, ImageFolder, Video
from multiway_event_vision.simulator.sensor import Sensor, SensorConfig
from multiway_event_vision.simulator.shapes import MovingShapes, ShapesConfig, shapes_recording
from multiway_event_vision.simulator.simulation import Simulation

__all__ = [
    "FlowUpsampled",
    "FrameSource",
    "ImageFolder",
    "MovingShapes",
    "Sensor",
    "SensorConfig",
    "ShapesConfig",
    "Simulation",
    "Video",
    "shapes_recording",
]

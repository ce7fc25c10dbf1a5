"""Opening what the command line names: frames, and the events that belong to them."""

from __future__ import annotations

from multiway_core.errors import InputError
from multiway_event_vision.events import EventStream
from multiway_event_vision.simulator import FlowUpsampled, SensorConfig, Simulation
from multiway_event_vision.time_replayer.frame_events import open_frame_events
from multiway_event_vision.time_replayer.frames import Frames, Grey, open_frames

from multiway_frame_interpolation.options import SUB_FRAMES, EventOptions, FrameOptions


def open_video(options: FrameOptions) -> Frames:
    """The frames. Raises DataError: nothing that can be read; InputError: bad options."""
    return open_frames(options.source, width=options.width, frames_per_second=options.input_fps)


def open_stream(options: EventOptions, frames: Frames) -> EventStream:
    """The events of the same pixels. Raises InputError: none are given, or they do not fit; DataError."""
    if options.simulate == (options.events is not None):
        raise InputError("a video has no events of its own: give --events FILE, or --simulate; one of them")
    if options.events is None:
        sensor = SensorConfig(noise_hz=0.0)
        return Simulation(FlowUpsampled(Grey(frames), SUB_FRAMES), sensor, options.seed)
    return open_frame_events(
        options.events,
        frames.width,
        frames.height,
        scale=options.scale,
        time_unit=options.time_unit,
        columns=options.columns,
        repair=options.repair,
    )

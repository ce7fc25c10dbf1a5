"""Training batches: streams of some hundred milliseconds that are read several times.

A detector that runs on and on is read at any time, so it is trained so: a stream begins with empty states somewhere in
a recording, and its objects are asked for at a few label times, the first soon after the beginning, the last at its
end. Gradients go through all of it. One stream gives several labelled images for the price of one.

Legend: B streams, R read-outs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from multiway_core.errors import InputError
from numpy.typing import NDArray
from torch import Tensor

from multiway_event_vision.events import Events
from multiway_event_vision.labels.boxes import Boxes
from multiway_event_vision.labels.labelled import LabelledRecording
from multiway_event_vision.ssla_det.assignment import Targets
from multiway_event_vision.ssla_det.inputs import (
    NEVER,
    EventArrays,
    EventBatch,
    Int64s,
    check_events,
    event_features,
)


@dataclass(frozen=True)
class StreamConfig:
    """How streams are drawn. Times in microseconds."""

    streams: int = 4
    read_outs: int = 4
    shortest_us: int = 100_000
    longest_us: int = 400_000
    max_events: int = 25_000
    """A stream that would have more begins later."""
    burn_in_us: int = 30_000
    """No read-out sooner after the stream's beginning."""
    keep: tuple[float, float] = (0.7, 1.0)
    """Share of the events that are kept, drawn for each stream."""
    speed: tuple[float, float] = (1.0, 1.0)
    """Time runs this much faster, drawn for each stream."""
    symmetry: Literal["none", "mirror", "square"] = "mirror"
    """Left and right may be swapped; or all eight ways to turn and mirror a square."""
    crop: tuple[int, int] | None = None
    """(height, width) of a random part of the sensor; None takes all of it."""
    min_visible: float = 0.5
    """Share of a box that must lie inside the crop; what lies outside is cut off."""

    def __post_init__(self) -> None:
        if self.streams < 1 or self.read_outs < 1:
            raise ValueError("streams and read_outs must be at least 1")
        if not 0 <= self.burn_in_us < self.shortest_us <= self.longest_us:
            raise ValueError("0 <= burn_in_us < shortest_us <= longest_us is needed")
        if not 0 < self.keep[0] <= self.keep[1] <= 1 or not 0 < self.speed[0] <= self.speed[1]:
            raise ValueError("keep must lie in (0, 1] and speed be positive, the lower bound first")


@dataclass(frozen=True)
class StreamBatch:
    """R slices of B streams that follow on each other; what is to be seen at the end of each."""

    slices: tuple[EventBatch, ...]
    targets: tuple[Targets, ...]
    """R · B, those of the first read-out first."""
    labels: tuple[Tensor, ...] = ()
    """int64 [N] of each slice: the class of the smallest box around each event, NOTHING outside of all boxes, or
    UNKNOWN where the nearest label is too far away in time."""


NOTHING, UNKNOWN = -1, -2
_NEAR_US = 6_000  # between an event and the label time that speaks for it


@dataclass(frozen=True)
class _Stream:
    """One stream before it becomes tensors, time from 0 on: events, label times with their boxes, and read-outs."""

    events: Events
    label_us: NDArray[np.int64]
    boxes: Sequence[Boxes]
    reads: NDArray[np.int64]
    """Numbers of the label times that are read."""


class StreamBatches:
    """A source of batches for the trainer: the same for every (seed, step, shard)."""

    def __init__(
        self, recordings: Sequence[LabelledRecording], config: StreamConfig, *, seed: int = 0
    ) -> None:
        if not recordings:
            raise InputError("no recordings to train on")
        for number, recording in enumerate(recordings):
            if _room(recording, config) < 0:
                raise InputError(
                    f"recording {number} has no label later than {config.burn_in_us / 1000:g} ms; expected one"
                )
        self.recordings, self.config, self.seed = recordings, config, seed

    def __call__(self, step: int, shard: int, num_shards: int) -> StreamBatch:
        generator = np.random.default_rng([self.seed, step, shard])
        return batch_streams([self._draw(generator) for _ in range(self.config.streams)])

    def _draw(self, generator: np.random.Generator) -> _Stream:
        config = self.config
        recording = self.recordings[int(generator.integers(len(self.recordings)))]
        speed = generator.uniform(*config.speed)
        length = int(generator.uniform(config.shortest_us, config.longest_us) * speed)
        ends = recording.label_times[recording.label_times > config.burn_in_us * speed]
        late = ends[ends >= min(length, int(ends[-1]))]
        end = int(late[generator.integers(len(late))])
        start = max(0, end - length, _when(recording.events, end, config.max_events))
        between = ends[(ends > start + config.burn_in_us * speed) & (ends < end)]
        others = generator.choice(between, min(config.read_outs - 1, len(between)), replace=False)
        # Where labels are few, a time is asked for twice: every batch has the same number of read-outs.
        read_us = np.sort(np.append(others, [end] * (config.read_outs - len(others))))
        events = recording.events.between(start, end + 1)
        keep = generator.random(len(events)) < generator.uniform(*config.keep)
        first, last = np.searchsorted(recording.label_times, (start, end + 1))
        label_us = recording.label_times[first:last]
        boxes = [recording.boxes_at(int(t)) for t in label_us]
        reads = np.searchsorted(label_us, read_us)
        stream = _Stream(replace(events[keep], t=events.t[keep] - start), label_us - start, boxes, reads)
        if config.crop is not None:
            stream = _crop(stream, config, generator)
        if config.symmetry != "none":
            turns = 8 if config.symmetry == "square" else 2
            stream = _turn(stream, int(generator.integers(turns)))
        if speed == 1:
            return stream
        events = replace(stream.events, t=(stream.events.t / speed).astype(np.int64))
        return replace(stream, events=events, label_us=(stream.label_us / speed).astype(np.int64))


def batch_streams(streams: Sequence[_Stream], *, dtype: torch.dtype = torch.float32) -> StreamBatch:
    """Tensors of streams of one sensor size and one number of read-outs."""
    height, width = streams[0].events.height, streams[0].events.width
    prepared = []
    for stream in streams:
        events = stream.events
        arrays = check_events(events.t, events.x, events.y, events.p, height=height, width=width)
        features = event_features(arrays, np.full(height * width, NEVER))
        read_us = stream.label_us[stream.reads]
        bounds = np.concatenate([[0], np.searchsorted(arrays.t, read_us, side="right")])
        prepared.append((features, arrays, bounds, _event_labels(arrays, width, stream)))
    slices, targets, labels = [], [], []
    for read in range(len(streams[0].reads)):
        parts = [slice(bounds[read], bounds[read + 1]) for _, _, bounds, _ in prepared]
        lengths = [part.stop - part.start for part in parts]
        slices.append(
            EventBatch(
                x_NC=_join([f[part] for (f, _, _, _), part in zip(prepared, parts, strict=True)]).to(dtype),
                t_N=_join([a.t[part] for (_, a, _, _), part in zip(prepared, parts, strict=True)]),
                stream_N=torch.from_numpy(np.repeat(np.arange(len(streams)), lengths)),
                pixel_N=_join([a.pixel[part] for (_, a, _, _), part in zip(prepared, parts, strict=True)]),
                streams=len(streams),
                height=height,
                width=width,
            )
        )
        labels.append(_join([label[part] for (_, _, _, label), part in zip(prepared, parts, strict=True)]))
        targets += [targets_of(stream.boxes[stream.reads[read]]) for stream in streams]
    return StreamBatch(tuple(slices), tuple(targets), tuple(labels))


def whole_recordings(recordings: Sequence[LabelledRecording]) -> StreamBatch:
    """Recordings from their beginning, read at all label times, which must be as many in each."""
    return batch_streams(
        [
            _Stream(
                r.events,
                r.label_times,
                [r.boxes_at(int(t)) for t in r.label_times],
                np.arange(len(r.label_times)),
            )
            for r in recordings
        ]
    )


def targets_of(boxes: Boxes) -> Targets:
    """Boxes as tensors."""
    corners_G4 = np.stack([boxes.x, boxes.y, boxes.x + boxes.width, boxes.y + boxes.height], axis=1)
    return Targets(torch.from_numpy(corners_G4), torch.from_numpy(boxes.class_id.astype(np.int64)))


def _event_labels(events: EventArrays, width: int, stream: _Stream) -> Int64s:
    label_N = np.full(len(events), UNKNOWN)
    middles = (stream.label_us[1:] + stream.label_us[:-1]) // 2
    begins = np.maximum(stream.label_us - _NEAR_US, np.append(0, middles))
    ends = np.minimum(stream.label_us + _NEAR_US, np.append(middles, np.iinfo(np.int64).max))
    for begin, end, boxes in zip(begins, ends, stream.boxes, strict=True):
        near = slice(*np.searchsorted(events.t, (begin, end)))
        y_M, x_M = np.divmod(events.pixel[near], width)
        label_M = np.full(len(x_M), NOTHING)
        for number in np.argsort(-boxes.width * boxes.height):
            right, down = x_M - boxes.x[number], y_M - boxes.y[number]
            inside_M = (
                (right >= 0) & (right < boxes.width[number]) & (down >= 0) & (down < boxes.height[number])
            )
            label_M[inside_M] = boxes.class_id[number]
        label_N[near] = label_M
    return label_N


def _room(recording: LabelledRecording, config: StreamConfig) -> float:
    last = int(recording.label_times[-1]) if len(recording.label_times) else 0
    return last - config.burn_in_us * config.speed[1] - 1


def _when(events: Events, end: int, number: int) -> int:
    """Microseconds of the event that has `number` - 1 others between itself and `end`; 0 if there are fewer."""
    at = int(np.searchsorted(events.t, end, side="right")) - number
    return int(events.t[at]) if at > 0 else 0


def _crop(stream: _Stream, config: StreamConfig, generator: np.random.Generator) -> _Stream:
    assert config.crop is not None
    events = stream.events
    height, width = min(config.crop[0], events.height), min(config.crop[1], events.width)
    top = int(generator.integers(events.height - height + 1))
    left = int(generator.integers(events.width - width + 1))
    x, y = events.x.astype(np.int64) - left, events.y.astype(np.int64) - top
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    cut = Events(
        events.t[inside],
        x[inside].astype(np.uint16),
        y[inside].astype(np.uint16),
        events.p[inside],
        width,
        height,
    )
    found = []
    for boxes in stream.boxes:
        x1, y1 = np.maximum(boxes.x - left, 0), np.maximum(boxes.y - top, 0)
        x2 = np.minimum(boxes.x - left + boxes.width, width)
        y2 = np.minimum(boxes.y - top + boxes.height, height)
        area = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
        seen = (area >= config.min_visible * boxes.width * boxes.height) & (x2 > x1) & (y2 > y1)
        found.append(replace(boxes, x=x1, y=y1, width=x2 - x1, height=y2 - y1)[seen])
    return replace(stream, events=cut, boxes=found)


def _turn(stream: _Stream, way: int) -> _Stream:
    """Bit 0 swaps left and right, bit 1 top and bottom, bit 2 rows and columns."""
    events, found = stream.events, list(stream.boxes)
    x, y, width, height = events.x, events.y, events.width, events.height
    if way & 1:
        x = (width - 1 - x).astype(np.uint16)
        found = [replace(b, x=width - b.x - b.width) for b in found]
    if way & 2:
        y = (height - 1 - y).astype(np.uint16)
        found = [replace(b, y=height - b.y - b.height) for b in found]
    if way & 4:
        x, y, width, height = y, x, height, width
        found = [replace(b, x=b.y, y=b.x, width=b.height, height=b.width) for b in found]
    return replace(stream, events=Events(events.t, x, y, events.p, width, height), boxes=found)


def _join(parts: Sequence[NDArray]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts))

"""The ``info`` command: what a recording holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from multiway_event_detection.options import RecordingOptions
from multiway_event_detection.streams import CountedStream, Progress, open_recording

SCHEMA = "multiway.event-detection.info/1"


@dataclass(frozen=True)
class Info:
    """Facts of one recording; times in microseconds, None where there are no events to tell."""

    path: str
    format: str
    width: int
    height: int
    size_from: Literal["file", "option", "events"]
    events: int
    first_us: int | None
    last_us: int | None
    duration_us: int
    events_per_second: float | None
    brighter_share: float | None
    repairs: str | None

    def to_json(self) -> dict[str, Any]:
        """As the README's schema has it."""
        return asdict(self)

    def to_text(self) -> str:
        """A few aligned lines."""
        source = {
            "file": "",
            "option": " (as --size says)",
            "events": " (inferred: the largest coordinates)",
        }
        rows = [
            ("format", self.format),
            ("sensor", f"{self.width} x {self.height} pixels{source[self.size_from]}"),
            ("events", f"{self.events:,}"),
        ]
        if self.first_us is not None and self.last_us is not None:
            rows.append(("first, last", f"{self.first_us:,} us, {self.last_us:,} us"))
            rows.append(("duration", f"{self.duration_us / 1e6:,.6f} s"))
        if self.events_per_second is not None:
            rows.append(("rate", f"{self.events_per_second:,.0f} events/s"))
        if self.brighter_share is not None:
            rows.append(("brighter", f"{100 * self.brighter_share:.1f} %"))
        if self.repairs is not None:
            rows.append(("repaired", self.repairs))
        return self.path + "\n" + "".join(f"  {name:<12}{value}\n" for name, value in rows)


def describe_recording(
    path: Path, recording_options: RecordingOptions, on_progress: Progress | None = None
) -> Info:
    """Read the recording through once, twice where its sensor's size must be inferred; holds one chunk.

    Raises DataError: it cannot be read; InputError: a bad option.
    """
    recording, is_inferred = open_recording(path, recording_options, infer_size=True)
    stream = CountedStream(recording, on_progress)
    first = last = None
    brighter = 0
    for events in stream.chunks():
        first = int(events.t[0]) if first is None else first
        last = int(events.t[-1])
        brighter += int(events.p.sum())
    duration = 0 if first is None or last is None else last - first
    return Info(
        path=str(path),
        format=recording.format,
        width=recording.width,
        height=recording.height,
        size_from="events" if is_inferred else "file" if recording_options.size is None else "option",
        events=stream.count,
        first_us=first,
        last_us=last,
        duration_us=duration,
        events_per_second=stream.count * 1e6 / duration if duration else None,
        brighter_share=brighter / stream.count if stream.count else None,
        repairs=None if recording.repairs is None else str(recording.repairs),
    )

"""The operation behind HTTP and MCP: a recording of an event camera in, boxes over time out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from multiway_core.app.serve.operation import InputFile, Operation, Service
from multiway_event_vision.result import DetectionJson
from pydantic import Field


def event_detections(
    choice: Any,
    file: InputFile,
    period_us: Annotated[int, Field(ge=1000)] = 10_000,
    score: Annotated[float, Field(ge=0, le=1)] = 0.3,
) -> Iterator[Any]:
    """Detect objects in a recording of an event camera, or in a video, whose events are simulated.

    The detector is the one that was trained on the like of the input; an input that none was trained on is refused.
    """
    from multiway_event_vision.pipeline import DetectionOptions
    from multiway_event_vision.sources import open_source

    stream = open_source(file)
    pipeline, _ = choice.suited(stream, Path(file).name)
    run = pipeline.detect(stream, DetectionOptions(period=period_us, score=score))
    found = []
    for prediction in run:
        found.append(prediction.to_json(pipeline.names))
        yield None  # a client that left ends the work here
    yield {**run.head(str(file)), "predictions": found, "counters": run.counters().to_json()}


SERVICE = Service(
    operations=(
        Operation(
            "/v1/event-detections", event_detections, DetectionJson, schema="multiway.event-detection/2"
        ),
    )
)

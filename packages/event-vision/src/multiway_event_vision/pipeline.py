"""Detection: a recording in, boxes over time out. The command, the demo, the evaluation and Python users call this.

choice = DetectorChoice.from_pretrained()  # or DetectionPipeline.from_pretrained("bundled:ssla-shapes")
for read_out in choice.detect(open_source("recording.raw"), DetectionOptions(period=10_000)):
    read_out.t, read_out.boxes_M4, read_out.score_M, read_out.class_M, read_out.age_M
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
from multiway_core import hub
from multiway_core.errors import InputError

from multiway_event_vision import domain
from multiway_event_vision.domain import Domain
from multiway_event_vision.events import Events, EventStream, by_time
from multiway_event_vision.result import SCHEMA, Counters, DetectionResult, Prediction
from multiway_event_vision.ssla_det import checkpoint
from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.cost import cost_of
from multiway_event_vision.ssla_det.detections import DetectionConfig, Detections, detect
from multiway_event_vision.ssla_det.engines.engine import Engine
from multiway_event_vision.ssla_det.engines.event import EventEngine
from multiway_event_vision.ssla_det.engines.micro_batch import MicroBatchEngine
from multiway_event_vision.ssla_det.engines.window import WindowEngine
from multiway_event_vision.ssla_det.model import SslaDet
from multiway_event_vision.ssla_det.policies import Policy, PolicyChoice

AUTO: Final = "auto"
"""The model's name for: whichever of `BUNDLED_MODELS` was trained on the like of the input."""
BUNDLED_MODELS: Final = ("bundled:ssla-shapes", "bundled:ssla-street")
MAX_READS: Final = 50_000_000
"""Three hours read every 0.2 milliseconds; more is a time that cannot be right."""
_PUBLISHED = (".ckpt", ".pt", ".pth")
_GEN1_NAMES = (
    "car",
    "pedestrian",
)  # the two classes of the released checkpoints, as that data set counts them

EngineName = Literal["event", "micro-batch", "window"]
ENGINES: dict[str, type[Engine]] = {
    "event": EventEngine,
    "micro-batch": MicroBatchEngine,
    "window": WindowEngine,
}


@dataclass(frozen=True)
class DetectionOptions:
    """How a stream is taken in and read."""

    engine: EngineName = "event"
    """How the network is computed; the result is the same."""
    policy: PolicyChoice = "auto"
    """How far back the network remembers; "auto": as its config says."""
    horizon: int = 100_000
    """Microseconds of a window, for the policies that forget; "auto" takes the config's."""
    period: int = 10_000
    """Microseconds between read-outs, which come at whole multiples of it."""
    score: float = 0.3
    """Boxes below are left out."""
    overlap: float = 0.65
    """IoU above which the worse of two boxes of a class goes."""
    max_detections: int = 100
    """Boxes of a read-out, at most."""

    def __post_init__(self) -> None:
        """Raises InputError."""
        if self.engine not in ENGINES:
            raise InputError(f"the engine {self.engine!r}; expected one of {', '.join(ENGINES)}")
        if self.policy not in get_args(PolicyChoice):
            raise InputError(
                f"the policy {self.policy!r}; expected one of {', '.join(get_args(PolicyChoice))}"
            )
        if self.engine == "window" and self.policy in ("auto", "continuous"):
            raise InputError(
                "the engine window keeps all events that the network remembers: it needs the policy window or sliding"
            )
        if self.period < 1:
            raise InputError(f"a read-out every {self.period} us; expected 1 or more")
        for name, value in (("score", self.score), ("overlap", self.overlap)):
            if not 0 <= value <= 1:
                raise InputError(f"a {name} of {value:g}; expected 0 to 1")
        if self.max_detections < 1:
            raise InputError(f"at most {self.max_detections} boxes; expected 1 or more")

    def suited_to(self, config: SslaDetConfig) -> DetectionOptions:
        """The same with the policy that "auto" stands for with a model."""
        if self.policy != "auto":
            return self
        if not config.memory_us:
            return replace(self, policy="continuous")
        return replace(self, policy="sliding", horizon=config.memory_us)


class DetectionPipeline:
    """A detector with its name and the names of its classes. Runs share the weights and nothing else."""

    def __init__(
        self, model: SslaDet, name: str = "", *, note: str | None = None, domain: Domain | None = None
    ) -> None:
        self.model, self.name, self.note, self.domain = model, name, note, domain
        self.names = model.config.names

    @classmethod
    def from_pretrained(
        cls,
        name: str = BUNDLED_MODELS[0],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> DetectionPipeline:
        """The model of `bundled:NAME`, a folder, a hub id, or a `.ckpt` of the authors.

        Such a checkpoint runs as a stream instead of with its own thinning; `note` says so. device: the event engine
        needs "cpu". dtype: float32 (also for None) or float64.
        Raises InputError: another dtype; ModelNotFoundError, ConfigError, CheckpointError.
        """
        if dtype not in (None, torch.float32, torch.float64):
            raise InputError(f"detectors run in float32 or float64, not in {dtype}: their states are sums")
        path = hub.resolve(name)
        is_published = path.is_file() and path.suffix in _PUBLISHED
        model = _streaming(path) if is_published else checkpoint.load(path)
        note = f"{name}: {_APPROXIMATION}" if is_published else None
        known = domain.load(path) if path.is_dir() else None
        return cls(model.to(device, dtype or torch.float32), name, note=note, domain=known)

    def detect(self, stream: Events | EventStream, options: DetectionOptions | None = None) -> DetectionRun:
        """A run over `stream`, to be iterated once."""
        return DetectionRun(self, stream, options or DetectionOptions())

    def __call__(
        self, stream: Events | EventStream, options: DetectionOptions | None = None, *, source: str = ""
    ) -> DetectionResult:
        """The whole result in memory. Raises as iterating a `DetectionRun`."""
        run = self.detect(stream, options)
        predictions = list(run)
        return DetectionResult(run.head(source), self.names, predictions, run.counters())


class DetectorChoice:
    """Detectors, of which a stream gets the one that was trained on its like, or none."""

    def __init__(self, candidates: Sequence[DetectionPipeline], *, is_given: bool) -> None:
        """is_given: the only candidate was asked for by its name; it is used whatever the stream is like."""
        self.candidates, self.is_given = tuple(candidates), is_given

    @classmethod
    def from_pretrained(
        cls, name: str = AUTO, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> DetectorChoice:
        """All bundled detectors for `auto`, else that of the name; as `DetectionPipeline.from_pretrained`."""
        names = BUNDLED_MODELS if name == AUTO else (name,)
        return cls(
            [DetectionPipeline.from_pretrained(each, device=device, dtype=dtype) for each in names],
            is_given=name != AUTO,
        )

    def suited(
        self, stream: Events | EventStream, source: str = "this recording"
    ) -> tuple[DetectionPipeline, str | None]:
        """(the detector for a stream, a line about how well they suit each other).

        Reads the stream's beginning. Raises InputError: it is like nothing that a candidate was trained on.
        """
        only = self.candidates[0]
        if self.is_given and only.domain is None:
            return only, None
        found_F = domain.beginning(stream)
        if found_F is None:
            parts = [stream] if isinstance(stream, Events) else stream.chunks()
            is_empty = not any(len(part) for part in parts)
            if self.is_given or is_empty:
                return only, None
            raise InputError(
                f"{source}: too short to tell which detector suits it; give --model {' or '.join(self._names)}"
            )
        reasons = {}
        for pipeline in self.candidates:
            if pipeline.domain is not None:
                reasons[pipeline] = pipeline.domain.outside(found_F, stream.width, stream.height)
        inside = [pipeline for pipeline, reason in reasons.items() if reason is None]
        if not inside and self.is_given:
            assert only.domain is not None
            return only, (
                f"{source} is unlike what {only.name} was trained on ({only.domain.about}), so its boxes are not to be "
                f"trusted: {reasons[only]}"
            )
        if not inside:
            told = "; ".join(
                f"not {pipeline.domain.about} ({reason})"
                for pipeline, reason in reasons.items()
                if pipeline.domain is not None
            )
            raise InputError(
                f"{source}: no bundled detector was trained on its like: {told}. --model {self._names[-1]} tries all "
                "the same; train makes one for your recordings"
            )
        best = max(inside, key=lambda pipeline: pipeline.domain.likelihood(found_F) if pipeline.domain else 0)
        assert best.domain is not None
        return best, None if self.is_given else f"{best.name}, trained on {best.domain.about}"

    def detect(self, stream: Events | EventStream, options: DetectionOptions | None = None) -> DetectionRun:
        """A run of the detector that suits. Raises InputError: none does."""
        return self.suited(stream)[0].detect(stream, options)

    @property
    def _names(self) -> list[str]:
        return [pipeline.name for pipeline in self.candidates]


_APPROXIMATION = "trained with thinning counted from a window's end; run as a stream, an approximation"


def _streaming(path: Path) -> SslaDet:
    model = checkpoint.load_published(path)
    names = _GEN1_NAMES if model.config.num_classes == len(_GEN1_NAMES) else ()
    model.config = replace(model.config, readout="commit-peek", merge_ties=False, class_names=names)
    return model


class DetectionRun:
    """One pass over a stream: an iterator of read-outs, with counters that can be asked for at any time."""

    def __init__(
        self, pipeline: DetectionPipeline, stream: Events | EventStream, options: DetectionOptions
    ) -> None:
        """Raises InputError: options that do not go together."""
        options = options.suited_to(pipeline.model.config)
        self.pipeline, self.stream, self.options = pipeline, stream, options
        assert options.policy != "auto"
        engine = ENGINES[options.engine]
        self.policy = Policy(
            lambda: engine(pipeline.model, stream.height, stream.width), options.policy, options.horizon
        )
        self._config = DetectionConfig(options.score, options.overlap, options.max_detections)
        self._counted = Counters()
        self._age_sum = 0
        self._first: int | None = None

    def head(self, source: str) -> dict[str, Any]:
        """What the result's JSON has before its read-outs."""
        return {
            "schema": SCHEMA,
            "source": source,
            "model": self.pipeline.name,
            "classes": list(self.pipeline.names),
            "width": self.stream.width,
            "height": self.stream.height,
            "period_us": self.options.period,
            "engine": self.options.engine,
            "policy": self.options.policy,
        }

    def counters(self) -> Counters:
        """What was done up to the last read-out."""
        work = self.policy.work
        cost = cost_of(self.pipeline.model.config, work)
        if self._counted.events:
            engines = int(work.updated.sum()) / self._counted.events
            cost = cost.times(engines)
        return replace(self._counted, cost=cost)

    def __iter__(self) -> Iterator[Prediction]:
        """Yield a read-out every period, also where nothing came in; none of a stream without events.

        Holds one chunk and one period of the stream. Raises DataError from the stream; InputError: times that would
        make more than `MAX_READS` read-outs.
        """
        period = self.options.period
        parts = [self.stream] if isinstance(self.stream, Events) else self.stream.chunks()
        chunks = (chunk for chunk in parts if len(chunk))
        first = next(chunks, None)
        if first is None:
            return
        self._first = int(first.t[0])
        start = self._first // period * period
        self.policy.advance(start)
        checked = (self._plausible(chunk, start) for chunk in itertools.chain([first], chunks))
        found: Detections | None = None
        for begin, events in by_time(checked, period, start=start):
            found = self._step(events, begin + period, found)
            yield self._read_out(begin + period, events, found)

    def _plausible(self, chunk: Events, start: int) -> Events:
        last = int(chunk.t[-1])
        if (last - start) // self.options.period >= MAX_READS:
            raise InputError(
                f"the event of {last} us would come after {MAX_READS:,} read-outs; are the times microseconds? Else "
                "read less often"
            )
        return chunk

    def _step(self, events: Events, until: int, before: Detections | None) -> Detections:
        """Take the events in and read; without events nothing changes, but what is forgotten."""
        if before is not None and not len(events) and self.options.policy == "continuous":
            return before
        started = time.thread_time()
        self.policy.push_events(events)
        self.policy.advance(until - 1)  # a window that ends with this read-out is still read
        pushed = time.thread_time()
        found = detect(self.policy, self._config)
        counted = self._counted
        self._counted = replace(
            counted,
            events=counted.events + len(events),
            update_seconds=counted.update_seconds + pushed - started,
            predict_seconds=counted.predict_seconds + time.thread_time() - pushed,
        )
        return found

    def _read_out(self, t: int, events: Events, found: Detections) -> Prediction:
        assert self._first is not None
        read = read_out(t, events, found)
        counted = self._counted
        boxes = counted.boxes + len(read)
        self._age_sum += int(read.age_M.sum())
        self._counted = replace(
            counted,
            duration_us=t - self._first,
            predictions=counted.predictions + 1,
            boxes=boxes,
            newest_age_us=int(read.age_M.min()) if len(read) else counted.newest_age_us,
            mean_age_us=self._age_sum / boxes if boxes else None,
        )
        return read


def read_out(t: int, events: Events, found: Detections) -> Prediction:
    """What was found at `t` microseconds, clipped to the sensor of `events`; boxes with nothing on it are left out."""
    edges = np.array([events.width, events.height] * 2, np.float32)
    found = found.cpu()
    assert found.time_M is not None
    boxes_M4 = found.boxes_M4.numpy().astype(np.float32).clip(0, edges)
    seen_M = (boxes_M4[:, 2:] > boxes_M4[:, :2]).all(axis=1)
    return Prediction(
        t,
        boxes_M4[seen_M],
        found.score_M.numpy().astype(np.float32)[seen_M],
        found.label_M.numpy()[seen_M],
        t - found.time_M.numpy()[seen_M],
        events,
    )

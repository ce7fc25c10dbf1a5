"""What the demo's page asks for: one gap of a video, filled by every method. Nothing of Gradio is in here."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import InputError
from multiway_event_vision.events import Events
from multiway_event_vision.frame_fusion.self_check import SelfChecked
from multiway_event_vision.interpolation import InterpolationPipeline
from multiway_event_vision.metrics.frame_quality import psnr
from multiway_event_vision.rendering import PolarityFrame, write_mp4
from multiway_event_vision.time_replayer.baselines import BASELINES, Image
from multiway_event_vision.time_replayer.clips import Clip, clip_name, hidden_sensor, read_clip, record
from multiway_event_vision.time_replayer.frame_events import open_frame_events
from multiway_event_vision.time_replayer.frames import open_frames
from multiway_event_vision.time_replayer.protocol import Gap, checks, gaps
from numpy.typing import NDArray

from multiway_frame_interpolation.app import APP
from multiway_frame_interpolation.evaluation import shapes_clip

MAX_FRAMES, WIDTH = 240, 480
SLOW_GAPS = 4  # that a slow motion video shows
OURS, FUSION, TRUTH = "auto", "fusion network", "true frame"
METHODS = {
    "blend": "blend",
    "optical flow": "dis",
    "event integration": "integration",
    "TimeReplayer": "timereplayer",
    "nearest frame": "repeat",
}


@dataclass(frozen=True)
class GapRequest:
    """What to show. skipped: frames left out between two that are kept; 0 fills the video's own gaps.

    number: of the gap. position: 0 to 1 in it; the nearest frame left out is taken where there are some.
    """

    video: str | None = None
    events: str | None = None
    skipped: int = 3
    number: int = 0
    position: float = 0.5


@dataclass(frozen=True, eq=False)
class GapResult:
    """Frames by method, the true one where it is known, PSNR in dB by method, pictures of events and of the sources.

    sources: where the fusion network's frame comes from, as `sources_picture` draws it; of a TimeReplayer, its flow.
    """

    frames: dict[str, Image]
    psnr: dict[str, float]
    events: Image
    sources: Image
    summary: str


class DemoSession:
    """The network, and the clip that was opened last."""

    def __init__(self, model: ModelOptions) -> None:
        self.pipeline: InterpolationPipeline = load_pipeline(APP, model)
        self._clip = functools.lru_cache(maxsize=2)(_open_clip)
        self._filled = functools.lru_cache(maxsize=4)(self._gap)

    def gaps(self, video: str | None, skipped: int) -> int:
        """How many gaps the video has. Raises DataError, InputError."""
        clip = self._clip(video)
        count = (len(clip) - 1) // (skipped + 1)
        if count < 1:
            raise InputError(f"{clip.name}: {len(clip)} frames cannot leave out {skipped}; choose fewer")
        return count

    def show(self, wish: GapRequest) -> GapResult:
        """One frame of a gap by every method. Raises DataError, InputError."""
        gap, auto, is_simulated = self._filled(replace(wish, position=0.0))
        if gap.times:
            place = min(max(round(wish.position * (len(gap.times) + 1)), 1), len(gap.times)) - 1
            t = gap.times[place]
        else:
            t = gap.first.t + round(wish.position * (gap.second.t - gap.first.t))
        model_HW3, sources_HW3 = self._explained(gap, t)
        (ours_HW3,) = auto.interpolate(gap.first, gap.second, gap.events, [t])
        frames: dict[str, Image] = {OURS: ours_HW3}
        if self.pipeline.fusion is not None:
            frames[FUSION] = model_HW3
        for name, method in METHODS.items():
            simple = BASELINES[method]() if method in BASELINES else self.pipeline.replayer
            (frames[name],) = simple.interpolate(gap.first, gap.second, gap.events, [t])
        scores: dict[str, float] = {}
        if gap.times:
            truth_HW3 = gap.truth_THW3[place]
            scores = {name: psnr(frame_HW3, truth_HW3) for name, frame_HW3 in frames.items()}
            frames[TRUTH] = truth_HW3
        return GapResult(
            frames,
            scores,
            _events_picture(gap.events),
            sources_HW3,
            f"{(t - gap.first.t) / 1000:.1f} of {(gap.second.t - gap.first.t) / 1000:.1f} ms, {len(gap.events):,} "
            f"{'simulated ' if is_simulated else ''}events; {_shares(auto)}",
        )

    def _explained(self, gap: Gap, t: int) -> tuple[Image, Image]:
        """(the model's frame, a picture of where it comes from)."""
        if self.pipeline.fusion is None:
            made = self.pipeline.replayer.interpolate_one(gap.first, gap.second, gap.events, t)
            return made.image_HW3, flow_picture(made.to_first_HW2)
        (fused,) = self.pipeline.fusion.fuse(gap.first, gap.second, gap.events, [t])
        return fused.image_HW3, sources_picture(fused.weights_KHW)

    def slow_motion(self, wish: GapRequest, *, factor: int = 8) -> Path:
        """A video of the gap and those after it, `factor` times as many frames. Raises as `show`."""
        last = min(self.gaps(wish.video, wish.skipped), wish.number + SLOW_GAPS)

        def frames() -> Iterator[Image]:
            for number in range(wish.number, last):
                gap, auto, _ = self._filled(replace(wish, number=number, position=0.0))
                length = gap.second.t - gap.first.t
                times = [gap.first.t + round(length * step / factor) for step in range(factor)]
                yield from auto.interpolate(gap.first, gap.second, gap.events, times)
            yield gap.second.image_HW3

        path = Path(tempfile.mkdtemp(prefix="slow-motion-")) / "slow-motion.mp4"
        write_mp4(path, frames(), frames_per_second=25)
        return path

    def _gap(self, wish: GapRequest) -> tuple[Gap, SelfChecked, bool]:
        """(the gap with its events, the methods checked on the frames around it, whether events are simulated)."""
        clip, step = self._clip(wish.video), wish.skipped + 1
        count = self.gaps(wish.video, wish.skipped)
        if not 0 <= wish.number < count:
            raise InputError(f"gap {wish.number + 1} of {count}")
        if wish.events is None and not wish.skipped:
            raise InputError("a video has no events of its own: give a recording, or leave frames out")
        start, end = step * max(0, wish.number - 1), step * min(count, wish.number + 2)
        part = Clip(clip.name, clip.frames_THW3[start : end + 1], clip.times_T[start : end + 1])
        if wish.events is None:
            part = record(part, [hidden_sensor([wish.number])], seed=wish.number)
        else:
            events = open_frame_events(Path(wish.events), clip.width, clip.height).read(
                int(part.times_T[0]), int(part.times_T[-1])
            )
            part = replace(part, recordings=(events,))
        # Every frame is kept where none is left out: a gap is between two of them.
        found = list(gaps(part, wish.skipped)) if wish.skipped else _own_gaps(part)
        place = wish.number - start // step
        gap = found[place]
        if wish.events is not None and not len(gap.events):
            raise InputError(
                f"{Path(wish.events).name}: no events from {gap.first.t / 1e6:.6g} s to {gap.second.t / 1e6:.6g} s, "
                "while this gap lasts; choose another gap"
            )
        auto = self.pipeline.auto()
        for check in checks(
            found[place - 1] if place else None, gap, found[place + 1] if place + 1 < len(found) else None
        ):
            auto.check(*check)
        return gap, auto, wish.events is None


def _own_gaps(clip: Clip) -> list[Gap]:
    """Between any two frames, with no frame in them."""
    frames = [clip.frame(number) for number in range(len(clip))]
    return [
        Gap(first, second, clip.recordings[0].between(first.t, second.t), (), clip.frames_THW3[:0])
        for first, second in pairwise(frames)
    ]


def _shares(auto: SelfChecked) -> str:
    shares = sorted(auto.weights.items(), key=lambda item: -item[1])
    return "made of " + ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= 0.005)


def _open_clip(video: str | None) -> Clip:
    if video is None:
        return shapes_clip()
    path = Path(video)
    return read_clip(clip_name(path), open_frames(path, width=WIDTH), max_frames=MAX_FRAMES)


def _events_picture(events: Events) -> Image:
    view = PolarityFrame(events.width, events.height, full=3.0)
    view.begin(0, 1)
    view.add(events)
    return view.picture()


def sources_picture(weights_KHW: NDArray[np.float32]) -> Image:
    """Red where a frame comes from optical flow, green from events, blue from flow towards the events' frame."""
    first_KHW, second_KHW = weights_KHW[::2], weights_KHW[1::2]
    return np.rint(255 * (first_KHW + second_KHW).clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)


def flow_picture(flow_HW2: NDArray[np.float32]) -> Image:
    """Direction as hue, length as saturation; the longest of all but the top 1 % has the full colour."""
    length_HW, angle_HW = cv2.cartToPolar(flow_HW2[..., 0], flow_HW2[..., 1], angleInDegrees=True)
    longest = max(float(np.quantile(length_HW, 0.99)), 1.0)
    hue = (np.asarray(angle_HW) / 2).astype(np.uint8)
    saturation = np.clip(255 * np.asarray(length_HW) / longest, 0, 255).astype(np.uint8)
    colours = np.stack((hue, saturation, np.full_like(hue, 255)), -1)
    return np.asarray(cv2.cvtColor(colours, cv2.COLOR_HSV2RGB), np.uint8)

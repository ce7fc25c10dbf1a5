"""The ``interpolate`` and ``extrapolate`` commands: frames are read, made and written one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import InputError
from multiway_core.files import check_output
from multiway_event_vision.events import Events, EventStream, concatenate
from multiway_event_vision.frame_fusion.self_check import Pair, SelfChecked
from multiway_event_vision.interpolation import NEEDS_NO_EVENTS, InterpolationPipeline, MethodName
from multiway_event_vision.rendering import has_sound, write_folder, write_mp4
from multiway_event_vision.time_replayer.baselines import BASELINES, Image, Interpolation
from multiway_event_vision.time_replayer.frame_pairs import FramePairs
from multiway_event_vision.time_replayer.frames import Frame

from multiway_frame_interpolation.app import APP
from multiway_frame_interpolation.inputs import open_stream, open_video
from multiway_frame_interpolation.options import EventOptions, FrameOptions, OutputOptions

Progress = Callable[[int], None]
MAX_FACTOR = 1000


def interpolate(
    source: FrameOptions,
    events: EventOptions,
    target: OutputOptions,
    model: ModelOptions | InterpolationPipeline,
    *,
    method: MethodName = "auto",
    factor: int | None = None,
    times: Sequence[int] = (),
    on_progress: Progress | None = None,
) -> Iterator[str]:
    """Write `factor` times as many frames, or those of `times` (microseconds), to ``target``; yields lines about them.

    The target is a video in .mp4, which keeps the sound where it plays at real speed, or a new folder of pictures.
    Without events, `auto` is optical flow alone. Raises InputError: bad options, a time outside the
    video, events that do not fit; DataError: unreadable frames or events; OutputError.
    """
    if (factor is None) == (not times):
        raise InputError("give --factor or --times: one of them")
    if factor is not None and not 2 <= factor <= MAX_FACTOR:
        raise InputError(f"--factor {factor}: expected 2 to {MAX_FACTOR}")
    _check_output(target, source.source, events.events)
    frames = open_video(source)
    has_events = events.simulate or events.events is not None
    if not has_events and method == "auto":
        yield "no --events: optical flow alone makes the frames (--method dis), which is the better choice without them"
        method = NEEDS_NO_EVENTS
    if not has_events and method != NEEDS_NO_EVENTS:
        raise InputError(
            f"--method {method} needs events: give --events FILE or --simulate; --method dis is optical flow alone"
        )
    if events.simulate and method != NEEDS_NO_EVENTS:
        yield (
            "events simulated on these frames: what happened between them is optical flow's guess, and --method dis "
            "is the better choice"
        )
    stream = None if method == NEEDS_NO_EVENTS else open_stream(events, frames)
    stretches = FramePairs(frames.frames(), stream, offset=events.offset_us())
    interpolator = _method(model, method)
    pairs: Iterable[Pair] = stretches
    if isinstance(interpolator, SelfChecked):
        pairs = interpolator.follow(stretches, None if factor else lambda a, b: _any_between(times, a, b))
    made = _every(pairs, interpolator, factor) if factor else _at(pairs, interpolator, times)
    fps = target.fps or frames.rate * (factor or 1)
    sound, about_sound = _sound(source, target, factor)
    count = _write(target, made, fps, on_progress, sound)
    from_events = "" if method == NEEDS_NO_EVENTS else f", from {stretches.used:,} events"
    yield f"{count:,} frames of {stretches.frames:,}{from_events}"
    if isinstance(interpolator, SelfChecked):
        yield _about_mix(interpolator)
    if factor is not None and target.output.suffix.lower() == ".mp4" and target.fps is not None:
        yield f"at {target.fps / (frames.rate * factor):.3g} of real speed"
    if about_sound:
        yield about_sound
    late = _uncovered(stretches)
    if late:
        yield late


def _method(model: ModelOptions | InterpolationPipeline, method: MethodName) -> Interpolation:
    """The method; a model is loaded only for one that has one."""
    if method in BASELINES:
        return BASELINES[method]()
    pipeline: InterpolationPipeline = (
        model if isinstance(model, InterpolationPipeline) else load_pipeline(APP, model)
    )
    return pipeline.method(method)


def _sound(source: FrameOptions, target: OutputOptions, factor: int | None) -> tuple[Path | None, str]:
    """(the video whose sound goes into the target, or None; a line where a sound is left out)."""
    if target.output.suffix.lower() != ".mp4" or not source.source.is_file() or not has_sound(source.source):
        return None, ""
    if factor is None or target.fps is not None or source.input_fps is not None:
        return None, "the sound is left out: the video does not play at real speed"
    return source.source, ""


def extrapolate(
    source: FrameOptions,
    events: EventOptions,
    target: OutputOptions,
    model: ModelOptions,
    *,
    start: int | None = None,
    duration: int,
    every: int | None = None,
    on_progress: Progress | None = None,
) -> Iterator[str]:
    """Write the frame at ``start`` (the last one unless given) and those after it, from that frame and events alone.

    start, duration, every: microseconds; ``every`` is a quarter of the time between frames unless given. Yields lines.
    Raises as `interpolate`; InputError too where no events follow the frame.
    """
    _check_output(target, source.source, events.events)
    frames = open_video(source)
    period = round(1e6 / frames.rate)
    every = every or max(1, period // 4)
    if duration < every:
        raise InputError(f"frames for {duration} us, one every {every} us; expected a longer duration")
    if duration // every > 100_000:
        raise InputError(f"{duration // every:,} frames; expected at most 100,000")
    last = _frame_at(frames.frames(), start)
    if events.simulate and start is None:
        raise InputError(
            "--simulate has nothing to look at after the last frame; give --from, or --events FILE"
        )
    found = _after(open_stream(events, frames), events.offset_us(), last.t, last.t + duration)
    if not len(found):
        raise InputError(
            f"no events in the {duration} us after the frame of {last.t} us; nothing tells what happens there"
        )
    times = [last.t + step * every for step in range(duration // every + 1)]
    interpolator = load_pipeline(APP, model)
    made = zip(interpolator.extrapolate(last, found, times, longest=2 * period), times, strict=True)
    fps = target.fps or 1e6 / every
    count = _write(target, made, fps, on_progress)
    yield f"{count:,} frames from {last.t / 1e6:.6g} s on, from {len(found):,} events"


def _any_between(times: Sequence[int], first: Frame, last: Frame) -> bool:
    return any(first.t <= t <= last.t for t in times)


def _about_mix(interpolator: SelfChecked) -> str:
    """A line about what the frames are made of."""
    if not interpolator.checks:
        name = next(iter(interpolator.methods))
        return f"{name} alone: two frames have no known one between them to check methods on"
    shares = sorted(interpolator.weights.items(), key=lambda item: -item[1])
    text = ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= 0.005)
    noun = "frame" if interpolator.checks == 1 else "frames"
    return f"mixed as methods made {interpolator.checks} known {noun} of this video; at the end {text}"


def _every(
    stretches: Iterable[Pair], interpolator: Interpolation, factor: int
) -> Iterator[tuple[Image, int]]:
    for first, second, events in stretches:
        times = [first.t + round((second.t - first.t) * step / factor) for step in range(factor)]
        yield from zip(interpolator.interpolate(first, second, events, times), times, strict=True)
    yield second.image_HW3, second.t


def _at(
    stretches: Iterable[Pair], interpolator: Interpolation, times: Sequence[int]
) -> Iterator[tuple[Image, int]]:
    wanted = sorted(set(times))
    start: int | None = None
    for first, second, events in stretches:
        start = first.t if start is None else start
        if wanted[0] < start:
            raise _outside(wanted[0], start, None)
        now = [t for t in wanted if first.t <= t <= second.t]
        wanted = wanted[len(now) :]
        yield from zip(interpolator.interpolate(first, second, events, now), now, strict=True)
        if not wanted:
            return
    raise _outside(wanted[-1], start or 0, second.t)


def _outside(t: int, start: int, end: int | None) -> InputError:
    until = "" if end is None else f" and ends at {end / 1e6:.6g} s"
    return InputError(f"a frame at {t / 1e6:.6g} s: the video starts at {start / 1e6:.6g} s{until}")


def _frame_at(frames: Iterator[Frame], start: int | None) -> Frame:
    """The last frame at or before ``start``, of all if that is None."""
    last: Frame | None = None
    for frame in frames:
        if start is not None and frame.t > start:
            break
        last = frame
    if last is None:
        raise InputError(f"no frame at {start} us or before; the video starts later")
    if start is not None and frame is last and start > last.t:
        raise InputError(f"--from {start / 1e6:.6g} s: the video ends at {last.t / 1e6:.6g} s")
    return last


def _after(stream: EventStream, offset: int, start: int, end: int) -> Events:
    parts = [Events.empty(stream.width, stream.height)]
    for chunk in stream.chunks():
        moved = Events(chunk.t + offset, chunk.x, chunk.y, chunk.p, chunk.width, chunk.height)
        parts.append(moved.between(start, end))
        if moved.t[-1] >= end:
            break
    return concatenate(parts)


def _check_output(target: OutputOptions, frames: Path, events: Path | None) -> None:
    output = target.output
    if output.suffix and output.suffix.lower() != ".mp4" and not output.is_dir():
        raise InputError(f"--output {output}: expected a name in .mp4, or a folder")
    check_output(output, inputs=[frames, events], overwrite=target.overwrite)


def _write(
    target: OutputOptions,
    made: Iterator[tuple[Image, int]],
    fps: float,
    on_progress: Progress | None,
    sound: Path | None = None,
) -> int:
    def counted() -> Iterator[tuple[Image, int]]:
        for number, item in enumerate(made, 1):
            yield item
            if on_progress is not None:
                on_progress(number)

    if target.output.suffix.lower() == ".mp4":
        images = (image for image, _ in counted())
        return write_mp4(target.output, images, frames_per_second=fps, sound=sound)
    return write_folder(target.output, counted(), overwrite=target.overwrite)


def _uncovered(stretches: FramePairs) -> str | None:
    """A line where the events start late or end early; the frames there are blended from their neighbours."""
    first, last = stretches.first_event, stretches.last_event
    if first is None or last is None or stretches.begin is None or stretches.end is None:
        return None
    period = (stretches.end - stretches.begin) / max(1, stretches.frames - 1)
    if first - stretches.begin <= period and stretches.end - last <= period:
        return None
    return (
        f"events only from {max(first, stretches.begin) / 1e6:.6g} s to {min(last, stretches.end) / 1e6:.6g} s of "
        f"{stretches.begin / 1e6:.6g} s to {stretches.end / 1e6:.6g} s; elsewhere neighbours are blended"
    )

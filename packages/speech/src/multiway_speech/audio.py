"""Audio of any file or array, mono at one sampling rate, streamed in constant memory.

FFmpeg decodes and resamples (PyAV): ``torchaudio.functional.resample`` wants a recording whole, an hour of it too, and
its sound differs from what the bundled models were trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import av
import av.error
import numpy as np
from multiway_core.errors import InputError

TARGET_DBFS = -25.0
"""Loudness of what the published models were trained with (root mean square, full scale at 0)."""
MAX_RATE = 768_000

# Tags that are not UTF-8 are no reason to refuse a sound; PyAV takes them as they are from version 19 on.
_TAGS: dict[str, Any] = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}


@dataclass(frozen=True)
class Loudness:
    """What one pass over a sound measures.

    Attributes:
        num_samples: at the rate asked for.
        rms: root mean square, full scale at 1.
        peak: largest magnitude.
        clipped: share of samples at or beyond full scale.
    """

    num_samples: int
    rms: float
    peak: float
    clipped: float

    @property
    def gain(self) -> float:
        """The factor that brings the sound to :data:`TARGET_DBFS`, smaller where a peak would pass full scale."""
        gain = 10 ** (TARGET_DBFS / 20) / (self.rms + 1e-6)
        return gain / (self.peak * gain + 1e-6) if self.peak * gain > 1 else gain


class Sound(Protocol):
    """Anything that can be heard from its beginning as often as needed."""

    name: str

    def pieces(self, rate: int, seconds: float = 10.0) -> Iterator[np.ndarray]:
        """Float32 (T,) mono samples at ``rate``, each piece but the last of ``seconds``."""
        ...


class SoundFile:
    """The first sound track of an audio or video file."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.name = self.path.name
        if not self.path.is_file():
            problem = "is a folder" if self.path.is_dir() else "no such file"
            raise InputError(f"{self.path}: {problem}")

    def header_seconds(self) -> float | None:
        """The length that the file's head tells, without decoding; None where it tells none, or cannot be read.

        It is as true as its writer was: a stream that was cut off, or an MP3 file without an index, may err.
        """
        try:
            with av.open(str(self.path), **_TAGS) as container:
                stream = container.streams.audio[0] if container.streams.audio else None
                if stream is not None and stream.duration is not None and stream.time_base is not None:
                    return float(stream.duration * stream.time_base)
                return None if container.duration is None else container.duration / av.time_base
        except (av.error.FFmpegError, ValueError, OverflowError, MemoryError):
            return None

    def pieces(self, rate: int, seconds: float = 10.0) -> Iterator[np.ndarray]:
        """See :class:`Sound`. Raises :class:`InputError`: no sound in it, unknown format, damaged."""
        yield from _regrouped(self._decoded(rate), max(1, int(rate * seconds)))

    def _decoded(self, rate: int) -> Iterator[np.ndarray]:
        heard = 0
        try:
            with av.open(str(self.path), **_TAGS) as container:
                if not container.streams.audio:
                    raise InputError(f"{self.path}: there is no sound in this file")
                stream = container.streams.audio[0]
                mixer, resampler = None, av.AudioResampler(format="flt", layout="mono", rate=rate)
                for frame in container.decode(stream):
                    if mixer is None:
                        # Frames of files are short: a second at a time is several times as fast.
                        mixer = av.AudioResampler(
                            format="fltp",
                            layout=frame.layout,
                            rate=frame.sample_rate,
                            frame_size=frame.sample_rate,
                        )
                    for planar in mixer.resample(frame):
                        for samples in self._resampled(planar, resampler):
                            heard += len(samples)
                            yield samples
                for planar in mixer.resample(None) if mixer else ():
                    for samples in self._resampled(planar, resampler):
                        heard += len(samples)
                        yield samples
                for last in resampler.resample(None) if heard else ():
                    heard += last.samples
                    yield last.to_ndarray()[0]
        except av.error.FFmpegError as error:
            where = f"damaged after {heard / rate:.1f} s" if heard else "not a sound file that can be read"
            raise InputError(f"{self.path}: {where} ({error.strerror})") from error
        except (ValueError, OverflowError, MemoryError) as error:  # a header that asks for impossible things
            raise InputError(f"{self.path}: not a sound file that can be read ({error})") from error
        if not heard:
            raise InputError(f"{self.path}: the file holds no samples")

    def _resampled(self, planar: av.AudioFrame, resampler: av.AudioResampler) -> Iterator[np.ndarray]:
        channels = planar.to_ndarray()
        if not np.isfinite(channels).all():
            raise InputError(f"{self.path}: some samples are not numbers")
        # The plain mean: the library's own mix to mono is louder, and may pass full scale.
        mono = av.AudioFrame.from_ndarray(
            channels.mean(axis=0, keepdims=True, dtype=np.float32), "flt", "mono"
        )
        mono.sample_rate, mono.pts, mono.time_base = planar.sample_rate, planar.pts, planar.time_base
        for part in resampler.resample(mono):
            yield part.to_ndarray()[0]


class SoundArray:
    """Samples in memory."""

    def __init__(self, samples: np.ndarray, rate: int, name: str = "recording") -> None:
        """``samples``: (T,) or (T, channels), float at full scale 1 or an integer type. Raises InputError."""
        array = np.asarray(samples)
        if not 1 <= rate <= MAX_RATE:
            raise InputError(f"{name}: a sampling rate of {rate} Hz; expected 1 to {MAX_RATE}")
        if array.ndim not in (1, 2) or array.size == 0:
            raise InputError(
                f"{name}: samples of shape {array.shape}; expected (time,) or (time, channels), not empty"
            )
        if array.dtype.kind in "iu":
            middle, scale = (
                (0, -float(np.iinfo(array.dtype).min)) if array.dtype.kind == "i" else (128, 128.0)
            )
            if array.dtype.kind == "u" and array.dtype != np.uint8:
                raise InputError(
                    f"{name}: samples of type {array.dtype}; expected float, int16, int32 or uint8"
                )
            array = (array.astype(np.float64) - middle) / scale
        elif array.dtype.kind != "f":
            raise InputError(f"{name}: samples of type {array.dtype}; expected float, int16, int32 or uint8")
        if not np.isfinite(array).all():
            raise InputError(f"{name}: some samples are not numbers")
        self.samples = (array.mean(axis=1) if array.ndim == 2 else array).astype(np.float32)
        self.rate = rate
        self.name = name

    def pieces(self, rate: int, seconds: float = 10.0) -> Iterator[np.ndarray]:
        """See :class:`Sound`."""
        yield from _regrouped(self._resampled(rate), max(1, int(rate * seconds)))

    def _resampled(self, rate: int) -> Iterator[np.ndarray]:
        if rate == self.rate:
            yield self.samples
            return
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        for start in range(0, len(self.samples), self.rate):
            part = np.ascontiguousarray(self.samples[None, start : start + self.rate])
            frame = av.AudioFrame.from_ndarray(part, "flt", "mono")
            frame.sample_rate = self.rate
            for out in resampler.resample(frame):
                yield out.to_ndarray()[0]
        for out in resampler.resample(None):
            yield out.to_ndarray()[0]


def _regrouped(parts: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same samples in pieces of ``size``, the last one shorter."""
    waiting: list[np.ndarray] = []
    count = 0
    for part in parts:
        waiting.append(part)
        count += len(part)
        if count >= size:
            joined = np.concatenate(waiting)
            whole = len(joined) - len(joined) % size
            yield from (joined[start : start + size] for start in range(0, whole, size))
            waiting, count = [joined[whole:].copy()], len(joined) - whole
    if count:
        yield np.concatenate(waiting)


def measure(sound: Sound, rate: int) -> Loudness:
    """Loudness and length in one pass. Raises :class:`InputError` as the sound does."""
    count, squares, peak, clipped = 0, 0.0, 0.0, 0
    for piece in sound.pieces(rate):
        magnitude = np.abs(piece)
        count += len(piece)
        squares += float(np.square(piece, dtype=np.float64).sum())
        peak = max(peak, float(magnitude.max()))
        clipped += int((magnitude >= 0.9999).sum())
    return Loudness(
        count, math.sqrt(squares / count) if count else 0.0, peak, clipped / count if count else 0.0
    )


def read(sound: Sound, rate: int, *, max_seconds: float) -> np.ndarray:
    """The whole sound, float32 (T,). Raises :class:`InputError` if it is longer than ``max_seconds``."""
    pieces: list[np.ndarray] = []
    count = 0
    for piece in sound.pieces(rate):
        pieces.append(piece)
        count += len(piece)
        if count > max_seconds * rate:
            raise InputError(f"{sound.name}: longer than {max_seconds:g} s")
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float32)

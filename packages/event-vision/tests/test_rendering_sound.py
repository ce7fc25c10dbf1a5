"""The sound of a video goes with its frames."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from multiway_event_vision.rendering import has_sound, write_mp4

RATE, FRAMES, FPS = 16_000, 20, 10


def video_with_sound(path: Path, codec: str) -> Path:
    """Two seconds of pictures; a tone in the second one alone."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        sound = container.add_stream(codec, rate=RATE, layout="mono")
        for number in range(FRAMES):
            picture = np.full((32, 32, 3), 10 * number, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        t = np.arange(2 * RATE) / RATE
        wave = (8000 * np.sin(2 * np.pi * 440 * t) * (t >= 1)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        resampler = av.AudioResampler(sound.format, "mono", RATE, frame_size=sound.frame_size or 1024)
        for part in resampler.resample(frame) + resampler.resample(None):
            container.mux(sound.encode(part))
        container.mux(sound.encode())
    return path


def loudness(path: Path) -> tuple[float, float, str]:
    """(mean square of the first second's sound, of the second's, the codec)."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        parts = [(frame.time, frame.to_ndarray().astype(float)) for frame in container.decode(stream)]
        scale = max(np.abs(part).max() for _, part in parts)
        seconds = [
            np.concatenate([(p / scale).ravel() for t, p in parts if (t >= 1) == late]) for late in (0, 1)
        ]
        return float(np.mean(seconds[0] ** 2)), float(np.mean(seconds[1] ** 2)), stream.codec.canonical_name


@pytest.mark.parametrize(("ending", "codec"), [("mp4", "aac"), ("avi", "pcm_s16le")])
def test_sound_is_kept_in_time(tmp_path, ending, codec):
    source = video_with_sound(tmp_path / f"source.{ending}", codec)
    assert has_sound(source)
    pictures = np.zeros((2 * FRAMES, 32, 32, 3), np.uint8)
    assert write_mp4(tmp_path / "out.mp4", pictures, frames_per_second=2 * FPS, sound=source) == 2 * FRAMES
    quiet, loud, kept = loudness(tmp_path / "out.mp4")
    assert quiet < 0.05 < loud
    assert kept == "aac"
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 2 * FRAMES


def test_sound_ends_with_the_pictures_and_may_be_absent(tmp_path):
    source = video_with_sound(tmp_path / "source.mp4", "aac")
    write_mp4(
        tmp_path / "half.mp4", np.zeros((FPS, 32, 32, 3), np.uint8), frames_per_second=FPS, sound=source
    )
    with av.open(str(tmp_path / "half.mp4")) as container:
        assert max(frame.time for frame in container.decode(audio=0)) < 1.2
    write_mp4(tmp_path / "mute.mp4", np.zeros((4, 32, 32, 3), np.uint8), sound=tmp_path / "half.mp4" / "no")
    assert not has_sound(tmp_path / "mute.mp4")
    assert not has_sound(tmp_path)

"""Sound from files and arrays: every kind of file, every kind of trouble, constant memory."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multiway_core.errors import InputError
from multiway_speech.audio import SoundArray, SoundFile, measure, read

RATE = 24_000


def tone(seconds: float, rate: int, frequency: float = 440.0, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def whole(path: Path) -> np.ndarray:
    return read(SoundFile(path), RATE, max_seconds=1000)


@pytest.mark.parametrize(
    ("name", "rate", "subtype"),
    [("a.wav", 8_000, "PCM_16"), ("b.wav", 44_100, "FLOAT"), ("c.flac", 48_000, "PCM_24"), ("d.ogg", 24_000, "VORBIS"),
     ("e.mp3", 44_100, "MPEG_LAYER_III"), ("f.wav", 24_000, "PCM_U8"), ("g.wav", 22_050, "DOUBLE")],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2])
def test_files_of_all_kinds(tmp_path, name: str, rate: int, subtype: str, channels: int) -> None:
    mono = tone(1.5, rate)
    soundfile.write(tmp_path / name, np.stack([mono] * channels, axis=1), rate, subtype=subtype)
    samples = whole(tmp_path / name)
    assert samples.dtype == np.float32
    assert abs(len(samples) - 1.5 * RATE) < 0.06 * RATE  # codecs pad
    expected = tone(1.5, RATE)
    middle = slice(RATE // 2, RATE)
    spectrum = np.abs(np.fft.rfft(samples[middle]))
    assert abs(np.argmax(spectrum) * RATE / (RATE // 2) - 440) < 3
    level = float(np.sqrt(np.square(samples[middle]).mean()) / np.sqrt(np.square(expected[middle]).mean()))
    assert level == pytest.approx(1, abs=0.02)  # stereo is averaged, not added


def test_stereo_is_the_mean_of_its_channels(tmp_path) -> None:
    left, right = tone(0.5, RATE, 300), tone(0.5, RATE, 700, 0.1)
    soundfile.write(tmp_path / "s.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(whole(tmp_path / "s.wav"), (left + right) / 2, atol=1e-6)


def test_video_with_sound_and_without(tmp_path) -> None:
    for name, has_sound in (("talk.mp4", True), ("mute.mp4", False)):
        with av.open(str(tmp_path / name), "w") as container:
            video = container.add_stream("mpeg4", rate=10)
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
            audio = container.add_stream("aac", rate=RATE) if has_sound else None
            for index in range(10):
                picture = np.full((64, 64, 3), index * 20, dtype=np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            if audio is not None:
                frame = av.AudioFrame.from_ndarray(tone(1.0, RATE)[None], "fltp", "mono")
                frame.sample_rate = RATE
                container.mux(audio.encode(frame))
                container.mux(audio.encode(None))
            container.mux(video.encode(None))
    assert abs(len(whole(tmp_path / "talk.mp4")) - RATE) < 0.1 * RATE
    with pytest.raises(InputError, match=r"mute\.mp4: there is no sound in this file"):
        whole(tmp_path / "mute.mp4")


def test_trouble_is_one_clear_line(tmp_path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.mp3").write_text("This is no sound.\n" * 50)
    soundfile.write(tmp_path / "no_samples.wav", np.zeros(0, dtype=np.float32), RATE)
    soundfile.write(
        tmp_path / "nan.wav", np.array([0.1, np.nan, 0.2] * 999, dtype=np.float32), RATE, subtype="FLOAT"
    )
    for name, problem in {
        "none.wav": "no such file",
        "empty.wav": "not a sound file that can be read",
        "text.mp3": "not a sound file that can be read|holds no samples|there is no sound",
        "no_samples.wav": "the file holds no samples|not a sound file",
        "nan.wav": "some samples are not numbers",
        ".": "is a folder",
    }.items():
        with pytest.raises(InputError, match=problem) as error:
            whole(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"longer than 0\.5 s"):
        read(SoundArray(tone(1, RATE), RATE), RATE, max_seconds=0.5)


@pytest.fixture(scope="module")
def flac(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("flac") / "a.flac"
    soundfile.write(path, tone(0.5, RATE) + 0.01, RATE)
    return path.read_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_heard_or_refused(tmp_path, flac, data) -> None:
    damaged = bytearray(flac)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    path = tmp_path / "damaged.flac"
    path.write_bytes(damaged[:cut])
    try:
        samples = whole(path)
    except InputError as error:
        assert str(error).isprintable()  # noqa: PT017 - either outcome is right
    else:
        assert np.isfinite(samples).all()
    shutil.rmtree(path, ignore_errors=True)


def test_arrays_of_all_types() -> None:
    wave = tone(0.5, RATE)
    arrays = [
        wave,
        wave.astype(np.float64),
        (wave * 32_767).astype(np.int16),
        (wave.astype(np.float64) * (2**31 - 1)).astype(np.int32),
        (wave * 127 + 128).round().astype(np.uint8),
        np.stack([wave, wave], axis=1),
    ]
    for array in arrays:
        samples = read(SoundArray(array, RATE), RATE, max_seconds=9)
        np.testing.assert_allclose(samples, wave, atol=0.01)
    halved = read(SoundArray(wave, RATE), RATE // 2, max_seconds=9)
    assert abs(len(halved) - len(wave) // 2) <= 2
    bad = [(np.zeros(0), RATE), (np.zeros((2, 2, 2)), RATE), (np.zeros(5), 0), (np.array(["a"]), RATE),
           (np.zeros(5, dtype=np.uint16), RATE), (np.array([np.inf]), RATE)]  # fmt: skip
    for array, rate in bad:
        with pytest.raises(InputError):
            SoundArray(array, rate)


def test_loudness() -> None:
    quiet = measure(SoundArray(tone(3, RATE, level=0.01), RATE), RATE)
    assert quiet.num_samples == 3 * RATE
    assert quiet.rms == pytest.approx(0.01 / np.sqrt(2), rel=1e-3)
    assert quiet.gain * quiet.rms == pytest.approx(10 ** (-25 / 20), rel=1e-3)
    spike = np.zeros(RATE, dtype=np.float32)
    spike[5] = 0.5
    assert measure(SoundArray(spike, RATE), RATE).gain * 0.5 == pytest.approx(1, abs=1e-3)  # no clipping
    silent = measure(SoundArray(np.zeros(100), RATE), RATE)
    assert (silent.rms, silent.peak) == (0, 0)
    assert np.isfinite(silent.gain)
    clipped = measure(SoundArray(np.clip(tone(1, RATE, level=2), -1, 1), RATE), RATE)
    assert 0.5 < clipped.clipped < 0.8


@pytest.mark.peer
def test_loudness_equals_the_peers() -> None:
    transformers = pytest.importorskip("transformers")
    peer = transformers.VibeVoiceAcousticTokenizerFeatureExtractor()
    for wave in (
        tone(0.5, RATE, level=0.01),
        tone(0.5, RATE) * (np.arange(12_000) % 4000 == 7),
        tone(0.5, RATE),
    ):
        wave = wave.astype(np.float32)
        expected = peer(wave.copy(), sampling_rate=RATE)["input_values"][0, 0, : len(wave)].numpy()
        ours = wave * measure(SoundArray(wave, RATE), RATE).gain
        np.testing.assert_allclose(ours, expected, atol=2e-6, rtol=2e-5)


def test_pieces_are_even_and_memory_does_not_grow(tmp_path) -> None:
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 8_000, 1, subtype="PCM_U8") as file:
        minute = tone(60, 8_000, level=0.2)
        for _ in range(180):  # three hours
            file.write(minute)
    lengths, peaks = [], []
    for piece in SoundFile(path).pieces(8_000, seconds=60):
        lengths.append(len(piece))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # kilobytes
    assert sum(lengths) == 180 * 480_000
    assert set(lengths[:-1]) == {480_000}
    assert peaks[-1] - peaks[5] < 30_000  # the whole would be 345 MB
